"""Training curves: where they lie, which columns they have, how they are thinned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuit_protocol.errors import NotFound
from circuitd.store.train_curves import _evenly, curves_file, read_curves

LINES = [
    {"step": 10, "test_xent": 3.5, "note": "begun", "num_alive_neurons/c_fc/layer_0": 7},
    {"step": 20, "train_xent": 3.0},
    {"step": 30, "test_xent": 2.5, "done": True},
]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "progress.json"
    path.write_text("\n".join(json.dumps(line) for line in LINES) + "\n\n")
    return path


def test_numbers_become_columns_with_gaps_where_a_line_has_none(written: Path) -> None:
    curves = read_curves(written, (), 100)
    assert curves.steps == (10, 20, 30)
    assert curves.columns == {
        "test_xent": (3.5, None, 2.5),
        "num_alive_neurons/c_fc/layer_0": (7, None, None),
        "train_xent": (None, 3.0, None),
    }
    assert (curves.n_lines, curves.notes) == (3, ())


def test_metrics_are_chosen_by_patterns_and_a_wrong_one_is_told_with_the_nearest(written) -> None:
    assert list(read_curves(written, ("test_*", "num_*"), 9).columns) == [
        "test_xent",
        "num_alive_neurons/c_fc/layer_0",
    ]
    with pytest.raises(NotFound) as caught:
        read_curves(written, ("test_xnt",), 9)
    assert "test_xent" in caught.value.nearest


def test_broken_lines_are_counted_and_what_is_not_finite_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    path.write_text('{"a": 1}\n{"a": \n[1]\n{"a": 1e999}\n')
    curves = read_curves(path, (), 9)
    assert curves.columns == {"a": (1.0, None)} or curves.columns == {"a": (1.0,)}
    assert curves.notes[0].endswith("of 4 lines are no JSON objects")


@given(st.integers(0, 5000), st.integers(2, 300))
def test_thinning_is_even_and_keeps_both_ends(n: int, at_most: int) -> None:
    kept = _evenly(n, at_most)
    assert len(kept) == min(n, at_most)
    assert kept == sorted(set(kept))
    if n:
        assert (kept[0], kept[-1]) == (0, n - 1)


def test_the_file_is_beside_the_models_or_in_the_models_folder(tmp_path: Path) -> None:
    model = tmp_path / "models" / "m"
    model.mkdir(parents=True)
    with pytest.raises(NotFound, match="nothing was written down"):
        curves_file(model)
    inside = model / "progress.json"
    inside.touch()
    assert curves_file(model) == inside
    beside = tmp_path / "train_curves" / "m" / "progress.json"
    beside.parent.mkdir(parents=True)
    beside.touch()
    assert curves_file(model) == beside


def test_the_shipped_models_have_curves() -> None:
    data = Path(__file__).parents[3] / "data"
    for model in sorted((data / "models").iterdir()):
        curves = read_curves(curves_file(model), ("test_xent", "L0"), 50)
        assert len(curves.steps) == 50
