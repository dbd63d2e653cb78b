"""`models.training` over the wire, without any worker's help."""

from __future__ import annotations

import json
from pathlib import Path

from circuit_protocol import inspection as i
from circuit_protocol import requests as r
from circuit_protocol.replies import Failed
from circuitd import work
from circuitd.server.catalog import Located
from front_harness import FakeCatalog, house


class OnDisk(FakeCatalog):
    """One model that has a directory."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory

    def locate(self, name: str, dtype: r.DTypeName) -> Located | None:
        if name.startswith("hf://"):
            return None
        key = work.ModelKey(path=str(self.directory), signature="1", dtype=dtype)
        return Located(key, name, 100, 40)


async def test_curves_are_read_by_the_front_alone(tmp_path: Path) -> None:
    model = tmp_path / "models" / "m"
    model.mkdir(parents=True)
    async with house(tmp_path, catalog=OnDisk(model)) as h:
        client = await h.client()
        fields = {"model": "m", "metrics": ("test_*",), "n_points": 2}
        answer = await client.ask(i.TrainingCurves(id="1", **fields))
        assert isinstance(answer, Failed)
        assert answer.error.code == "not_found"
        assert "train_curves/m/progress.json" in (answer.error.hint or "")
        path = tmp_path / "train_curves" / "m" / "progress.json"
        path.parent.mkdir(parents=True)
        lines = [{"step": n, "test_xent": 4 - n, "lr": 1} for n in range(3)]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        answer = await client.ask(i.TrainingCurves(id="2", **fields))
        assert isinstance(answer, i.TrainingCurvesShown)
        assert answer.steps == (0, 2)
        assert answer.metrics == (i.Metric(name="test_xent", values=(4, 2)),)
        assert answer.n_lines == 3
        assert h.fleet.runs() == []


async def test_a_model_that_was_never_fetched_has_none(tmp_path: Path) -> None:
    async with house(tmp_path, catalog=OnDisk(tmp_path)) as h:
        client = await h.client()
        answer = await client.ask(i.TrainingCurves(id="1", model="hf://a/b"))
        assert isinstance(answer, Failed)
        assert answer.error.code == "not_found"
