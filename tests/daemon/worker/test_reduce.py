"""`tensor.reduce` against numpy on the whole tensor, with blocks much smaller than it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from circuit_protocol.errors import OutOfMemory
from circuit_protocol.replies import Reduced
from circuit_protocol.requests import Reduce
from circuit_protocol.tensors import Handle, bf16_to_float32
from circuitd.engine.device import DeviceMemory
from circuitd.worker import blocks, memory
from circuitd.worker.handlers import reduce as reduce_handler
from circuitd.worker.quantiles import quantiles


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Every test crosses block borders."""
    for name in ("flat_blocks", "axis_blocks"):
        whole = getattr(blocks, name)
        monkeypatch.setattr(
            reduce_handler, name, lambda *args, whole=whole: whole(*args, n_entries=7)
        )


def hold(desk, array, dtype="F32") -> str:
    segment, held = desk.host.segments.create(dtype, array.shape)
    held[...] = array
    desk.segments[segment.handle] = segment
    return segment.handle


def reduced(desk, handle, how, **fields):
    answered = desk.ask(Reduce(id="1", handle=handle, how=how, **fields))
    assert isinstance(answered.reply, Reduced)
    indices = answered.reply.indices
    return (
        desk.array(answered.reply.value, answered),
        None if indices is None else desk.array(indices, answered),
    )


@pytest.fixture
def array():
    return np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)


def test_slices_keep_the_dtype_and_take_every_dimension(desk, array):
    handle = hold(desk, array)
    value, _ = reduced(
        desk, handle, "slice", slices=((None, None, None), (-1, 0, -2), (1, 3, None))
    )
    np.testing.assert_array_equal(value, array[:, -1:0:-2, 1:3])
    bits = hold(desk, (array.view(np.uint32) >> 16).astype(np.uint16), "BF16")
    value, _ = reduced(desk, bits, "slice", slices=((1, 2, 1),))
    assert value.dtype == np.uint16
    assert value.shape == (1, 5, 4)


def test_a_large_slice_is_held_under_a_new_handle(desk):
    big = np.arange(600_000, dtype=np.float32)
    handle = hold(desk, big)
    answered = desk.ask(Reduce(id="1", handle=handle, how="slice", slices=((None, None, 2),)))
    assert isinstance(answered.reply, Reduced)
    assert isinstance(answered.reply.value, Handle)
    assert answered.reply.value.handle != handle
    np.testing.assert_array_equal(desk.array(answered.reply.value, answered), big[::2])


def test_top_k_is_by_magnitude_with_ties_in_order(desk, array):
    array[0, 1, 2] = array[2, 4, 3] = 9.0
    array[1, 0, 0] = -9.0
    array[1, 1, 1] = np.nan
    value, where = reduced(desk, hold(desk, array), "top_k", k=6)
    magnitudes = np.where(np.isnan(array), -1, np.abs(array)).ravel()
    order = np.argsort(-magnitudes, kind="stable")[:6]
    np.testing.assert_array_equal(value, array.ravel()[order])
    assert where.tolist() == np.stack(np.unravel_index(order, array.shape), -1).tolist()
    equal, where = reduced(desk, hold(desk, np.ones((40, 1))), "top_k", k=3)
    assert where.tolist() == [[0, 0], [1, 0], [2, 0]]
    assert equal.tolist() == [1, 1, 1]


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_norm_and_mean_run_along_one_axis(desk, array, axis):
    handle = hold(desk, array)
    norm, _ = reduced(desk, handle, "norm", axis=axis)
    np.testing.assert_allclose(norm, np.linalg.norm(array, axis=axis), rtol=1e-6)
    mean, _ = reduced(desk, handle, "mean", axis=axis)
    np.testing.assert_allclose(mean, array.mean(axis), rtol=1e-5, atol=1e-7)


def test_projection_multiplies_the_last_axis(desk, array, packed):
    directions = np.random.default_rng(1).normal(size=(2, 4)).astype(np.float32)
    value, _ = reduced(desk, hold(desk, array), "project", directions=packed(directions))
    np.testing.assert_allclose(value, array @ directions.T, rtol=1e-5, atol=1e-6)


