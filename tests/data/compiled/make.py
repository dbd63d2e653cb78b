"""Write the networks of this directory: RASP programs as tracr compiles them, in our model format.

    python3.11 -m venv .venv-tracr && .venv-tracr/bin/pip install tracr-pypi safetensors
    .venv-tracr/bin/python tests/data/compiled/make.py

Needs tracr with jax and haiku, and nothing of circuitd. Each directory gets `beeg_config.json`,
`final_model.safetensors`, `program.json` (what each channel is), `expected.safetensors` (what
tracr's own network gives) and `task.json`, whose right answers come from tracr's interpreter.
"""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tracr.compiler import compiling, lib
from tracr.rasp import causal_eval, rasp

HERE = Path(__file__).parent
MAX_TOKENS = 5  # of an input, after the token that begins it
BEGIN = "BOS"
#: The constant channel. RMSNorm then divides by its RMS alone, but for a relative error of
#: |x|^2 / (2 * ANCHOR^2): 5e-7 where the largest stream of these programs has |x|^2 = 16.
ANCHOR = 4096.0
#: What tracr's queries score on the first token before scaling, half of what they score on a match.
#: Without a sink of that score the minimal circuits under mean ablation would be several: a query
#: at its mean still asks a little, which is enough where the first token has been ablated.
FALL_BACK = 50.0
N_RECORDED = 16
#: Of each split. All prompts have full length: among prompts of several, a program that looks at
#: relative places does as well if all that knows of places is resampled together, and the minimal
#: circuits under resampling would be several.
N_PAIRS = 16


@dataclass(frozen=True)
class Program:
    """A program, the tokens it knows, and what its output says about an input's last token.

    `answers` are names of tokens, `answer` says which of them an output means (None: neither).
    `readout` maps tokens to the output directions that their logits read, and to a constant.
    """

    name: str
    source: str
    expression: Callable[[], Any]
    tokens: Sequence[str]
    answers: tuple[str, str]
    answer: Callable[[Any], str | None]
    readout: dict[str, tuple[dict[str, float], float]]


# The margins of the answers are chosen so that the whole network's loss is about .02, and that of
# a network with half of the margin, or one answer's logit constant, well above .05.
PROGRAMS = (
    Program(
        name="frac_prevs",
        source='make_frac_prevs(tokens == "x")',
        expression=lambda: lib.make_frac_prevs((rasp.tokens == "x").named("is_x")),
        tokens=("x", "y", "z"),
        answers=("more", "less"),
        answer=lambda share: None if share == 0.5 else "more" if share > 0.5 else "less",
        readout={"more": ({"frac_prevs": 40.0}, 0.0), "less": ({}, 20.0)},
    ),
    Program(
        name="shift_by",
        source="shift_by(1, tokens)",
        expression=lambda: lib.shift_by(1, rasp.tokens),
        tokens=("a", "b", "c"),
        answers=("a", "b"),
        answer=lambda token: token if token in ("a", "b") else None,
        readout={token: ({f"shift_by(1):{token}": 4.0}, 0.0) for token in ("a", "b", "c")},
    ),
    Program(
        name="detect_pattern",
        source='detect_pattern(tokens, "abc")',
        expression=lambda: lib.detect_pattern(rasp.tokens, "abc"),
        tokens=("a", "b", "c"),
        answers=("yes", "no"),
        answer=lambda found: None if found is None else "yes" if found else "no",
        readout={
            "yes": ({"detect_pattern(abc):True": 4.0}, 0.0),
            "no": ({"detect_pattern(abc):False": 4.0}, 0.0),
        },
    ),
)


