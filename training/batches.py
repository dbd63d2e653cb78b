"""Token streams on disk, and the batches cut from them.

`prepare` writes the natural corpus and the generated snippets as streams of uint16 token ids, in
which `<|endoftext|>` stands between documents. A batch is a pure function of the seed and the
step, so a resumed run sees exactly the batches it would have seen.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from circuitd.store.tokenizer import Tokenizer
from circuitd.tasks.snippets import snippet_stream
from training import corpus

Tokens = NDArray[np.uint16]
#: Half of the snippet windows begin with a snippet, as task prompts do.
ALIGNED_SHARE = 0.5


@dataclass(frozen=True)
class Streams:
    """Training text, held-out text, and snippets with the offsets at which they begin."""

    train: Tokens
    held_out: Tokens
    snippets: Tokens
    snippet_starts: NDArray[np.int64]


def prepare(work: Path, tokenizer_folder: Path, n_snippet_tokens: int, seed: int) -> None:
    """Tokenise the corpus in `work/wheels` and a stream of snippets into `work`.

    Writes `train.npy`, `held_out.npy`, `snippets.npy`, `snippet_starts.npy` and `corpus.json`,
    the counts that the model card reports.
    """
    tokenizer = Tokenizer.load(tokenizer_folder)
    documents = list(corpus.documents(work / "wheels"))
    # Order by hash: packages mix, and the order does not depend on the file system.
    documents.sort(key=lambda d: hashlib.sha256(f"{seed}:{d.path}".encode()).digest())
    counts: dict[str, dict[str, int]] = {}
    for name, held_out in (("train", False), ("held_out", True)):
        chosen = [d for d in documents if d.held_out == held_out]
        pieces = [tokenizer.encode(document.text) for document in chosen]
        for document, ids in zip(chosen, pieces, strict=True):
            row = counts.setdefault(
                document.package, {"n_files": 0, "n_tokens": 0, "n_held_out": 0}
            )
            row["n_files"] += 1
            row["n_tokens"] += len(ids)
            row["n_held_out"] += held_out
        np.save(work / f"{name}.npy", _joined(pieces, tokenizer.end_of_text)[0])
    snippets: list[list[int]] = []
    n_tokens = 0
    for snippet in snippet_stream(seed):
        snippets.append(tokenizer.encode(snippet))
        n_tokens += len(snippets[-1]) + 1
        if n_tokens >= n_snippet_tokens:
            break
    tokens, starts = _joined(snippets, tokenizer.end_of_text)
    np.save(work / "snippets.npy", tokens)
    np.save(work / "snippet_starts.npy", starts)
    summary = {"packages": counts, "n_snippets": len(snippets), "n_snippet_tokens": n_tokens}
    (work / "corpus.json").write_text(json.dumps(summary, indent=1))


def load(work: Path) -> Streams:
    """The streams `prepare` wrote, mapped into memory."""
    names = ("train", "held_out", "snippets", "snippet_starts")
    return Streams(*(np.load(work / f"{name}.npy", mmap_mode="r") for name in names))


def training_batch(
    streams: Streams, *, seed: int, step: int, n_windows: int, length: int, snippet_share: float
) -> NDArray[np.int64]:
    """Token ids `[n_windows, length + 1]` of the batch of `step`."""
    rng = np.random.default_rng([seed, step])
    windows = np.empty((n_windows, length + 1), np.int64)
    for row in windows:
        if rng.random() >= snippet_share:
            stream, start = streams.train, rng.integers(len(streams.train) - length)
        else:
            stream = streams.snippets
            start = rng.integers(len(stream) - length)
            if rng.random() < ALIGNED_SHARE:
                # The snippet that `start` falls into, so that long ones are not seen less.
                index = np.searchsorted(streams.snippet_starts, start, side="right") - 1
                start = min(streams.snippet_starts[index], len(stream) - length - 1)
        row[:] = stream[start : start + length + 1]
    return windows


def held_out_windows(streams: Streams, n_windows: int, length: int) -> NDArray[np.int64]:
    """Evenly spaced windows `[n_windows, length + 1]` of the held-out natural text."""
    starts = np.linspace(0, len(streams.held_out) - length - 1, n_windows).astype(np.int64)
    return np.stack([streams.held_out[s : s + length + 1] for s in starts]).astype(np.int64)


def _joined(pieces: list[list[int]], end_of_text: int) -> tuple[Tokens, NDArray[np.int64]]:
    lengths = np.array([len(ids) + 1 for ids in pieces])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    stream = np.full(int(lengths.sum()), end_of_text, np.uint16)
    for start, ids in zip(starts, pieces, strict=True):
        stream[start : start + len(ids)] = ids
    return stream, starts
