"""Batches: windows cut from the token streams that `prepare.py` wrote.

A batch is a pure function of the seed and the step, so a resumed run sees exactly the batches it
would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.uint16]
#: Half of the snippet windows begin with a snippet, as task prompts do.
ALIGNED_SHARE = 0.5


@dataclass(frozen=True)
class Streams:
    """Training text, held-out text, and snippets: where they begin, what each token weighs."""

    train: Tokens
    held_out: Tokens
    snippets: Tokens
    snippet_starts: NDArray[np.int64]
    snippet_weights: NDArray[np.uint8]


def load(work: Path) -> Streams:
    """The streams in `work`, mapped into memory."""
    names = ("train", "held_out", "snippets", "snippet_starts", "snippet_weights")
    return Streams(*(np.load(work / f"{name}.npy", mmap_mode="r") for name in names))


def training_batch(
    streams: Streams, *, seed: int, step: int, n_windows: int, length: int, snippet_share: float
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The batch of `step`: token ids and their weights in the loss, both `[n_windows, length + 1]`.

    Tokens of natural text weigh 1.
    """
    rng = np.random.default_rng([seed, step])
    windows = np.empty((n_windows, length + 1), np.int64)
    weights = np.ones((n_windows, length + 1), np.float32)
    for i in range(n_windows):
        if rng.random() >= snippet_share:
            start = rng.integers(len(streams.train) - length)
            windows[i] = streams.train[start : start + length + 1]
            continue
        start = rng.integers(len(streams.snippets) - length)
        if rng.random() < ALIGNED_SHARE:
            # The snippet that `start` falls into, so that long ones are not seen less.
            index = np.searchsorted(streams.snippet_starts, start, side="right") - 1
            start = min(streams.snippet_starts[index], len(streams.snippets) - length - 1)
        windows[i] = streams.snippets[start : start + length + 1]
        weights[i] = streams.snippet_weights[start : start + length + 1]
    return windows, weights


def held_out_windows(streams: Streams, n_windows: int, length: int) -> NDArray[np.int64]:
    """Evenly spaced windows `[n_windows, length + 1]` of the held-out natural text."""
    starts = np.linspace(0, len(streams.held_out) - length - 1, n_windows).astype(np.int64)
    return np.stack([streams.held_out[s : s + length + 1] for s in starts]).astype(np.int64)