def make(program: Program) -> None:
    """Compile one program, write its network and what the compiled one computes."""
    expression = program.expression()
    name_unnamed(expression, program.tokens)
    compiled = compiling.compile_rasp_to_model(
        expression, vocab=set(program.tokens), max_seq_len=MAX_TOKENS,
        compiler_bos=BEGIN, causal=True,
    )  # fmt: skip
    labels = [_plain(label) for label in compiled.residual_labels]
    assert len(set(labels)) == len(labels)
    assert compiled.input_encoder is not None
    ids = dict(compiled.input_encoder.encoding_map)
    names = [name for name, _ in sorted(ids.items(), key=lambda item: item[1])]
    names += [answer for answer in program.answers if answer not in names]
    directory = HERE / program.name
    directory.mkdir(exist_ok=True)
    config, state = convert(compiled, labels, names, program)
    (directory / "beeg_config.json").write_text(json.dumps(config, indent=1) + "\n")
    save_file(state, directory / "final_model.safetensors")

    inputs = [[BEGIN, *rest] for rest in itertools.product(program.tokens, repeat=MAX_TOKENS)]
    encoded = np.array([[ids[token] for token in tokens] for tokens in inputs])
    task = {
        split: [[[ids[token] for token in side] for side in pair] for pair in pairs]
        for split, pairs in draw_pairs(program).items()
    }
    (directory / "task.json").write_text(_lines(task))
    run = compiled.forward(compiled.params, encoded)
    streams = np.array(run.transformer_output.output, dtype=np.float32)  # [n, T, d]
    outputs = [i for i, label in enumerate(labels) if label.split(":")[0] == _output(program)]
    some = np.random.default_rng(0).choice(len(inputs), N_RECORDED, replace=False)
    save_file(
        {
            "tokens": encoded,
            "outputs": np.ascontiguousarray(streams[:, :, outputs]),
            "some": some,
            "streams": streams[some],
        },
        directory / "expected.safetensors",
    )
    facts = {
        "program": program.source,
        "tokens": names,
        "answers": [names.index(answer) for answer in program.answers],
        "channels": [*labels, "anchor"],
        "outputs": outputs,
        "versions": {package: version(package) for package in ("tracr-pypi", "jax", "dm-haiku")},
    }
    (directory / "program.json").write_text(json.dumps(facts, indent=1) + "\n")


def draw_pairs(program: Program) -> dict[str, list[Any]]:
    """Pairs of inputs for training and for holding out.

    Of a pair, the first input's answer is the first answer, and the second is as near to it as any
    input whose answer is the second.
    """
    expression = program.expression()
    by_answer: dict[str | None, list[tuple[str, ...]]] = {}
    for tokens in itertools.product(program.tokens, repeat=MAX_TOKENS):
        output = causal_eval.evaluate(expression, list(tokens))[-1]
        by_answer.setdefault(program.answer(output), []).append(tokens)
    firsts, seconds = (by_answer[answer] for answer in program.answers)
    pairs = []
    for first in firsts:
        nearest = min(_distance(first, second) for second in seconds)
        pairs += [(first, second) for second in seconds if _distance(first, second) == nearest]
    random.Random(0).shuffle(pairs)
    begun = [[[BEGIN, *side] for side in pair] for pair in pairs]
    return {"train": begun[:N_PAIRS], "held_out": begun[N_PAIRS : 2 * N_PAIRS]}


def name_unnamed(expression: Any, tokens: Sequence[str]) -> None:
    """Give a library program's nameless variables names: `is_a` for a test of the token, `both`
    for what joins two others.
    """
    for child in expression.children:
        name_unnamed(child, tokens)
    if isinstance(expression, rasp.Map) and expression.name == "map":
        found = [token for token in tokens if expression([token])[0]]
        expression.annotations = {**expression.annotations, "name": f"is_{'_'.join(found)}"}
    if isinstance(expression, rasp.SequenceMap) and expression.name == "sequence_map":
        expression.annotations = {**expression.annotations, "name": "both"}


