"""Vectors within kernels compute what numpy computes, lane by lane."""

from __future__ import annotations

import operator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numba.core.errors import TypingError

from circuitd.engine.sparse.functions import activate, exp_of_lanes
from circuitd.engine.sparse.jit import jit
from circuitd.engine.sparse.vectors import (
    any_of,
    bits,
    bits_of,
    floats,
    floor,
    halves,
    lane_numbers,
    larger,
    load,
    load_at,
    lowest_bit,
    ones,
    splat,
    splat_of,
    square_root,
    store,
    store_at,
    sum_of,
    to_floats,
    to_integers,
    transpose,
    where,
    whole,
)

FLOATS = arrays(np.float32, (2, 16), elements=st.floats(-1e6, 1e6, width=32))
INTEGERS = arrays(np.int32, (2, 16), elements=st.integers(-(2**30), 2**30 - 1))


@jit
def floats_in_turn(x, out):
    a, b = load(x, 0, 0), load(x, 1, 0)
    store(a + b, out, 0, 0)
    store(a - b, out, 1, 0)
    store(a * b, out, 2, 0)
    store(a / b, out, 3, 0)
    store(larger(a, b), out, 4, 0)
    store(where(a < b, a, b), out, 5, 0)
    store(floor(a), out, 6, 0)
    store(to_floats(to_integers(a)), out, 7, 0)
    store(square_root(larger(a, splat(np.float32(0)))), out, 8, 0)
    store(floats(bits(b)), out, 9, 0)


@settings(deadline=None)
@given(FLOATS)
def test_floats(x):
    out = np.empty((10, 16), np.float32)
    floats_in_turn(x, out)
    a, b = x
    with np.errstate(all="ignore"):
        expected = (
            a + b, a - b, a * b, a / b, np.maximum(a, b), np.minimum(a, b), np.floor(a),
            np.trunc(a), np.sqrt(np.maximum(a, 0)), b,
        )  # fmt: skip
    np.testing.assert_allclose(out, expected, rtol=1e-6)


@jit
def integers_in_turn(x, out):
    a, b = load(x, 0, 0), load(x, 1, 0)
    store(a + b, out, 0, 0)
    store(a - b, out, 1, 0)
    store(a & b, out, 2, 0)
    store(a | b, out, 3, 0)
    store(a << splat(1), out, 4, 0)
    store(a >> splat(7), out, 5, 0)
    store(larger(a, b), out, 6, 0)
    store(ones(a >= b), out, 7, 0)
    store(a + lane_numbers(), out, 8, 0)
    store(whole(halves(a) + halves(b)), out, 9, 0)


@settings(deadline=None)
@given(INTEGERS)
def test_integers(x):
    out = np.empty((10, 16), np.int32)
    integers_in_turn(x, out)
    a, b = x
    by_halves = (a.view(np.int16) + b.view(np.int16)).view(np.int32)
    expected = (
        a + b, a - b, a & b, a | b, a << 1, a >> 7, np.maximum(a, b), -(a >= b).astype(int),
        a + np.arange(16), by_halves,
    )  # fmt: skip
    np.testing.assert_array_equal(out, expected)


def _comparison(compare):
    @jit
    def kernel(x):
        mask = compare(load(x, 0, 0), load(x, 1, 0))
        return bits_of(mask), any_of(mask)

    return kernel


NOT_ALL_NUMBERS = arrays(np.float32, (2, 16), elements=st.sampled_from((0.0, -0.0, 1.0, np.nan)))
COMPARISONS = {
    compare: _comparison(compare)
    for compare in (operator.ge, operator.gt, operator.le, operator.lt, operator.eq, operator.ne)
}


@pytest.mark.parametrize("compare", COMPARISONS)
@settings(deadline=None, max_examples=20)
@given(x=FLOATS | INTEGERS | NOT_ALL_NUMBERS)
def test_comparisons(compare, x):
    x[1, ::3] = x[0, ::3]
    mask = compare(x[0], x[1])
    assert COMPARISONS[compare](x) == (sum(1 << int(i) for i in np.flatnonzero(mask)), mask.any())


@jit
def slide(x, out):
    """Rows of a slice, from a lane on; and those of a vector."""
    for row in range(x.shape[0]):
        store(load(x, row, 3), out, row, 1)
    store_at(load_at(x[0], 2), out[0], 5)
    return lowest_bit(np.uint64(40))


def test_memory_is_read_and_written_where_it_is_said():
    x, out = np.arange(5 * 40, dtype=np.float32).reshape(5, 40), np.zeros((3, 32), np.float32)
    assert slide(x[1:4, 2:], out) == 3
    expected = np.zeros((3, 32), np.float32)
    expected[:, 1:17] = x[1:4, 5:21]
    expected[0, 5:21] = x[1, 4:20]
    np.testing.assert_array_equal(out, expected)


@jit
def turned(x, out, repeated):
    transpose(x, 2, 3, out, 1)
    store(splat_of(x, 4, 5), repeated, 0, 0)
    return sum_of(load(x, 1, 2))


def test_sixteen_rows_become_sixteen_lanes():
    x = np.random.default_rng(0).standard_normal((20, 24)).astype(np.float32)
    out, repeated = np.zeros((17, 16), np.float32), np.empty((1, 16), np.float32)
    np.testing.assert_allclose(turned(x, out, repeated), x[1, 2:18].sum(), rtol=1e-6)
    np.testing.assert_array_equal(out[1:], x[2:18, 3:19].T)
    assert (out[0] == 0).all()
    assert (repeated == x[4, 5]).all()


@jit
def mixed(x, n):
    return any_of(load(x, 0, 0) > load(n, 0, 0))


def test_kinds_are_not_mixed():
    with pytest.raises(TypingError):
        mixed(np.zeros((1, 16), np.float32), np.zeros((1, 16), np.int32))


def test_rows_that_do_not_lie_side_by_side_are_refused():
    with pytest.raises(TypingError):
        exponentials(
            np.asfortranarray(np.zeros((2, 16), np.float32)), np.zeros((2, 16), np.float32)
        )


@jit
def exponentials(x, out):
    for row in range(x.shape[0]):
        store(exp_of_lanes(load(x, row, 0)), out, row, 0)


def test_the_exponential_is_exact_to_float32():
    x = np.linspace(-80, 80, 4096, dtype=np.float32).reshape(-1, 16)
    out = np.empty_like(x)
    exponentials(x, out)
    np.testing.assert_allclose(out, np.exp(x.astype(np.float64)), rtol=3e-7)


@pytest.mark.parametrize("is_gelu", [True, False])
def test_activations_are_exact_to_float32(is_gelu):
    x = np.linspace(-80, 80, 4096, dtype=np.float32).reshape(-1, 32)
    out = x.copy()
    activate(out, is_gelu)
    function = torch.nn.functional.gelu if is_gelu else torch.relu
    np.testing.assert_allclose(out, function(torch.from_numpy(x).double()), rtol=1e-6, atol=3e-7)


def test_what_is_not_a_number_stays_so():
    x = np.full((1, 16), np.nan, np.float32)
    for function in (
        lambda: exponentials(x, x),
        lambda: activate(x, True),
        lambda: activate(x, False),
    ):
        function()
        assert np.isnan(x).all()
