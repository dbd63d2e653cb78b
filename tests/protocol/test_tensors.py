"""Arrays to tensors and back: every dtype and shape, nothing copied, nothing believed."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from circuit_protocol.errors import BadShape, MalformedMessage
from circuit_protocol.tensors import (
    INLINE_NBYTES,
    NUMPY_DTYPES,
    Tensor,
    bf16_to_float32,
    float32_to_bf16,
    pack,
    unpack,
)

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.astype(a.dtype.newbyteorder("<")).tobytes() == b.tobytes()


@pytest.mark.parametrize("name", NUMPY_DTYPES)
@given(data=st.data())
def test_every_dtype_and_shape_survives(name, data):
    array = data.draw(hnp.arrays(NUMPY_DTYPES[name], SHAPES))
    frames: list = []
    tensor = pack(array, frames, dtype=name)
    assert tensor.dtype == name
    assert len(frames) == (array.nbytes > INLINE_NBYTES)
    result = unpack(tensor, frames)
    assert result.dtype == NUMPY_DTYPES[name]
    assert same_bits(array, result)


@pytest.mark.parametrize("name", [n for n in NUMPY_DTYPES if n != "BF16"])
def test_dtype_is_recognised(name):
    assert pack(np.zeros(3, NUMPY_DTYPES[name]), []).dtype == name


@given(hnp.arrays(hnp.floating_dtypes(endianness=">"), SHAPES))
def test_big_endian_arrays_arrive_little_endian(array):
    frames: list = []
    tensor = pack(array, frames)
    np.testing.assert_array_equal(unpack(tensor, frames), array)


@given(hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=12)), st.data())
def test_non_contiguous_arrays_arrive_whole(array, data):
    axes = data.draw(st.permutations(range(array.ndim)))
    view = array.transpose(axes)[::-1, ::2]
    frames: list = []
    np.testing.assert_array_equal(unpack(pack(view, frames), frames), view)


def test_nothing_is_copied_either_way():
    array = np.arange(1024, dtype=np.float32).reshape(32, 32)
    frames: list = []
    tensor = pack(array, frames)
    assert np.shares_memory(np.frombuffer(frames[0], np.float32), array)
    result = unpack(tensor, frames)
    assert np.shares_memory(result, array)
    with pytest.raises(ValueError, match="read-only"):
        result[0, 0] = 1


def test_small_tensors_travel_inside_the_header():
    frames: list = []
    assert pack(np.zeros(INLINE_NBYTES, np.uint8), frames).data is not None
    assert pack(np.zeros(INLINE_NBYTES + 1, np.uint8), frames).frame == 1
    assert pack(np.ones(INLINE_NBYTES + 1, np.uint8), frames).frame == 2
    assert len(frames) == 2


def test_scalars_and_empty_arrays_have_their_shape():
    for array in (np.float32(2.5), np.zeros((0, 7), np.int64), np.zeros((3, 0), bool)):
        result = unpack(pack(array, []), [])
        assert result.shape == np.shape(array)
        np.testing.assert_array_equal(result, array)


def test_numbers_and_lists_are_arrays_too():
    assert unpack(pack([1.5, 2.5], [], dtype="F32"), []).tolist() == [1.5, 2.5]
    assert pack([1, 2], []).dtype == "I64"


@pytest.mark.parametrize("value", [["a"], [1j], [object()], [[1], [2, 3]], [2**70]])
def test_what_cannot_travel_is_refused(value):
    with pytest.raises(BadShape):
        pack(value, [])


def test_bf16_is_given_as_bits():
    with pytest.raises(BadShape, match="float32_to_bf16"):
        pack(np.ones(3, np.float32), [], dtype="BF16")


@given(hnp.arrays(np.uint16, 5))
def test_bf16_bits_survive_widening(bits):
    wide = bf16_to_float32(bits)
    assert wide.dtype == np.float32
    back = float32_to_bf16(wide)
    nan = np.isnan(wide)
    np.testing.assert_array_equal(back[~nan], bits[~nan])
    assert np.isnan(bf16_to_float32(back[nan])).all()


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_bf16_rounds_to_the_nearest(value):
    value = np.float32(value)
    assume(abs(value) < 3e38)
    bits = int(float32_to_bf16(value))
    rounded = float(bf16_to_float32(np.uint16(bits)))
    neighbours = [float(bf16_to_float32(np.uint16(b & 0xFFFF))) for b in (bits - 1, bits + 1)]
    distances = [abs(n - float(value)) for n in neighbours if np.isfinite(n)]
    assert all(abs(rounded - float(value)) <= d for d in distances)


def test_bf16_rounds_ties_to_even():
    ties = np.array([0x3F80_8000, 0x3F81_8000], np.uint32).view(np.float32)
    assert float32_to_bf16(ties).tolist() == [0x3F80, 0x3F82]


FRAME = bytes(24)


@pytest.mark.parametrize(
    ("tensor", "problem"),
    [
        (Tensor(dtype="F32", shape=(6,), frame=2), "was not sent"),
        (Tensor(dtype="F32", shape=(6,), frame=0), "was not sent"),
        (Tensor(dtype="F32", shape=(6,), frame=-1), "was not sent"),
        (Tensor(dtype="F32", shape=(7,), frame=1), "do not fill"),
        (Tensor(dtype="F32", shape=(5,), frame=1), "do not fill"),
        (Tensor(dtype="F64", shape=(6,), frame=1), "do not fill"),
        (Tensor(dtype="F32", shape=(-1, -6), frame=1), "impossible shape"),
        (Tensor(dtype="F32", shape=(1,) * 9, data=bytes(4)), "impossible shape"),
        (Tensor(dtype="F32", shape=(2**63, 2**63), frame=1), "do not fill"),
        (Tensor(dtype="F32", shape=(0, 2**63, 2**62), data=b""), "impossible shape"),
        (Tensor(dtype="F32", shape=(6,)), "not both"),
        (Tensor(dtype="F32", shape=(6,), frame=1, data=FRAME), "not both"),
        (Tensor(dtype="BOOL", shape=(2,), data=b"\x01\x02"), "neither 0 nor 1"),
    ],
)
def test_malformed_tensors_are_refused(tensor, problem):
    with pytest.raises(MalformedMessage, match=problem):
        unpack(tensor, [FRAME])


@given(
    st.sampled_from(sorted(NUMPY_DTYPES)),
    st.lists(st.integers(-2, 2**63), max_size=10).map(tuple),
    st.none() | st.integers(-2, 3),
    st.none() | st.binary(max_size=16),
)
def test_any_description_is_an_array_or_refused(dtype, shape, frame, data):
    tensor = Tensor(dtype=dtype, shape=shape, frame=frame, data=data)
    try:
        array = unpack(tensor, [FRAME, b""])
    except MalformedMessage:
        return
    assert array.shape == shape