def convert(
    compiled: Any, labels: list[str], names: list[str], program: Program
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Configuration and state dict (published names) of a network equal to the compiled one.

    tracr multiplies from the left, so its matrices are turned; its stream gets one channel more,
    the anchor, which the gains of the norms undo. Heads keep their size, which may exceed
    d_model / n_head; tracr scales scores by 1/sqrt(key_size), as we do. It has no sink; ours gets
    the score with which tracr's heads fall back on the first token, whose value is zero, too.
    """
    theirs, shape = compiled.params, compiled.model_config
    d, anchor = len(labels) + 1, len(labels)
    config = {
        "block_size": MAX_TOKENS + 1, "vocab_size": len(names), "n_layer": shape.num_layers,
        "n_head": shape.num_heads, "d_head": shape.key_size, "d_model": d,
        "d_mlp": shape.mlp_hidden_size, "bias": True, "ln_bias": False, "rms_norm": True,
        "activation_type": "relu", "tied_unembed": False, "sink": True,
    }  # fmt: skip

    def widened(array: np.ndarray, *axes: int) -> np.ndarray:
        """`array` with one entry of zero more along `axes` (those that are the stream)."""
        pad = [(0, int(axis in axes)) for axis in range(array.ndim)]
        return np.pad(np.asarray(array, dtype=np.float32), pad)

    wte = np.zeros((len(names), d), dtype=np.float32)
    embedded = widened(theirs["token_embed"]["embeddings"], 1)
    wte[: len(embedded)] = embedded
    wte[:, anchor] = ANCHOR
    gain = np.full(d, ANCHOR / math.sqrt(d), dtype=np.float32)
    gain[anchor] = 1 / math.sqrt(d)  # nothing reads it; 1 after the norm
    state = {
        "transformer.wte.weight": wte,
        "transformer.wpe.weight": widened(theirs["pos_embed"]["embeddings"], 1),
        "transformer.ln_f.weight": gain.copy(),
        "lm_head.weight": np.zeros((len(names), d), dtype=np.float32),
        "final_logits_bias": np.zeros(len(names), dtype=np.float32),
    }
    for layer in range(shape.num_layers):
        block, h = f"transformer/layer_{layer}", f"transformer.h.{layer}"
        qkv = [theirs[f"{block}/attn/{part}"] for part in ("query", "key", "value")]
        out = theirs[f"{block}/attn/linear"]
        first, second = theirs[f"{block}/mlp/linear_1"], theirs[f"{block}/mlp/linear_2"]
        state |= {
            f"{h}.ln_1.weight": gain.copy(),
            f"{h}.attn.c_attn.weight": np.concatenate([widened(part["w"].T, 1) for part in qkv]),
            f"{h}.attn.c_attn.bias": np.concatenate([np.asarray(part["b"]) for part in qkv]),
            f"{h}.attn.c_proj.weight": widened(out["w"].T, 0),
            f"{h}.attn.c_proj.bias": widened(out["b"], 0),
            f"{h}.attn.attn_imp.sink_logit": np.full(
                shape.num_heads, FALL_BACK / math.sqrt(shape.key_size), dtype=np.float32
            ),
            f"{h}.ln_2.weight": gain.copy(),
            f"{h}.mlp.c_fc.weight": widened(first["w"].T, 1),
            f"{h}.mlp.c_fc.bias": np.asarray(first["b"]),
            f"{h}.mlp.c_proj.weight": widened(second["w"].T, 0),
            f"{h}.mlp.c_proj.bias": widened(second["b"], 0),
        }
    for token, (reads, constant) in program.readout.items():
        state["final_logits_bias"][names.index(token)] = constant
        for label, factor in reads.items():
            state["lm_head.weight"][names.index(token), labels.index(label)] = factor
    return config, {name: np.ascontiguousarray(array) for name, array in state.items()}


def _distance(one: Sequence[str], other: Sequence[str]) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


def _lines(task: dict[str, Any]) -> str:
    """JSON with one pair to a line."""
    splits = (
        f' "{split}": [\n' + ",\n".join(f"  {json.dumps(pair)}" for pair in pairs) + "\n ]"
        for split, pairs in task.items()
    )
    return "{\n" + ",\n".join(splits) + "\n}\n"


def _plain(label: str) -> str:
    """A direction's name without the number that tracr appends to a variable's: `is_x_3`."""
    variable, colon, value = label.partition(":")
    stem, _, number = variable.rpartition("_")
    return (stem if stem and number.isdigit() else variable) + colon + value


def _output(program: Program) -> str:
    reads = next(iter(program.readout.values()))[0]
    return next(iter(reads)).split(":")[0]


if __name__ == "__main__":
    for each in PROGRAMS:
        make(each)
