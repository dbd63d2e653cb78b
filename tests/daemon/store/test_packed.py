"""A packed model is the same model, and a damaged one is refused before it costs memory."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from circuit_protocol.errors import CheckpointError
from circuitd.store.packed import FORMAT, is_packed, pack, unpack


def sparse(rows: int, columns: int, density: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((rows, columns)).astype(np.float32)
    return np.where(rng.random((rows, columns)) < density, matrix, np.float32(0))


@pytest.fixture
def parts() -> tuple[dict[str, np.ndarray], dict[str, str]]:
    return pack({"w": sparse(8, 16, 0.1), "bias": np.ones(8, np.float32)})


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(
        np.float32,
        arrays.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=12),
        elements=st.sampled_from(
            [0.0, 0.0, 0.0, 0.0, -0.0, 1.5, float("nan"), float("inf"), 1e-45]
        ),
    )
)
def test_packing_returns_the_same_bits(matrix: np.ndarray) -> None:
    back = unpack(*pack({"w": matrix}))["w"]
    assert back.shape == matrix.shape
    assert back.tobytes() == matrix.tobytes()


def test_a_sparse_matrix_takes_six_bytes_per_nonzero() -> None:
    matrix = sparse(64, 256, 0.05)
    stored, metadata = pack({"w": matrix})
    nnz = np.count_nonzero(matrix)
    assert sum(part.nbytes for part in stored.values()) == 6 * nnz + 4 * 65
    assert metadata["format"] == FORMAT
    assert is_packed(metadata)
    assert not is_packed(None)


def test_what_packing_would_not_shrink_is_kept() -> None:
    dense = np.ones((4, 4), np.float32)
    vector = np.zeros(100, np.float32)
    stored, metadata = pack({"dense": dense, "vector": vector})
    assert set(stored) == {"dense", "vector"}
    assert json.loads(metadata["shapes"]) == {}


def test_wide_matrices_use_four_byte_columns() -> None:
    matrix = np.zeros((2, (1 << 16) + 1), np.float32)
    matrix[1, 1 << 16] = 3.0
    stored, metadata = pack({"w": matrix})
    assert stored["w.csr_columns"].dtype == np.int32
    np.testing.assert_array_equal(unpack(stored, metadata)["w"], matrix)


def test_a_name_that_looks_like_a_part_is_refused() -> None:
    with pytest.raises(ValueError, match="csr_values"):
        pack({"w.csr_values": np.ones(3, np.float32)})


@pytest.mark.parametrize("part", ["w.csr_values", "w.csr_columns", "w.csr_row_starts"])
def test_a_missing_part_is_named(parts, part: str) -> None:
    stored, metadata = parts
    del stored[part]
    with pytest.raises(CheckpointError) as caught:
        unpack(stored, metadata)
    assert caught.value.found == part


def _shuffle_row_starts(stored: dict[str, np.ndarray]) -> None:
    stored["w.csr_row_starts"][1] = len(stored["w.csr_values"]) + 5


def _negative_length(stored: dict[str, np.ndarray]) -> None:
    stored["w.csr_row_starts"][4] = 0


def _column_outside(stored: dict[str, np.ndarray]) -> None:
    stored["w.csr_columns"][-1] = 16


def _short_values(stored: dict[str, np.ndarray]) -> None:
    stored["w.csr_values"] = stored["w.csr_values"][:-1]


def _wrong_dtype(stored: dict[str, np.ndarray]) -> None:
    stored["w.csr_row_starts"] = stored["w.csr_row_starts"].astype(np.int64)


def _repeated_column(stored: dict[str, np.ndarray]) -> None:
    stored["w.csr_columns"][:] = 3


def _stored_twice(stored: dict[str, np.ndarray]) -> None:
    stored["w"] = np.zeros((8, 16), np.float32)


def _orphan(stored: dict[str, np.ndarray]) -> None:
    stored["v.csr_values"] = np.zeros(1, np.float32)


@pytest.mark.parametrize(
    "damage",
    [
        _shuffle_row_starts,
        _negative_length,
        _column_outside,
        _short_values,
        _wrong_dtype,
        _repeated_column,
        _stored_twice,
        _orphan,
    ],
)
def test_damaged_parts_are_refused(parts, damage) -> None:
    stored, metadata = parts
    damage(stored)
    with pytest.raises(CheckpointError):
        unpack(stored, metadata)


@pytest.mark.parametrize(
    "shapes",
    [
        "",
        "[]",
        '{"w": [8]}',
        '{"w": [8, -1]}',
        '{"w": [8, 1e3]}',
        '{"w": [9, 16]}',
        '{"w": [8, 4]}',
        "[" * 9999,
    ],
)
def test_wrong_shapes_are_refused(parts, shapes: str) -> None:
    stored, metadata = parts
    with pytest.raises(CheckpointError):
        unpack(stored, {**metadata, "shapes": shapes})


def test_a_model_too_large_for_memory_is_refused_before_it_is_allocated(parts) -> None:
    stored, metadata = parts
    shapes = json.dumps({"w": [2**31 - 1, 2**31 - 1]})
    with pytest.raises(CheckpointError, match="too large"):
        unpack(stored, {**metadata, "shapes": shapes})


def test_another_version_is_named(parts) -> None:
    stored, metadata = parts
    with pytest.raises(CheckpointError) as caught:
        unpack(stored, {**metadata, "format": "circuitd-packed-2"})
    assert caught.value.found == "circuitd-packed-2"
