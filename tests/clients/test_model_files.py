"""`models.embedding` and `models.training`: the verbs and the commands."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from circuit_client import connect
from circuit_client.cli.app import run
from circuit_protocol import inspection as i
from circuit_protocol.tensors import Frame, pack
from scripted_daemon import Out, ScriptedDaemon, daemon

Run = Callable[..., tuple[int, str, str]]


def embedding(request: i.EmbeddingColumn, frames: list) -> Iterator[Out]:
    body: list[Frame] = []
    yield (
        i.EmbeddingColumnShown(
            id="x",
            channel=request.channel,
            of=request.of,
            n_tokens=2048,
            n_nonzero=3,
            top=(i.TokenWeight(id=5, data=b" self", weight=0.5),),
            bottom=(i.TokenWeight(id=9, data=b"\n", weight=-0.25),),
            counts=(1, 2046, 1),
            edges=(-0.25, 0.0, 0.25, 0.5),
            mean=0.0,
            std=0.1,
            positions=pack(np.array([0.0, 1.0, -1.0], np.float32), body),
        ),
        body,
    )


def training(request: i.TrainingCurves, frames: list) -> Iterator[Out]:
    yield i.TrainingCurvesShown(
        id="x",
        model=request.model,
        path="/somewhere/progress.json",
        n_lines=3,
        steps=(1.0, 2.0, 3.0),
        metrics=(
            i.Metric(name="test_xent", values=(4.0, None, 3.0)),
            i.Metric(name="lr", values=(0.1, 0.2, 0.1)),
        ),
    )


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedDaemon]:
    scripts = {i.EmbeddingColumn: embedding, i.TrainingCurves: training}
    with daemon(tmp_path, scripts) as d:
        monkeypatch.setenv("CIRCUIT_ENDPOINT", d.endpoint)
        monkeypatch.delenv("CIRCUIT_MODEL", raising=False)
        monkeypatch.setenv("COLUMNS", "90")
        yield d


@pytest.fixture
def type_(capsys: pytest.CaptureFixture[str]) -> Run:
    def typed(*arguments: str) -> tuple[int, str, str]:
        code = run(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return typed


def test_an_embedding_is_arrays_and_tokens(fake: ScriptedDaemon) -> None:
    with connect(fake.endpoint) as c:
        answer = c.models.embedding(205, of="unembedding", n=4)
        assert answer.top[0].data == b" self"
        assert answer.counts.tolist() == [1, 2046, 1]
        assert answer.positions is not None
        assert answer.positions.tolist() == [0.0, 1.0, -1.0]
        asked = fake.wait_for(i.EmbeddingColumn)
        assert (asked.channel, asked.of, asked.n) == (205, "unembedding", 4)
        assert c.models.training("m", metrics=["test_*"]).metrics[0].name == "test_xent"
        assert fake.wait_for(i.TrainingCurves).metrics == ("test_*",)


def test_an_embedding_is_a_table_and_two_plots(fake: ScriptedDaemon, type_: Run) -> None:
    code, out, _ = type_("models", "embedding", "205")
    assert code == 0
    assert "3 of 2,048 write it" in out
    assert "␣self" in out
    assert "-0.250" in out
    assert "what a position adds" in out
    document = json.loads(type_("models", "embedding", "205", "--json")[1])
    assert document["top"] == [{"id": 5, "text": " self", "weight": 0.5}]
    assert document["positions"] == [0.0, 1.0, -1.0]
    assert type_("models", "embedding", "-1")[0] == 2


def test_training_is_drawn_and_given_as_columns(fake: ScriptedDaemon, type_: Run) -> None:
    code, out, _ = type_("models", "training", "m")
    assert code == 0
    assert "test_xent (in the end 3)" in out
    assert "also: lr" in out
    document = json.loads(type_("models", "training", "m", "--json")[1])
    assert document["metrics"][0]["values"] == [4.0, None, 3.0]