def test_bfloat16_and_integers_are_reduced_as_numbers(desk, array):
    bits = (array.view(np.uint32) >> 16).astype(np.uint16)
    value, _ = reduced(desk, hold(desk, bits, "BF16"), "mean", axis=0)
    np.testing.assert_allclose(value, bf16_to_float32(bits).mean(0), rtol=1e-5, atol=1e-6)
    flags = array > 0.5
    value, _ = reduced(desk, hold(desk, flags, "BOOL"), "mean", axis=2)
    np.testing.assert_allclose(value, flags.mean(2))
    value, _ = reduced(desk, hold(desk, flags, "BOOL"), "quantiles", quantiles=(0.0, 0.9, 1.0))
    np.testing.assert_allclose(value, np.quantile(flags.astype(float), (0.0, 0.9, 1.0)))


def test_quantiles_of_a_held_tensor(desk, array):
    value, _ = reduced(desk, hold(desk, array), "quantiles", quantiles=(0.0, 0.1, 0.5, 1.0))
    np.testing.assert_allclose(value, np.quantile(array, (0.0, 0.1, 0.5, 1.0)), rtol=1e-6)


def test_more_quantiles_than_memory_has_room_for_are_refused(desk, monkeypatch):
    monkeypatch.setattr(memory.engine_device, "memory", lambda _: DeviceMemory(9, 1, 8))
    handle = hold(desk, np.arange(1000, dtype=np.float32))
    asked = tuple(np.linspace(0, 1, 500).tolist())
    failed = desk.fail(Reduce(id="1", handle=handle, how="quantiles", quantiles=asked))
    assert failed.error.code == OutOfMemory.code
    assert "500 quantiles" in failed.error.message


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.float16, np.int64, np.int8, np.uint32]),
        st.integers(1, 40),
    ),
    st.lists(st.floats(0, 1), min_size=1, max_size=4),
)
def test_quantiles_equal_numpys_on_any_numbers(array, asked):
    if array.dtype.kind == "f":
        array = np.where(np.isinf(array), 0, array)
        numbers = array[~np.isnan(array)]
    else:
        numbers = array
    steps = quantiles(lambda: (array[i : i + 6] for i in range(0, 40, 6)), array.dtype, asked)
    try:
        while True:
            next(steps)
    except StopIteration as stop:
        found = stop.value
    if not numbers.size:
        assert np.isnan(found).all()
        return
    wide = np.sort(numbers.astype(np.float64))
    expected = np.interp(np.array(asked) * (wide.size - 1), np.arange(wide.size), wide)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"how": "slice", "slices": ((None, None, 0),)}, "invalid_request"),
        ({"how": "slice", "slices": ((None, None, None),) * 4}, "bad_shape"),
        ({"how": "mean", "axis": 3}, "bad_shape"),
        ({"how": "norm", "axis": -4}, "bad_shape"),
        ({"how": "project"}, "invalid_request"),
    ],
)
def test_senseless_reductions_are_refused(desk, array, fields, code):
    request = Reduce(id="1", handle=hold(desk, array), **fields)
    assert desk.fail(request).error.code == code


def test_directions_of_another_width_and_unknown_handles_are_refused(desk, array, packed):
    directions = packed(np.ones((2, 3), np.float32))
    request = Reduce(id="1", handle=hold(desk, array), how="project", directions=directions)
    assert desk.fail(request).error.code == "bad_shape"
    assert desk.fail(Reduce(id="1", handle="t-0", how="mean")).error.code == "not_found"


def test_empty_tensors_have_empty_results(desk):
    handle = hold(desk, np.empty((0, 4), np.float32))
    assert reduced(desk, handle, "top_k")[0].shape == (0,)
    assert reduced(desk, handle, "norm", axis=0)[0].tolist() == [0, 0, 0, 0]
    assert np.isnan(reduced(desk, handle, "quantiles")[0]).all()
    assert desk.fail(Reduce(id="1", handle=handle, how="mean", axis=0)).error.code == "bad_shape"
