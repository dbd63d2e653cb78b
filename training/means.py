"""What the daemon needs besides weights: mean activations, and some text to preview nodes on.

`means.safetensors` holds the mean of every node site over pretraining text, one value per channel,
computed by the engine in float32: the very forward pass in which nodes are later replaced by them.
`pretraining_sample.safetensors` holds windows of held-out files as token ids, with the names of the
files in its metadata and their licences beside it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from circuitd.circuits.means import pretraining_means
from circuitd.store.checkpoint import load_checkpoint
from circuitd.store.tokenizer import Tokenizer
from training import batches, corpus, export

N_HELD_OUT_WINDOWS = 512
N_TRAINING_WINDOWS = 512
#: Not a seed of training: these windows are drawn from the same streams, not the same batches.
MEANS_SEED = 1_000_003
N_SAMPLE_WINDOWS = 256
#: The sample is committed, so it comes from a few packages whose licences are committed with it.
SAMPLE_PACKAGES = ("django", "jax", "keras", "networkx", "sqlalchemy", "sympy", "twisted")


def mixture(streams: batches.Streams, length: int, snippet_share: float) -> NDArray[np.int64]:
    """Windows `[N, T]` of pretraining text: half held-out files, half the training mixture."""
    held_out = batches.held_out_windows(streams, N_HELD_OUT_WINDOWS, length)
    training, _ = batches.training_batch(
        streams,
        seed=MEANS_SEED,
        step=0,
        n_windows=N_TRAINING_WINDOWS,
        length=length,
        snippet_share=snippet_share,
    )
    return np.concatenate([held_out, training])[:, :-1]


def sample_windows(
    wheels: Path, tokenizer: Tokenizer, length: int
) -> tuple[NDArray[np.uint16], list[str]]:
    """`N_SAMPLE_WINDOWS` windows `[N, length]` of held-out files, and the file of each.

    Every file gives its windows in turn, first windows first, so that no file fills the sample.
    """
    files = [
        (document.path, tokenizer.encode(document.text))
        for document in corpus.documents(wheels)
        if document.held_out and document.package in SAMPLE_PACKAGES
    ]
    windows = [
        (start, path, ids[start : start + length])
        for path, ids in files
        for start in range(0, len(ids) - length + 1, length)
    ]
    windows.sort(key=lambda window: window[:2])
    if len(windows) < N_SAMPLE_WINDOWS:
        raise ValueError(f"held-out files give only {len(windows)} windows")
    chosen = windows[:N_SAMPLE_WINDOWS]
    return np.array([ids for _, _, ids in chosen], np.uint16), [path for _, path, _ in chosen]


def licence_texts(wheels: Path) -> str:
    """The licences of `SAMPLE_PACKAGES`, as their wheels carry them."""
    parts: list[str] = []
    for package in corpus.PACKAGES:
        if package.name not in SAMPLE_PACKAGES:
            continue
        with zipfile.ZipFile(corpus.wheel_of(package, wheels)) as wheel:
            names = [n for n in wheel.namelist() if ".dist-info/" in n and "LICEN" in n.upper()]
            names += [n for n in wheel.namelist() if n.endswith(".dist-info/AUTHORS")]
            for name in sorted(n for n in names if not n.endswith("/")):
                text = wheel.read(name).decode().strip()
                parts.append(f"{'=' * 78}\n{package.name} {package.version}: {name}\n\n{text}\n")
    return "\n".join(parts)


def main() -> None:
    """Write both files for a model directory."""
    parser = argparse.ArgumentParser(prog="python -m training.means", description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    folder: Path = options.data / "models" / options.name
    model = load_checkpoint(folder)
    length = model.config.block_size
    share = export.last_options(options.work / "runs" / options.name)["snippet_share"]
    text = mixture(batches.load(options.work), length, share)
    # Not the model's hash: the means are part of that.
    weights_hash = hashlib.sha256((folder / export.WEIGHTS_FILE).read_bytes()).hexdigest()
    save_file(
        pretraining_means(model.weights, torch.from_numpy(text).split(8)),
        folder / "means.safetensors",
        metadata={"n_tokens": str(text.size), "weights_sha256": weights_hash},
    )
    wheels = options.work / "wheels"
    tokenizer = Tokenizer.load(options.data / "tinypython")
    windows, paths = sample_windows(wheels, tokenizer, length)
    save_file(
        {"tokens": torch.from_numpy(windows)},
        folder / "pretraining_sample.safetensors",
        metadata={"files": json.dumps(paths)},
    )
    (folder / "pretraining_sample.LICENSES.txt").write_text(licence_texts(wheels))
    for name in ("means.safetensors", "pretraining_sample.safetensors"):
        (folder / name).chmod(0o644)


if __name__ == "__main__":
    main()
