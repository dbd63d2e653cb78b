"""`circuit circuits node | card`, and `--plain`: what the views show, printed."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from circuit_client.cli.app import run
from circuit_client.cli.verify import EXIT_CODES
from circuit_client.graph import graph_of
from circuit_client.render.node import node_lines
from circuit_client.render.style import line_width
from circuit_client.views.node import node_facts
from circuit_protocol import circuit_replies as cr
from circuit_protocol import circuit_requests as cq
from circuit_protocol import replies, requests
from circuit_protocol.circuits import Verdict
from made_circuits import QUOTE, circuit_card, quote_circuit, random_circuit, shown_of
from scripted_daemon import Out, Script, ScriptedDaemon, daemon

Run = Callable[..., tuple[int, str, str]]


def showing(shown: cr.CircuitShown) -> Script:
    return lambda request, frames: iter([shown])


def describe(request: requests.DescribeModel, frames: list) -> Iterator[Out]:
    yield replies.ModelDescription(
        id="x", model="m", path="", model_hash="", config_json="{}", n_nodes=1, n_parameters=1,
        n_nonzeros=1, block_density=1.0, nbytes_on_disk=1, matrices=(),
        sites=(replies.SiteInfo(site="0.attn.q", width=64, n_heads=8, is_node_site=True),),
    )  # fmt: skip


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedDaemon]:
    scripts: dict[type, Script] = {
        cq.ShowCircuit: showing(quote_circuit(card=circuit_card())),
        requests.DescribeModel: describe,
    }
    with daemon(tmp_path, scripts) as d:
        monkeypatch.setenv("CIRCUIT_ENDPOINT", d.endpoint)
        monkeypatch.setenv("COLUMNS", "90")
        monkeypatch.delenv("NO_COLOR", raising=False)
        yield d


@pytest.fixture
def type_(capsys: pytest.CaptureFixture[str]) -> Run:
    def typed(*arguments: str) -> tuple[int, str, str]:
        code = run(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return typed


@pytest.mark.parametrize("name", ["10.attn.v[656]", "10.attn.v:656"])
def test_node_prints_its_facts_inputs_and_outputs(
    fake: ScriptedDaemon, type_: Run, name: str
) -> None:
    code, out, _ = type_("circuits", "node", "3f9a", name)
    assert code == 0
    assert "layer 10, attn.v, channel 656" in out
    assert "82, its channel 0" in out
    assert "1 edge in, 1 out" in out
    inputs, _, outputs = out.partition("outputs")
    assert "10.attn.act_in[985]  weight    -1.5  +0.6000" in inputs
    assert "10.attn.resid_delta[83]" in outputs


def test_node_prints_what_the_residual_stream_carries(fake: ScriptedDaemon, type_: Run) -> None:
    document = json.loads(type_("circuits", "node", "3f9a", "10.attn.act_in:985", "--json")[1])
    (carried,) = document["inputs"]
    assert (carried["node"], carried["by"]) == ("0.mlp.resid_delta[985]", "residual 985")
    assert carried["weight"] is None
    assert {link["node"] for link in document["outputs"]} == {"10.attn.q[657]", "10.attn.v[656]"}


def test_node_as_json_is_what_the_view_of_the_terminal_ui_shows(
    fake: ScriptedDaemon, type_: Run
) -> None:
    graph = graph_of(quote_circuit(), d_head=8)
    for node in graph.nodes:
        document = json.loads(type_("circuits", "node", "3f9a", node.name, "--json")[1])
        facts = node_facts(graph, graph.index[node.site, node.channel])
        for field in ("site", "channel", "layer", "kind", "head", "within", "delta"):
            assert document[field] == getattr(facts, field)
        assert (document["in_degree"], document["out_degree"]) == (
            facts.in_degree,
            facts.out_degree,
        )
        said = [link["node"] for link in document["inputs"] + document["outputs"]]
        assert said == [link.node for link in facts.links]


def test_a_node_that_was_never_measured_says_how_to(fake: ScriptedDaemon, type_: Run) -> None:
    fake.scripts[cq.ShowCircuit] = showing(shown_of(QUOTE, [], measured=False))
    code, out, _ = type_("circuits", "node", "3f9a", "10.attn.v:656")
    assert code == 0
    assert "not measured (`circuit circuits measure` does)" in out
    assert "no outputs" in out


def test_a_node_that_is_not_kept_offers_those_that_are(fake: ScriptedDaemon, type_: Run) -> None:
    code, out, err = type_("circuits", "node", "3f9a", "10.attn.v:655")
    assert (code, out) == (2, "")
    assert "asked    10.attn.v[655]" in err
    assert "10.attn.v[656]" in err
    assert "circuit circuits show 3f9a --all" in err


@pytest.mark.parametrize("text", ["10.attn.v", "10.attn.v:1,2", "10.attn.v[1-3]"])
def test_more_or_less_than_one_node_is_refused(fake: ScriptedDaemon, type_: Run, text: str) -> None:
    code, _, err = type_("circuits", "node", "3f9a", text)
    assert code == 2
    assert "Give one node" in err


@pytest.mark.parametrize("columns", [60, 100])
def test_the_lines_of_every_node_fit(columns: int) -> None:
    graph = graph_of(random_circuit(200), d_head=16)
    for index in range(len(graph.nodes)):
        lines = node_lines(node_facts(graph, index), columns=columns)
        assert max(map(line_width, lines)) <= columns


@pytest.mark.parametrize(("verdict", "expected"), EXIT_CODES.items())
def test_card_exits_with_what_the_verdict_is(
    fake: ScriptedDaemon, type_: Run, verdict: Verdict, expected: int
) -> None:
    fake.scripts[cq.ShowCircuit] = showing(quote_circuit(card=circuit_card(verdict)))
    code, out, _ = type_("circuits", "card", "3f9a")
    assert code == expected
    assert verdict.upper() in out
    assert "The circuit keeps its loss on held-out templates." in out
    assert "Held-out loss 0.171 stays near 0.149." in out
    code, out, _ = type_("circuits", "card", "3f9a", "--json")
    document: Any = json.loads(out)
    assert (code, document["verdict"]) == (expected, verdict)
    assert [c["name"] for c in document["controls"]] == ["held_out", "shuffled_labels", "seeds"]


def test_a_circuit_without_a_card_says_how_to_make_one(fake: ScriptedDaemon, type_: Run) -> None:
    shown = quote_circuit()
    fake.scripts[cq.ShowCircuit] = showing(shown)
    code, out, err = type_("circuits", "card", "3f9a", "--json")
    assert (code, out) == (2, "")
    assert f"`circuit verify {shown.summary.id}` makes one" in err


@pytest.mark.parametrize(
    "command", [("show", "3f9a"), ("node", "3f9a", "10.attn.v:656"), ("card", "3f9a")]
)
def test_plain_is_ascii_without_colours_whatever_else_is_asked(
    fake: ScriptedDaemon, type_: Run, command: tuple[str, ...]
) -> None:
    _, colourful, _ = type_("circuits", *command, "--color", "truecolor")
    assert "\x1b[" in colourful
    _, out, _ = type_("circuits", *command, "--plain", "--color", "truecolor")
    assert out.isascii()
    assert "\x1b" not in out
    assert "\\u" not in out, "every sign has a plain one"
    assert type_("--plain", "circuits", *command)[1] == out
