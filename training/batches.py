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
    """Training text, held-out text, and snippets with the offsets at which they begin."""

    train: Tokens
    held_out: Tokens
    snippets: Tokens
    snippet_starts: NDArray[np.int64]


def load(work: Path) -> Streams:
    """The streams in `work`, mapped into memory."""
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
