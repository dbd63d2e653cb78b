"""circuits.list, show, delete and diff over the wire, without any worker's help."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from circuit_protocol import circuit_requests as cq
from circuit_protocol import requests as r
from circuit_protocol.circuit_replies import CircuitDiff, CircuitList, CircuitShown
from circuit_protocol.circuits import circuit_id
from circuit_protocol.interventions import SiteChannels
from circuit_protocol.messages import Edge
from circuit_protocol.replies import Done, Failed, JobAccepted, JobList
from circuitd.server.circuit_requests import compared
from circuitd.server.routing import CACHEABLE
from circuitd.store.circuits import CircuitStore, StoredCircuit
from front_harness import House, WireClient, house
from made_circuits import quote_circuit, random_circuit


@pytest.fixture
async def lit(tmp_path: Path) -> AsyncIterator[tuple[House, WireClient, CircuitStore]]:
    async with house(tmp_path) as found:
        store = CircuitStore(Path(found.settings.circuits_dir or ""))
        yield found, await found.client(), store


async def test_stored_circuits_are_listed_shown_and_deleted_without_a_worker(lit):
    found, client, store = lit
    made = quote_circuit()
    summary = store.save(made.circuit, "s", details=made.details)
    of_sweep = cq.ListCircuits(id=client.new_id(), task="single_double_quote", sweep="s")
    listed = await client.ask(of_sweep)
    assert isinstance(listed, CircuitList)
    assert listed.circuits == (summary,)
    shown = await client.ask(cq.ShowCircuit(id=client.new_id(), circuit=summary.id[:5]))
    assert isinstance(shown, CircuitShown)
    assert (shown.circuit, shown.details) == (made.circuit, made.details)
    gone = await client.ask(cq.DeleteCircuit(id=client.new_id(), circuit=summary.id))
    assert isinstance(gone, Done)
    again = await client.ask(cq.ShowCircuit(id=client.new_id(), circuit=summary.id))
    assert isinstance(again, Failed)
    assert again.error.code == "not_found"
    assert found.fleet.runs() == []


async def test_an_ambiguous_or_unknown_reference_is_a_typed_error(lit):
    _, client, store = lit
    for seed in range(3):
        store.save(random_circuit(40, seed=seed).circuit, f"s{seed}")
    shown = await client.ask(cq.ShowCircuit(id=client.new_id(), circuit="bracket_counting/s1/41"))
    assert isinstance(shown, Failed)
    assert shown.error.code == "not_found"
    assert "bracket_counting/s1/40" in shown.error.nearest


async def test_circuits_of_two_models_cannot_be_compared(lit):
    _, client, store = lit
    one = store.save(quote_circuit().circuit, "s")
    other = store.save(replace(quote_circuit().circuit, model_hash="cd" * 32), "t")
    answer = await client.ask(cq.DiffCircuits(id=client.new_id(), before=one.id, after=other.id))
    assert isinstance(answer, Failed)
    assert answer.error.code == "invalid_request"
    assert "ab" * 32 in (answer.error.asked or "")
    assert "cd" * 32 in (answer.error.found or "")


async def test_a_comparison_travels(lit):
    _, client, store = lit
    made = quote_circuit()
    one = store.save(made.circuit, "s", details=made.details)
    answer = await client.ask(cq.DiffCircuits(id=client.new_id(), before=one.id, after=one.id))
    assert isinstance(answer, CircuitDiff)
    assert (answer.jaccard, answer.added, answer.removed_edges) == (1.0, (), ())
    assert answer.shared == made.circuit.nodes


def stored(shown: CircuitShown) -> StoredCircuit:
    return StoredCircuit(shown.summary, shown.circuit, shown.details, None)


def test_a_difference_is_that_of_the_sets_of_nodes_and_edges():
    """Against plain sets of random circuits' parts."""
    one, other = (random_circuit(120, seed=seed) for seed in (1, 2))
    found = compared("r", stored(one), stored(other))

    def nodes(parts) -> set[tuple[str, int]]:
        return {(part.site, channel) for part in parts for channel in part.channels}

    def edges(shown) -> set[Edge]:
        return {
            Edge(source=g.source, source_channel=s, target=g.target, target_channel=t)
            for g in shown.details.edges
            for s, t in zip(g.source_channels, g.target_channels, strict=True)
        }

    before, after = nodes(one.circuit.nodes), nodes(other.circuit.nodes)
    assert nodes(found.added) == after - before
    assert nodes(found.removed) == before - after
    assert nodes(found.shared) == before & after
    assert found.jaccard == len(before & after) / len(before | after)
    assert found.edges_known
    assert set(found.added_edges) == edges(other) - edges(one)
    assert set(found.removed_edges) == edges(one) - edges(other)
    changes = [abs(change.after - change.before) for change in found.changes]
    assert changes == sorted(changes, reverse=True)
    assert {(c.site, c.channel) for c in found.changes} <= before & after


