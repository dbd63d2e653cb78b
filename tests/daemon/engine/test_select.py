"""AbsTopK on lanes keeps what `engine.topk` keeps, whatever the values, widths and lanes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitd.engine.sparse.aligned import room
from circuitd.engine.sparse.select import keep_largest, make_selection
from circuitd.engine.topk import abs_top_k


def kept(x: np.ndarray, k: int) -> np.ndarray:
    found = x.copy()
    keep_largest(found, k, make_selection(len(x)))
    return found


def kept_by_the_engine(x: np.ndarray, k: int) -> np.ndarray:
    return abs_top_k(torch.from_numpy(x.T.copy()), k).numpy().T


def values(kind: str, shape: tuple[int, int], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    if kind == "tied":
        x = np.round(3 * x)
    elif kind == "mostly zero":
        x *= rng.random(shape) < 0.2
    elif kind == "of very different sizes":
        x *= np.exp(5 * rng.standard_normal(shape))
    elif kind == "alike to six digits":  # more than are gathered share their upper half
        x = 1 + 1e-6 * x
    elif kind == "smaller than normal":
        x *= 1e-40
    return x.astype(np.float32)


KINDS = (
    "even", "tied", "mostly zero", "of very different sizes", "alike to six digits",
    "smaller than normal",
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    width=st.integers(1, 300) | st.sampled_from((2080, 8192)),
    share=st.floats(0, 1),
    n_lanes=st.sampled_from((16, 24, 128)),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**16),
)
def test_selection_keeps_exactly_what_the_engine_keeps(width, share, n_lanes, kind, seed):
    k = max(1, int(share * width))
    x = values(kind, (width, n_lanes), seed)
    np.testing.assert_array_equal(kept(x, k), kept_by_the_engine(x, k))


@pytest.mark.parametrize("n_lanes", [16, 24])
def test_of_tied_magnitudes_the_first_channels_stay(n_lanes):
    x = np.tile(np.array([1, -2, 2, 2, -1, 0], np.float32)[:, None], (1, n_lanes))
    found = kept(x, 2)
    assert found[:, 0].tolist() == [0, -2, 2, 0, 0, 0]
    assert (found == found[:, :1]).all()


def test_hundreds_of_tied_magnitudes_in_some_lanes_do_not_disturb_the_others():
    x = values("even", (1000, 16), 0)
    x[:, ::3] = np.sign(x[:, ::3])
    np.testing.assert_array_equal(kept(x, 250), kept_by_the_engine(x, 250))


@pytest.mark.parametrize("pattern", [0x7FC00000, 0xFFC00000, 0x7FFFFFFF])
def test_infinities_and_nans_end_the_selection_like_any_value(pattern):
    x = values("even", (40, 16), 0)
    nan = np.array(pattern, np.uint32).view(np.float32)
    x[3], x[5, ::2], x[7, 4:] = np.inf, nan, nan
    found = kept(x, 10)
    assert ((found != 0).sum(0) == 10).all()
    assert np.isinf(found[3]).all()
    assert np.isnan(found[5, ::2]).all()


def test_of_the_largest_pattern_of_all_the_first_channels_stay():
    x = values("even", (6, 16), 0)
    x[2:5] = np.array(0x7FFFFFFF, np.uint32).view(np.float32)
    assert np.isnan(kept(x, 1)).sum(1).tolist() == [0, 0, 16, 0, 0, 0]


def test_widths_whose_counts_do_not_fit_sixteen_bits():
    x = values("tied", (70_001, 16), 0)
    np.testing.assert_array_equal(kept(x, 50_000), kept_by_the_engine(x, 50_000))


def test_room_serves_narrower_values_and_the_lanes_of_a_slice():
    place = make_selection(300)
    x = room(100, 64)
    x[:] = values("even", (100, 64), 0)
    expected = kept_by_the_engine(x, 20)
    keep_largest(x, 20, place)
    np.testing.assert_array_equal(x, expected)
    part = values("even", (300, 16), 1)
    expected = kept_by_the_engine(part[100:200], 30)
    keep_largest(part[100:200], 30, place)
    np.testing.assert_array_equal(part[100:200], expected)
