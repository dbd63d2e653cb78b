"""`viz_data.pt` in the published layout: read, refused where it is wrong, written."""

from __future__ import annotations

import contextlib
import io
import pickle
import zipfile
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuit_protocol.errors import InvalidRequest, TooLarge
from circuitd.circuits.nodes import node_space
from circuitd.store import viz_reader
from circuitd.store.viz_data import Excerpt, Pairs, VizData, write_viz_data
from circuitd.store.viz_reader import read_viz_data
from published_viz_data import CIRCUIT, published, saved
from worker_desk import CONFIG

WIDTHS = {site.name: site.width for site in node_space(CONFIG).sites}


def read(content: Any) -> VizData:
    return read_viz_data(saved(content), WIDTHS)


@pytest.fixture
def content() -> dict:
    return published(CONFIG.to_json())


def test_a_file_in_the_published_layout_opens_and_its_sums_are_halved(content):
    data = read(content)
    assert data.nodes == {site: tuple(channels) for site, channels in CIRCUIT.items()}
    assert (data.model_loss, data.loss) == (0.1, 0.15)
    assert data.node_losses["0.mlp.act_in"] == pytest.approx((0.2, 0.25))
    assert data.layer_losses == {"0.mlp": 0.55, "1.attn": 0.25}  # means already
    (pairs,) = data.edge_deltas
    assert (pairs.source_channels, pairs.target_channels) == ((3, 7), (40, 5))
    np.testing.assert_allclose(pairs.values, [[0.1, 0.2], [0.3, 0.4]])  # without the bias row
    assert data.curve == ((0, 0.7), (1, pytest.approx(0.6)), (2, 0.5))
    assert data.n_nodes_in_model == 1234
    assert data.prune_config == {"k_coef": 1e-4, "lr": 3e-3}
    assert data.config == CONFIG.to_json()


def test_reading_twice_halves_once(content):
    file = saved(content)
    assert read_viz_data(file, WIDTHS).loss == read_viz_data(file, WIDTHS).loss == 0.15
    assert content["importances"]["interv_loss"] == 0.3


def test_what_is_written_is_in_the_published_layout():
    """Looked at with torch alone, as the published viewer does."""
    excerpt = Excerpt(np.array([4, 5]), np.array([0.5, 1.5], np.float32), 1)
    pairs = Pairs("0.mlp.act_in", "0.mlp.post_act", (3,), (5, 40), np.ones((1, 2), np.float32))
    data = VizData(
        nodes={"0.mlp.act_in": (3,), "0.mlp.post_act": (5, 40), "0.attn.q": ()},
        model_loss=0.1,
        loss=0.15,
        node_losses={"0.mlp.act_in": (0.2,)},
        layer_losses={"0.mlp": 0.5},
        edge_deltas=(pairs,),
        edge_weights=(pairs,),
        samples={"0.mlp.act_in": {3: ((0.001, (excerpt,), ()),)}},
        task_tokens=np.zeros((4, 3), np.int64),
        task_activations={"0.mlp.act_in": {3: np.zeros((4, 3), np.float32)}},
        config={"n_layer": 2},
        curve=((0, 0.7),),
        n_nodes_in_model=5632,
        prune_config={"lr": 0.1},
    )
    found = torch.load(io.BytesIO(write_viz_data(data)), weights_only=True)
    assert set(found) == {
        *("circuit_data", "samples", "importances"),
        *("all_loss", "num_total_nodes", "prune_config"),
    }
    assert {site: c.tolist() for site, c in found["circuit_data"].items()} == {
        "0.mlp.act_in": [3],
        "0.mlp.post_act": [5, 40],
        "0.attn.q": [],
    }
    importances = found["importances"]
    assert (importances["loss"], importances["interv_loss"]) == (0.2, 0.3)
    assert importances["ch_interv_losses"] == {"0.mlp.act_in": [0.4]}
    assert importances["layer_interv_losses"] == {"0.mlp": 0.5}
    matrix, sources, targets, ends = importances["pair_data"][0]
    assert (matrix.shape, sources, targets) == ((1, 2), [3], [5, 40])
    assert ends == ("0.mlp.act_in", "0.mlp.post_act")
    tokens, activations, position = found["samples"]["0.mlp.act_in"][3][0.001][0][0]
    assert (tokens.tolist(), activations.tolist(), position) == ([4, 5], [0.5, 1.5], 1)
    tokens, by_site = importances["task_samples"]
    assert tokens.shape == by_site["0.mlp.act_in"][3].shape == (4, 3)
    assert importances["beeg_model_config"] == {"n_layer": 2}
    assert found["all_loss"] == [(0, 0.7)]
    assert (found["num_total_nodes"], found["prune_config"]) == (5632, {"lr": 0.1})


def _at(content: dict, path: tuple, value: Any) -> dict:
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return content