def test_a_difference_keeps_the_models_order_of_sites():
    made = quote_circuit()
    nodes = made.circuit.nodes
    early, late = (
        replace(made, circuit=replace(made.circuit, nodes=part)) for part in (nodes[::2], nodes)
    )
    for one, other in ((early, late), (late, early)):
        found = compared("r", stored(one), stored(other))
        both = {part.site for part in (*found.added, *found.shared, *found.removed)}
        order = [part.site for part in nodes if part.site in both]
        for parts in (found.added, found.shared, found.removed):
            assert [p.site for p in parts] == [s for s in order if s in {p.site for p in parts}]


def test_edges_that_are_not_stored_are_not_said_to_be_equal():
    made = quote_circuit()
    bare = replace(made, details=None)
    found = compared("r", stored(made), stored(bare))
    assert not found.edges_known
    assert found.added_edges == found.removed_edges == ()


def test_no_request_about_circuits_is_answered_from_the_result_cache():
    about_circuits = {kind for kind in vars(cq).values() if isinstance(kind, type)}
    assert not about_circuits & set(CACHEABLE)


def test_ids_do_not_depend_on_how_a_circuit_was_found():
    circuit = quote_circuit().circuit
    later = replace(circuit, found=replace(circuit.found, seconds=1.0, seed=7))
    assert circuit_id(later) == circuit_id(circuit)
    fewer = replace(circuit, nodes=(SiteChannels(site="0.mlp.act_in", channels=(205,)),))
    assert circuit_id(fewer) != circuit_id(circuit)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (cq.Verify(id="j", model="m", circuit="0123abcd"), "not_found"),
        (cq.Verify(id="j", model="m", circuit="bracket_counting/s/41"), "not_found"),
        (cq.ExportCircuit(id="j", model="m", circuit="../../etc/passwd"), "not_found"),
        (cq.CombineCircuits(id="j", model="m", circuits=("ab", "cd"), how="union"), "not_found"),
        (cq.NodeSamples(id="j", model="m", site="s", channel=0, circuit="0123"), "not_found"),
        (cq.NodeSamples(id="j", model="m", site="s", channel=0, task="nobodys"), "not_found"),
        (cq.Prune(id="j", model="m", tasks=("with_as", "with_at")), "not_found"),
        (cq.Prune(id="j", model="m", tasks=("broken",)), "invalid_request"),
        (cq.Prune(id="j", model="m", tasks=("with_as",), ks=(3, 41)), "invalid_request"),
        (cq.Prune(id="j", model="m", tasks=("with_as",), sweep="../up"), "invalid_request"),
        (r.EvaluateTasks(id="j", model="m", tasks=("nobodys",)), "not_found"),
        (r.Ablate(id="j", model="m", input=r.TaskInput(task="nobodys", n=2)), "not_found"),
        (cq.Prune(id="j", model="nobodys", tasks=("with_as",)), "not_found"),
    ],
    ids=lambda given: given if isinstance(given, str) else type(given).__name__,
)
async def test_a_job_that_cannot_be_is_refused_before_it_is_made(lit, request_, code):
    found, client, store = lit
    store.save(random_circuit(40).circuit, "s")
    tasks = Path(found.settings.config_dir) / "tasks"
    tasks.mkdir(parents=True)
    (tasks / "broken.json").write_text("{")
    answer = await client.ask(replace(request_, detach=True))
    assert isinstance(answer, Failed)
    assert answer.error.code == code
    jobs = await client.ask(r.ListJobs(id=client.new_id()))
    assert isinstance(jobs, JobList)
    assert jobs.jobs == ()
    assert found.fleet.runs() == []


async def test_a_job_whose_names_exist_is_made(lit):
    found, client, store = lit
    made = store.save(random_circuit(40).circuit, "s")
    for request in (
        cq.Verify(id="v", model="m", circuit=made.id[:6], detach=True),
        cq.Prune(id="p", model="m", tasks=("with_as",), ks=(40,), detach=True),
    ):
        assert isinstance(await client.ask(request), JobAccepted)
    await found.fleet.until(lambda: len(found.fleet.runs()) == 2)
