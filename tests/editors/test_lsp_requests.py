"""The requests of our own: catalogue, circuits, sessions, jobs; and what goes wrong."""

import ast
import json

import pytest
from lsprotocol import types
from pygls.exceptions import JsonRpcException

from circuit_client import connect
from circuit_client.verbs.sessions import update as update_session
from circuit_lsp.errors import CODES
from circuit_protocol.session import SelectedNode, SessionPatch
from editors.test_lsp_features import SOURCE, a_circuit, run
from lsp_client import at


async def test_the_catalogue(daemon, editors):
    editor = await editors(daemon, options={"session": "catalogue"})
    status = await editor.connected()
    assert status["instance"] == daemon.discovery.instance
    loaded = await editor.ask("circuit/models/load", {"model": "csd-py-sparse"})
    assert [m["name"] for m in loaded["models"] if m["resident"]] == ["csd-py-sparse"]
    await editor.ask("circuit/models/pin", {"model": "csd-py-sparse"})
    unpinned = await editor.ask("circuit/models/pin", {"model": "csd-py-sparse", "pinned": False})
    assert not any(m["resident"] and m["resident"]["pinned"] for m in unpinned["models"])
    tasks = (await editor.ask("circuit/tasks/list"))["tasks"]
    assert next(t for t in tasks if t["name"] == "for_while")["nCircuits"] > 0
    detail = await editor.ask("circuit/tasks/show", {"task": "for_while", "n": 2})
    assert len(detail["pairs"]) == 2
    caches = (await editor.ask("circuit/cache/clear", {"kind": "results"}))["caches"]
    assert next(c for c in caches if c["kind"] == "results")["entries"] == 0


async def test_a_circuit_in_every_form(daemon, editors):
    editor = await editors(daemon, options={"session": "forms"})
    await editor.connected()
    circuit = await a_circuit(editor)
    graph = await editor.ask("circuit/circuits/show", {"circuit": circuit})
    n = len(graph["nodes"])
    assert n == graph["info"]["k"]
    edges = graph["edges"]
    assert {len(column) for column in edges.values()} == {graph["info"]["nEdges"]}
    assert all(0 <= i < n for i in (*edges["source"], *edges["target"]))
    assert [s["k"] for s in graph["siblings"]] == sorted(s["k"] for s in graph["siblings"])
    masks = await editor.ask("circuit/circuits/masks", {"task": "for_while"})
    for i, info in enumerate(masks["circuits"]):
        assert sum(i in row["keptBy"] for row in masks["rows"]) == info["k"]
    other = masks["circuits"][-1]["id"]
    compared = await editor.ask("circuit/circuits/compare", {"before": circuit, "after": other})
    assert len(compared["shared"]) + len(compared["removed"]) == n
    for form, check in {
        "json": json.loads,
        "python": ast.parse,
        "svg": lambda text: text.index("<svg"),
        "html": lambda text: text.index("<!doctype html>"),
        "dot": lambda text: text.index("digraph"),
    }.items():
        export = await editor.ask("circuit/circuits/export", {"circuit": circuit, "format": form})
        check(export["text"])
        assert export["fileName"].startswith("for_while-")
    shipped = await a_circuit(editor, "bracket_brace")
    with pytest.raises(JsonRpcException) as caught:
        await editor.ask("circuit/circuits/delete", {"circuit": shipped})
    assert caught.value.code == CODES["forbidden"]


async def test_toggling_nodes_measures_and_shows_logits(daemon, editors):
    editor = await editors(daemon, options={"session": "toggle"})
    await editor.connected()
    circuit = await a_circuit(editor)
    graph = await editor.ask("circuit/circuits/show", {"circuit": circuit})
    node = max(graph["nodes"], key=lambda n: abs(n["delta"]))
    name = {"site": node["site"], "channel": node["channel"]}
    result = await editor.ask(
        "circuit/circuits/edit", {"circuit": circuit, "drop": [name], "nPairs": 2}
    )
    assert result["k"] == graph["info"]["k"] - 1
    assert result["delta"] > 0.0
    assert len(result["logits"]) == 4
    assert any(row["before"] != row["after"] for row in result["logits"])
    with pytest.raises(JsonRpcException, match="changes nothing"):
        await editor.ask("circuit/circuits/edit", {"circuit": circuit})
    uri = editor.open(SOURCE)
    asked = {"node": name, "circuit": circuit, "uri": uri, "nPairs": 1}
    at_once = await editor.ask("circuit/node/samples", {**asked, "nWindows": 0})
    samples = await editor.ask("circuit/node/samples", {**asked, "nWindows": 1})
    assert (at_once["mean"], at_once["bands"]) == (None, [])
    assert at_once["document"] == samples["document"]
    for early, late in zip(at_once["taskSamples"], samples["taskSamples"], strict=True):
        assert early["text"]["texts"] == late["text"]["texts"]
        assert early["text"]["values"] == pytest.approx(late["text"]["values"], abs=1e-4)
    assert samples["task"] == "for_while"
    assert len(samples["document"]["texts"]) == len(samples["document"]["values"])
    values = [v for band in samples["bands"] for w in band["windows"] for v in w["values"]]
    assert max(map(abs, values)) <= samples["limit"]


