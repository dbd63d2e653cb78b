"""What is over a limit is refused by its description alone."""

import msgspec
import pytest

from circuit_protocol.errors import BadShape, MalformedMessage, TooLarge
from circuit_protocol.limits import (
    DEFAULT_LIMITS,
    FLOATS,
    INTEGERS,
    MAX_HEADER_NBYTES,
    check_frames,
    check_tensor,
)
from circuit_protocol.tensors import NUMPY_DTYPES, Handle, Tensor

SMALL = msgspec.structs.replace(DEFAULT_LIMITS, frame_nbytes=100, message_nbytes=150, frames=3)


def test_message_within_the_limits_is_measured():
    assert check_frames([b"h" * 10, memoryview(b"a" * 100), bytearray(40)], SMALL) == 150


@pytest.mark.parametrize(
    ("frames", "problem"),
    [
        ([b"h", b"", b"", b""], "too many frames"),
        ([b"h", b"a" * 101], "a frame is too long"),
        ([b"h", b"a" * 90, b"a" * 90], "a message is too long"),
    ],
)
def test_message_over_a_limit_is_too_large(frames, problem):
    with pytest.raises(TooLarge, match=problem):
        check_frames(frames, SMALL)


def test_header_has_a_limit_of_its_own():
    with pytest.raises(TooLarge, match="frame 0"):
        check_frames([bytes(MAX_HEADER_NBYTES + 1)])
    check_frames([bytes(MAX_HEADER_NBYTES)])


def test_message_without_frames_is_malformed():
    with pytest.raises(MalformedMessage):
        check_frames([])


def test_frames_are_counted_in_bytes():
    with pytest.raises(TooLarge):
        check_frames([b"h", memoryview(bytes(104)).cast("d")], SMALL)


def test_tensor_must_have_shape_and_dtype():
    tokens = Tensor(dtype="I32", shape=(2, 5), frame=1)
    check_tensor(tokens, "tokens", shape=(None, 5), dtypes=INTEGERS)
    with pytest.raises(BadShape, match=r"tokens.*\[2, 5\].*\[any, 6\]"):
        check_tensor(tokens, "tokens", shape=(None, 6), dtypes=INTEGERS)
    with pytest.raises(BadShape, match="shape"):
        check_tensor(tokens, "tokens", shape=(None,))
    with pytest.raises(BadShape, match="BF16 or F16 or F32 or F64"):
        check_tensor(tokens, "tokens", dtypes=FLOATS)


def test_handles_are_checked_by_the_same_rule():
    handle = Handle(handle="t", dtype="F32", shape=(3,), nbytes=12)
    check_tensor(handle, "means", shape=(3,))
    with pytest.raises(BadShape):
        check_tensor(handle, "means", shape=(4,))


def test_impossible_and_too_large_shapes_are_refused():
    with pytest.raises(MalformedMessage):
        check_tensor(Tensor(dtype="U8", shape=(-1,), frame=1), "x")
    with pytest.raises(MalformedMessage):
        check_tensor(Tensor(dtype="U8", shape=(1,) * 9, frame=1), "x")
    with pytest.raises(TooLarge):
        check_tensor(Tensor(dtype="F64", shape=(2**62, 2**62), frame=1), "x")


def test_every_dtype_is_a_number_a_truth_or_an_integer():
    assert FLOATS | INTEGERS | {"BOOL"} == set(NUMPY_DTYPES)
