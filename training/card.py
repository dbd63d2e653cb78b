"""The model card, written from what was measured: nothing in it is typed by hand.

Reads the run (`run.json`, `progress.json`), the corpus counts, the exported model and its scores on
the tasks, fills `card_template.md`, and writes `README.md` into the model's directory.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from circuitd.engine.gpt import forward
from circuitd.engine.plan import Plan
from circuitd.engine.weights import Weights
from circuitd.store.checkpoint import load_checkpoint
from circuitd.store.packed import unpack
from circuitd.store.tokenizer import Tokenizer
from training import batches, corpus, evaluate, export, optimise, prepare, train

TEMPLATE = Path(__file__).with_name("card_template.md")
N_PAIRS = 512
SEED = 1
PASS_ACCURACY, PASS_LOSS = 0.97, 0.10


def held_out_loss(weights: Weights, streams: batches.Streams) -> float:
    """Mean loss in nats of the engine, float32, on the windows that training validated on."""
    length = weights.config.block_size
    windows = batches.held_out_windows(streams, train.N_VALIDATION_WINDOWS, length)
    total = 0.0
    for chunk in torch.from_numpy(windows).split(16):
        run = forward(weights, chunk[:, :-1], Plan(targets=chunk[:, 1:]))
        assert run.loss is not None  # the plan has targets
        total += float(run.loss) * len(chunk)
    return total / len(windows)


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table."""
    head = list(head)
    lines = [head, ["---"] * len(head), *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def sparsity_rows(folder: Path) -> list[tuple[str, str, int, str]]:
    """Name, shape, nonzeros and their share of every matrix of the exported model."""
    with safe_open(folder / export.WEIGHTS_FILE, framework="numpy") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
        tensors = unpack(stored, file.metadata())
    rows: list[tuple[str, str, int, str]] = []
    for name, tensor in sorted(tensors.items()):
        if tensor.ndim == 2:
            nonzero = int((tensor != 0).sum())
            shape = " x ".join(map(str, tensor.shape))
            rows.append((f"`{name}`", shape, nonzero, f"{nonzero / tensor.size:.2%}"))
    return rows


def task_rows(scores: Mapping[str, Mapping[str, float | str]]) -> list[tuple[str, ...]]:
    """One row for each task: accuracy, loss, and whether it reaches the mark."""
    rows: list[tuple[str, ...]] = []
    for name, score in scores.items():
        loss, accuracy = score.get("loss"), score.get("accuracy")
        if isinstance(loss, float) and isinstance(accuracy, float):
            reached = accuracy >= PASS_ACCURACY and loss <= PASS_LOSS
            rows.append((name, f"{accuracy:.3f}", f"{loss:.3f}", "yes" if reached else "no"))
        else:
            rows.append((name, "-", "-", str(score.get("error"))))
    return rows


def corpus_rows(counts: Mapping[str, Mapping[str, int]]) -> list[tuple[object, ...]]:
    """Package, version, licence, files and tokens."""
    known = {p.name: (p.version, p.licence) for p in corpus.PACKAGES}
    known["python"] = ("3.11, standard library", "PSF-2.0")
    return [
        (name, *known[name], row["n_files"], row["n_held_out"], f"{row['n_tokens']:,}")
        for name, row in sorted(counts.items())
    ]


def sitting_rows(sittings: list[dict[str, Any]]) -> list[tuple[object, ...]]:
    """One row for each sitting of the run: where it began and with which options."""
    keys = ("batch", "lr", "weight_decay", "minutes", "steps", "seed", "snippet_share")
    return [
        (
            sitting["from_step"],
            *(sitting["options"][key] for key in keys),
            f"{sitting['snippets']['n_drill_tokens'] / sitting['snippets']['n_tokens']:.0%}",
            sitting["snippets"].get("answer_weight", 1),
        )
        for sitting in sittings
    ]


def curve_rows(progress: list[dict[str, Any]]) -> list[tuple[object, ...]]:
    """About a dozen validations, the last one included."""
    curve = [row for row in progress if "test_xent" in row]
    curve = curve[: -1 : max(1, len(curve) // 12)] + curve[-1:]
    return [
        (
            row["step"],
            f"{row['tokens'] / 1e6:.1f}",
            f"{row['block_fraction']:.1%}",
            f"{row['test_xent']:.3f}",
        )
        for row in curve
    ]


def how_sparse(options: Mapping[str, Any]) -> str:
    """The sentences on sparsity."""
    if options["preset"] == "dense":
        stop = options["until_loss"]
        return (
            "The weights are dense: nothing is projected. The run was to end early at a held-out\n"
            f"loss (smoothed over two validations) of {stop:.3f}, the sparse model's."
        )
    return (
        f"After every step each block matrix keeps its largest {options['block_fraction']:.0%}, at "
        f"least {optimise.MIN_PER_UNIT} per\nneuron or attention channel; embeddings and "
        f"unembedding keep the largest {options['embed_fraction']:.0%} of every\ntoken's row. "
        f"These shares are reached geometrically over the first {optimise.ANNEAL_SHARE:.0%} of "
        "training, and\nthe learning rate is multiplied by 1/sqrt(share of block weights), at most "
        f"{optimise.MAX_LR_GAIN:g}."
    )


def model_facts(folder: Path, work: Path, tokenizer: Tokenizer) -> dict[str, object]:
    """What is measured on the exported model itself."""
    model = load_checkpoint(folder)
    config = model.config
    logits_of = evaluate.last_logits_of(model.weights)
    scores = evaluate.score_tasks(
        logits_of, tokenizer, n_pairs=N_PAIRS, seed=SEED, split="held_out"
    )
    tasks = task_rows(scores)
    matrices = sparsity_rows(folder)
    n_block = sum(row[2] for row in matrices if "transformer.h." in row[0])
    per_layer = 4 * config.d_model * config.d_attn + 2 * config.d_model * config.d_mlp
    return {
        **dataclasses.asdict(config),
        "afrac_loctypes": ", ".join(config.afrac_loctypes),
        "n_block": n_block,
        "n_block_entries": config.n_layer * per_layer,
        "block_share": n_block / (config.n_layer * per_layer),
        "engine_loss": held_out_loss(model.weights, batches.load(work)),
        "weights_nbytes": (folder / export.WEIGHTS_FILE).stat().st_size,
        "model_hash": model.model_hash,
        "task_table": table(["task", "accuracy", "loss", "reached"], tasks),
        "n_reached": sum(row[-1] == "yes" for row in tasks),
        "n_tasks": len(tasks),
        "matrix_table": table(["matrix", "shape", "nonzero", "share"], matrices),
    }


def run_facts(run: Path) -> dict[str, object]:
    """What the run recorded."""
    sittings = json.loads((run / export.RUN_FILE).read_text())["sittings"]
    options = sittings[-1]["options"]
    progress = [json.loads(line) for line in (run / "progress.json").read_text().splitlines()]
    last = progress[-1]
    alive = [row for key, row in sorted(last.items()) if key.startswith("num_alive_neurons/c_fc")]
    head = ["from step", "batch", "lr", "decay", "minutes", "steps", "seed"]
    head += ["snippets", "drills", "answer weight"]
    return {
        "kind": "weight-sparse" if options["preset"] == "sparse" else "dense",
        "preset": options["preset"],
        "snippet_share": options["snippet_share"],
        "sparsity": how_sparse(options),
        "l0": int(last["L0"]),
        "l0_non_embed": int(last["L0_non_embed"]),
        "alive": ", ".join(map(str, alive)),
        "training_loss": last["test_xent"],
        "n_tokens": int(last["tokens"]),
        "n_steps": last["step"],
        "minutes": last["trained_s"] / 60,
        "sittings_table": table(head, sitting_rows(sittings)),
        "curve_table": table(
            ["step", "million tokens", "block weights kept", "held-out loss"], curve_rows(progress)
        ),
    }


def data_facts(folder: Path, work: Path) -> dict[str, object]:
    """Corpus, snippets, and the text behind the means and the sample."""
    counts = json.loads((work / prepare.COUNTS_FILE).read_text())
    with safe_open(folder / "means.safetensors", framework="numpy") as file:
        n_means_tokens = int(file.metadata()["n_tokens"])
    with safe_open(folder / "pretraining_sample.safetensors", framework="numpy") as file:
        sample_shape = file.get_slice("tokens").get_shape()
        files = sorted(set(json.loads(file.metadata()["files"])))
    head = ["package", "version", "licence", "files", "held out", "tokens"]
    return {
        "corpus_table": table(head, corpus_rows(counts["packages"])),
        "n_means_tokens": n_means_tokens,
        "sample_shape": sample_shape,
        "sample_files": "\n".join(f"  - `{path}`" for path in files),
        "max_file_kb": corpus.MAX_FILE_NBYTES // 1000,
        "held_out_percent": corpus.HELD_OUT_PER_MILLE / 10,
    }


def card(name: str, work: Path, data: Path) -> str:
    """The text of the card of model `name`."""
    folder = data / "models" / name
    return TEMPLATE.read_text().format(
        name=name,
        n_windows=train.N_VALIDATION_WINDOWS,
        n_pairs=N_PAIRS,
        seed=SEED,
        pass_accuracy=PASS_ACCURACY,
        pass_loss=PASS_LOSS,
        warm_up=optimise.WARM_UP_SHARE,
        **model_facts(folder, work, Tokenizer.load(data / "tinypython")),
        **run_facts(work / "runs" / name),
        **data_facts(folder, work),
    )


def main() -> None:
    """Write the card of an exported model that has its means."""
    parser = argparse.ArgumentParser(prog="python -m training.card", description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    path = options.data / "models" / options.name / "README.md"
    path.write_text(card(options.name, options.work, options.data))


if __name__ == "__main__":
    main()