async def test_the_session_is_shared_both_ways_and_colours_follow_it(daemon, editors):
    editor = await editors(daemon, options={"session": "shared", "enabled": True})
    await editor.connected()
    uri = editor.open(SOURCE)
    plain = await editor.fresh(uri)
    node = SelectedNode(site="2.mlp.post_act", channel=3)
    with connect(daemon.address("ipc").endpoint) as script:
        script.sessions.update("shared", SessionPatch(node=node))
        told = await editor.heard("circuit/sessionChanged", lambda s: s["node"] is not None)
        assert told["node"] == {"site": "2.mlp.post_act", "channel": 3}
        mine = {"interventions": ["zero:final_resid"]}
        await editor.ask("circuit/session/update", mine)
        ablated = await editor.heard("circuit/heat", lambda h: h["interventions"] != [])
        assert ablated["interventions"] == ["zero:final_resid"]
        assert ablated["meanLoss"] > plain["meanLoss"]
        state = script.sessions.get("shared")
        assert len(state.interventions) == 1
    with pytest.raises(JsonRpcException) as caught:
        await editor.ask("circuit/session/update", {"k": 3, "revision": 0})
    assert caught.value.code == CODES["conflict"]
    joined = await editor.ask("circuit/session/join", {"name": "elsewhere"})
    assert (joined["name"], joined["interventions"]) == ("elsewhere", [])
    names = {s["name"] for s in (await editor.ask("circuit/session/list"))["sessions"]}
    assert {"shared", "elsewhere"} <= names
    assert update_session("x", SessionPatch()).resend is False


async def test_heat_of_a_node_and_of_differences(daemon, editors):
    editor = await editors(daemon, options={"session": "kinds"})
    await editor.connected()
    circuit = await a_circuit(editor)
    uri = editor.open(SOURCE)

    async def heat(**choice):
        editor.forget("circuit/heat")
        await editor.ask("circuit/document/watch", {"uri": uri, "choice": choice})
        return await editor.heard("circuit/heat", lambda h: h["state"] != "waiting")

    probability = await heat(of="probability")
    assert all(0 <= t["value"] <= 1 for t in probability["tokens"] if t["value"] is not None)
    node = {"site": "2.mlp.post_act", "channel": 3}
    activation = await heat(of="node", node=node)
    assert activation["scale"]["kind"] == "diverging"
    assert activation["tokens"][0]["value"] is not None
    difference = await heat(of="difference", circuit=circuit)
    assert any(t["level"] > 0 for t in difference["tokens"])
    models = await heat(of="difference", otherModel="csd-py-dense")
    assert models["state"] == "fresh"
    nothing = await heat(of="difference")
    assert nothing["state"] == "unavailable"
    assert "circuit" in nothing["note"]
    wrong = await heat(of="node", node={"site": "2.mlp.post_act", "channel": 100_000})
    assert wrong["state"] == "unavailable"


async def test_jobs_have_progress_and_an_end(daemon, editors):
    editor = await editors(daemon, options={"session": "jobs"})
    await editor.connected()
    circuit = await a_circuit(editor)
    job = await run(editor, "circuit.verify", {"circuit": circuit, "controls": ["faithfulness"]})
    listed = await editor.ask("circuit/jobs/list")
    assert job["job"] in [j["job"] for j in listed["jobs"]]
    ended = await editor.heard("circuit/jobChanged", lambda j: j["state"] in ("done", "failed"))
    assert (ended["job"], ended["state"]) == (job["job"], "done")
    await editor.heard("circuit/catalogueChanged", lambda c: c["what"] == ["jobs", "circuits"])
    with pytest.raises(JsonRpcException) as caught:
        await editor.ask("circuit/jobs/verify", {"circuit": circuit, "controls": ["nonsense"]})
    assert caught.value.code == CODES["invalid_request"]


async def test_a_prune_shows_progress_and_its_cancel_ends_the_job(daemon, editors):
    editor = await editors(daemon, options={"session": "prune"})
    await editor.connected()
    job = await run(editor, "circuit.prune", {"task": "for_while", "nSteps": 100_000})
    begun = await editor.heard(
        types.PROGRESS, lambda p: p.value.get("kind") == "begin" if isinstance(p.value, dict)
        else p.value.kind == "begin"
    )  # fmt: skip
    editor.client.window_work_done_progress_cancel(
        types.WorkDoneProgressCancelParams(token=begun.token)
    )
    ended = await editor.heard("circuit/jobChanged", lambda j: j["state"] == "cancelled")
    assert ended["job"] == job["job"]
    again = await editor.ask("circuit/jobs/cancel", {"job": job["job"]})
    assert again == {"changed": False}


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("circuit/circuits/show", {"circuit": "nonsense"}, CODES["not_found"]),
        ("circuit/models/load", {"model": "nonsense"}, CODES["not_found"]),
        ("circuit/document/token", {"uri": "file:///no", "position": at(0, 0)}, CODES["not_found"]),
        ("circuit/circuits/show", {}, -32602),
        ("circuit/document/watch", {"choice": {"of": "colour"}}, -32602),
    ],
)
async def test_what_goes_wrong_has_a_code_words_and_no_traceback(
    daemon, editors, method, params, code
):
    editor = await editors(daemon, options={"session": "wrong"})
    await editor.connected()
    with pytest.raises(JsonRpcException) as caught:
        await editor.ask(method, params)
    assert caught.value.code == code
    assert "Traceback" not in str(caught.value.data)
    assert "traceback" not in (caught.value.data or {})
    if code != -32602:
        assert caught.value.data["message"]
