"""What the corpus keeps, what it holds out, and that a batch depends on seed and step alone."""

from __future__ import annotations

import numpy as np
from training.batches import Streams, held_out_windows, training_batch
from training.corpus import PACKAGES, is_held_out, looks_like_code

CODE = "def add(left, right):\n    return left + right\n\n\n" * 8


def test_code_is_kept_and_tables_and_bundles_are_not() -> None:
    assert looks_like_code(CODE)
    assert not looks_like_code("x = 1\n")
    assert not looks_like_code("data = [\n" + "    0.12345, 1.23456,\n" * 50 + "]\n")
    assert not looks_like_code(CODE + "x = '" + "a" * 2000 + "'\n")
    assert not looks_like_code(CODE + "# ä\u00fc\u00f6\n" * 20)


def test_about_half_a_per_cent_of_paths_is_held_out_and_always_the_same() -> None:
    paths = [f"package/module_{i}.py" for i in range(20_000)]
    held_out = [path for path in paths if is_held_out(path)]
    assert 60 <= len(held_out) <= 140
    assert held_out == [path for path in paths if is_held_out(path)]


def test_packages_are_pinned_once_each() -> None:
    assert len({package.name for package in PACKAGES}) == len(PACKAGES)
    assert all(package.version and package.licence for package in PACKAGES)


def streams() -> Streams:
    snippets = np.arange(1000, 1400, dtype=np.uint16)
    starts = np.arange(0, 400, 40)
    weights = np.where(snippets % 2 == 0, 8, 1).astype(np.uint8)
    natural = np.arange(500, dtype=np.uint16)
    return Streams(natural, natural[::-1].copy(), snippets, starts, weights)


def batch(step: int, snippet_share: float) -> np.ndarray:
    windows, weights = training_batch(
        streams(), seed=7, step=step, n_windows=64, length=16, snippet_share=snippet_share
    )
    is_heavy = (windows >= 1000) & (windows % 2 == 0)
    np.testing.assert_array_equal(weights, np.where(is_heavy, 8.0, 1.0))
    return windows


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    np.testing.assert_array_equal(batch(3, 0.5), batch(3, 0.5))
    assert not np.array_equal(batch(3, 0.5), batch(4, 0.5))


def test_windows_are_consecutive_tokens_of_one_stream() -> None:
    windows = batch(0, 0.5)
    assert (np.diff(windows, axis=1) == 1).all()
    share = float((windows[:, 0] >= 1000).mean())
    assert 0.3 < share < 0.7


def test_about_half_of_the_snippet_windows_begin_with_a_snippet() -> None:
    windows = batch(0, 1.0)
    share = float(((windows[:, 0] - 1000) % 40 == 0).mean())
    assert 0.3 < share < 0.75


def test_held_out_windows_span_the_held_out_stream() -> None:
    windows = held_out_windows(streams(), 5, 16)
    assert windows.shape == (5, 17)
    assert windows[0, 0] == 499
    assert windows[-1, -1] == 0