NODES, IMPORTANCES = ("circuit_data",), ("importances",)
PAIR = (*IMPORTANCES, "pair_data", 0)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ((*NODES, "0.mlp.act_in"), torch.tensor([32]), "channel 32"),
        ((*NODES, "0.mlp.act_in"), torch.tensor([-1]), "channel -1"),
        ((*NODES, "0.mlp.act_in"), torch.tensor([3, 3]), "twice"),
        ((*NODES, "0.mlp.act_in"), torch.tensor([0.5]), "integers"),
        ((*NODES, "0.mlp.act_in"), torch.zeros(2, 2, dtype=torch.int64), "one dimension"),
        ((*NODES, "0.attn.y"), torch.tensor([1]), "0.attn.y"),
        ((*NODES, "7.attn.q"), torch.tensor([1]), "7.attn.q"),
        ((*NODES, 3), torch.tensor([1]), "3"),
        ((*NODES, "0.attn.q"), torch.zeros(1).expand(10**9), "dense|brings"),
        (NODES, [1, 2], "dictionary"),
        ((*IMPORTANCES, "loss"), float("nan"), "a number"),
        ((*IMPORTANCES, "interv_loss"), "0.3", "a number"),
        ((*IMPORTANCES, "interv_loss"), None, "a number"),
        ((*IMPORTANCES, "ch_interv_losses", "1.attn.q"), [0.1, 0.2], "one per node"),
        ((*IMPORTANCES, "ch_interv_losses", "x"), [], "no node site"),
        ((*IMPORTANCES, "layer_interv_losses", "2.mlp"), 0.1, "2.mlp"),
        ((*PAIR, 0), torch.zeros(2, 2), "shape"),
        ((*PAIR, 0), [[0.1, 0.2], [0.3], [0.1, 0.1]], "equal length"),
        ((*PAIR, 0), torch.full((3, 2), float("inf")), "infinity"),
        ((*PAIR, 1), [3, 8, "bias"], "channel 8"),
        ((*PAIR, 1), [3, "bias", 7], "an integer"),
        ((*PAIR, 3), ("0.mlp.act_in", "0.mlp.resid_delta"), "six matrices"),
        ((*PAIR, 3), ("0.mlp.act_in", "1.mlp.post_act"), "six matrices"),
        ((*PAIR, 3), ("0.mlp.act_in",), "source and a target"),
        ((*IMPORTANCES, "pair_data"), [[1, 2]], "2 parts"),
        ((*IMPORTANCES, "task_samples", 1), {"1.attn.q": {9: torch.zeros(2, 5)}}, "shape"),
        ((*IMPORTANCES, "task_samples", 0), torch.zeros(3, 6, dtype=torch.int64), "two per pair"),
        ((*IMPORTANCES, "beeg_model_config"), {"x": {1, 2}}, "JSON"),
        (("all_loss",), [(1,)], "a point"),
        (("num_total_nodes",), 1.5, "an integer"),
        (("samples", "1.attn.q"), {99: {}}, "channel 99"),
        (("samples", "1.attn.q"), {9: {0.1: ([(torch.zeros(2), torch.zeros(3), 0)], [])}}, "3 act"),
        (("samples", "1.attn.q"), {9: {0.1: ([(torch.zeros(2), torch.zeros(2), 2)], [])}}, "posit"),
        (("importances",), None, "dictionary"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(content, path, value, says):
    if path[-2:] == ("task_samples", 1) or path[-2:] == ("task_samples", 0):
        parts = list(content["importances"]["task_samples"])
        parts[path[-1]] = value
        path, value = path[:-1], tuple(parts)
    with pytest.raises(InvalidRequest) as caught:
        read(_at(content, path, value))
    error = caught.value
    text = " ".join(map(str, (error, error.found, error.hint)))
    assert any(part in text for part in says.split("|")), text


class Payload:
    def __reduce__(self):
        return (print, ("code ran",))


def test_code_and_foreign_bytes_are_refused_and_nothing_runs(capsys, content):
    for data in (
        b"",
        b"PK\x03\x04",
        saved(content)[:-100],
        pickle.dumps(content["all_loss"]),
        saved([1]),
    ):
        with pytest.raises(InvalidRequest):
            read_viz_data(data, WIDTHS)
    content["prune_config"] = Payload()
    with pytest.raises(InvalidRequest, match="not only data"):
        read_viz_data(saved(content), WIDTHS)
    assert "code ran" not in capsys.readouterr().out


def test_a_compressed_or_too_large_file_is_refused_before_it_is_opened(content, monkeypatch):
    plain = zipfile.ZipFile(io.BytesIO(saved(content)))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in plain.namelist():
            archive.writestr(name, plain.read(name))
    with pytest.raises(InvalidRequest, match="no viz_data") as caught:
        read_viz_data(packed.getvalue(), WIDTHS)
    assert "compressed" in (caught.value.found or "")
    monkeypatch.setattr(viz_reader, "MAX_NBYTES", 100)
    with pytest.raises(TooLarge):
        read_viz_data(saved(content), WIDTHS)


def test_a_file_that_says_another_pickle_protocol_is_read_without_a_warning():
    file = saved(published(CONFIG.to_json()))
    other = file.replace(b"\x80\x02", b"\x80\x4b", 1)
    assert other != file
    assert repr(read_viz_data(other, WIDTHS)) == repr(read_viz_data(file, WIDTHS))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_file_with_flipped_bytes_is_read_or_refused(data):
    file = bytearray(saved(published(CONFIG.to_json())))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(file) - 1))
        file[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidRequest, TooLarge):
        read_viz_data(bytes(file), WIDTHS)
