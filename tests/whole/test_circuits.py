"""Finding, drawing, changing and doubting a circuit, by commands, against a real daemon."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from circuit_client import connect
from circuit_client.cli.app import run
from whole.running import RunningDaemon

TASK, SWEEP, K = "single_double_quote", "whole-test", 12
Type = Callable[..., str]


@pytest.fixture
def type_(
    daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Type:
    monkeypatch.setenv("CIRCUIT_ENDPOINT", daemon.address("ipc").endpoint)
    monkeypatch.setenv("COLUMNS", "90")

    def typed(*arguments: str, code: int = 0) -> str:
        got = run(list(arguments))
        captured = capsys.readouterr()
        assert got == code, captured.err
        return captured.out

    return typed


@pytest.fixture
def found(type_: Type) -> Iterator[dict[str, Any]]:
    """A circuit that a few steps of pruning found; what a test leaves of it is removed."""
    out = type_("prune", "--task", TASK, "--k", str(K), "--n-steps", "4", "--n-pairs-per-step", "8",
                "--pairs", "16", "--held-out-pairs", "16", "--sweep", SWEEP, "--json")  # fmt: skip
    (line,) = out.splitlines()
    yield json.loads(line)
    for summary in json.loads(type_("circuits", "list", "--json"))["circuits"]:
        if not summary.get("read_only") and summary["sweep"].startswith(SWEEP):
            type_("circuits", "delete", f"{TASK}/{summary['sweep']}/{summary['label']}")


def test_a_circuit_is_found_drawn_changed_taken_elsewhere_and_doubted(
    daemon: RunningDaemon, type_: Type, found: dict[str, Any], tmp_path: Path
) -> None:
    name = found["circuit"]
    assert found["nodes"] == K

    # The loss is that of the same nodes kept by another request.
    with connect(daemon.address("ipc").endpoint) as c:
        shown = c.circuits.show(name)
        kept = c.ablate(shown.circuit.model, task=TASK, n=16, keep=shown.circuit.nodes)
        assert kept.base_loss == pytest.approx(found["loss"], abs=1e-4)

    out = type_("circuits", "measure", name, "-n", "4")
    assert f"{K} nodes" in out
    assert max(map(len, out.splitlines())) <= 90

    document = json.loads(type_("circuits", "show", name, "--json"))
    n_edges = sum(len(g["weights"]) for g in document["details"]["edges"])
    assert n_edges == found["edges"]
    group = document["circuit"]["nodes"][0]
    node = f"{group['site']}:{group['channels'][0]}"
    edited = json.loads(
        type_("circuits", "edit", name, "--drop", node, "--save", "--sweep", f"{SWEEP}-2", "--json")
    )
    assert edited["nodes"] == K - 1
    assert edited["loss_before"] == pytest.approx(found["loss"], abs=1e-4)
    diff = json.loads(type_("circuits", "diff", name, edited["circuit_id"], "--json"))
    assert diff["removed"] == [{"site": group["site"], "channels": [group["channels"][0]]}]
    assert diff["jaccard"] == pytest.approx((K - 1) / K)
    union = json.loads(type_("circuits", "union", name, edited["circuit_id"], "--json"))
    assert union["circuit_id"] == name

    picture = tmp_path / "c.svg"
    type_("circuits", "export", name, "-o", str(picture))
    nodes = [e for e in ElementTree.parse(picture).iter() if e.get("data-node")]
    assert len(nodes) == K
    for file in ("c.json", "viz_data.pt"):
        type_("circuits", "export", name, "-o", str(tmp_path / file))
        imported = json.loads(
            type_("circuits", "import", str(tmp_path / file), "--task", TASK, "--sweep",
                  f"{SWEEP}-{file}", "--json")
        )  # fmt: skip
        assert imported["circuit"]["nodes"] == document["circuit"]["nodes"]

    assert "attention" in type_("circuits", "attention", name, "--layer", "0", "--heads", "0")
    samples = type_("circuits", "samples", node.replace(":", "[") + "]", "--circuit", name)
    assert "task, first of each pair" in samples

    out = type_("verify", found["circuit"], "--controls", "necessity", "--controls", "held_out",
                "--n-pairs", "8", "--n-bootstrap", "10", "--json", code=3)  # fmt: skip
    card = json.loads(out)
    assert card["verdict"] == "not supported", "four steps find nothing worth believing"
    assert {c["name"] for c in card["controls"]} == {"necessity", "held_out"}
    assert card["reasons"]
    assert "NOT SUPPORTED" in type_("circuits", "show", found["circuit"], "--card")
