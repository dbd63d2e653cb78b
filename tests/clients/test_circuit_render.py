"""Circuits in the terminal: the drawing, cards, tables, curves."""

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuit_client.graph import graph_of, place_of, retained_heads
from circuit_client.render.card import card_lines
from circuit_client.render.circuit import Canvas, circuit_lines
from circuit_client.render.circuit_tables import (
    catalogue_lines,
    derived_lines,
    diff_lines,
    fact_lines,
    pruned_lines,
    pruning_curve,
    trial_lines,
)
from circuit_client.render.plot import Axis, Curve, plot
from circuit_client.render.progress import progress_line
from circuit_client.render.style import Line, paint
from circuit_client.render.table import widest
from circuit_protocol.circuit_replies import (
    CircuitDerived,
    CircuitDiff,
    CircuitShown,
    ImportanceChange,
    PruneFailure,
    PruneTrial,
)
from circuit_protocol.errors import InvalidRequest
from circuit_protocol.interventions import SiteChannels
from circuit_protocol.messages import Edge
from circuit_protocol.replies import Progress
from made_circuits import circuit_card, quote_circuit, random_circuit, summaries

CIRCUITS = {"quote": (quote_circuit(), 8), "large": (random_circuit(300), 16)}


def text(lines: list[Line]) -> str:
    return paint(lines, "none")


def drawn(shown: CircuitShown, d_head: int | None, **canvas: Any) -> list[Line]:
    options: dict[str, Any] = {"columns": 100, "depth": "none"} | canvas
    return circuit_lines(shown, Canvas(**options), d_head=d_head)


# -------------------------------------------------------------------------------------- graph


def test_a_graph_has_every_node_and_edge_in_the_order_of_the_pass() -> None:
    shown, d_head = CIRCUITS["large"]
    graph = graph_of(shown, d_head=d_head)
    kept = {(s.site, c) for s in shown.circuit.nodes for c in s.channels or ()}
    assert {(n.site, n.channel) for n in graph.nodes} == kept
    assert len(graph.nodes) == shown.circuit.measured.k
    assert len(graph.edges) == shown.circuit.measured.n_edges
    orders = [place_of(n.site).order for n in graph.nodes]
    assert orders == sorted(orders)
    assert all(e.source < e.target for e in graph.edges), "edges point forward"


def test_heads_split_the_channels_of_q_k_and_v_only() -> None:
    graph = graph_of(quote_circuit(), d_head=8)
    labels = {n.name: n.label for n in graph.nodes}
    assert labels["10.attn.q[657]"] == "82.1"
    assert labels["10.attn.v[656]"] == "82.0"
    assert labels["10.attn.act_in[985]"] == "985"
    plain = {n.name: n.label for n in graph_of(quote_circuit()).nodes}
    assert plain["10.attn.q[657]"] == "657"


def test_the_stream_joins_writers_to_readers_of_the_same_channel() -> None:
    graph = graph_of(quote_circuit())
    names = [n.name for n in graph.nodes]
    assert {(names[a], names[b]) for a, b in graph.carried} == {
        ("0.mlp.resid_delta[460]", "10.attn.act_in[460]"),
        ("0.mlp.resid_delta[985]", "10.attn.act_in[985]"),
    }


def test_retained_heads_are_those_with_a_query_key_or_value() -> None:
    nodes = quote_circuit().circuit.nodes
    assert retained_heads(nodes, 10, 8, 128) == (82,)
    assert retained_heads(nodes, 0, 8, 128) == ()
    every = (SiteChannels(site="1.attn.v"),)
    assert retained_heads(every, 1, 8, 4) == (0, 1, 2, 3)


# ------------------------------------------------------------------------------------ drawing


@pytest.mark.parametrize("name", CIRCUITS)
@pytest.mark.parametrize("columns", [40, 80, 100, 160])
@pytest.mark.parametrize("depth", ["none", "16", "256", "truecolor"])
@pytest.mark.parametrize("with_heads", [True, False])
def test_no_line_is_wider_than_asked(name: str, columns: int, depth: Any, with_heads: bool) -> None:
    shown, d_head = CIRCUITS[name]
    lines = drawn(shown, d_head if with_heads else None, columns=columns, depth=depth)
    assert widest(lines) <= columns
    painted = paint(lines, depth)
    assert ("\x1b[" in painted) == (depth != "none")


@pytest.mark.parametrize("name", CIRCUITS)
def test_without_a_limit_every_node_and_edge_appears_once(name: str) -> None:
    shown, d_head = CIRCUITS[name]
    out = text(drawn(shown, d_head, lines_max=None))
    # A node's chip ends in its delta and a blank; an edge has an arrow between two ends.
    graph = graph_of(shown, d_head=d_head)
    assert "more" not in out
    blocks = re.split(r"\n\n", out)
    chips = sum(len(re.findall(r" [qkv]?\d+ [+-]\d\.\d{3} ", _no_edges(b))) for b in blocks[1:])
    assert chips == len(graph.nodes)
    body = "\n".join(blocks[1:])
    assert len(re.findall(r"[\d.]+ ─▸ [\d.]+ ", body)) == len(graph.edges)


def _no_edges(block: str) -> str:
    """The rows of nodes of a block: rows of edges begin with an arrow."""
    kept: list[str] = []
    in_edges = False
    for line in block.splitlines()[1:]:
        if line[:2] == "  " and line[2] != " ":
            in_edges = line.startswith("  ─▸")
        if not in_edges:
            kept.append(line[15:] + " ")
    return "\n".join(kept)


def test_a_large_circuit_is_cut_and_what_is_missing_is_counted() -> None:
    shown, d_head = CIRCUITS["large"]
    lines = drawn(shown, d_head, columns=80)
    assert len(lines) < len(drawn(shown, d_head, columns=80, lines_max=None))
    out = text(lines)
    assert re.search(r"… and \d+ more", out)
    row = next(line for line in out.splitlines() if line.strip().startswith("post_act"))
    deltas = [abs(float(x)) for x in re.findall(r"[+-]\d\.\d{3}", row)]
    assert deltas == sorted(deltas, reverse=True), "strongest first"


def test_the_drawing_says_what_the_circuit_is_and_how_good() -> None:
    out = text(drawn(quote_circuit(card=circuit_card()), 8))
    assert "single_double_quote in csd-py-sparse  12 nodes, 9 edges" in out
    assert "loss 0.149, held out 0.171, model 0.012, accuracy 97.5%" in out
    assert "verdict: not supported" in out
    assert re.search(r"head 82  q1 [+\d.]+   k1 [+\d.]+   v0", out)
    assert re.search(r"460 ─▸ 82\.1 \+0\.9 \+0\.500", out)


def test_a_half_block_that_matters_is_marked() -> None:
    shown = quote_circuit()
    assert shown.details is not None
    layers = [msgspec.structs.replace(x, delta=d) for x, d in
              zip(shown.details.layers, (0.31, 0.29), strict=True)]  # fmt: skip
    details = msgspec.structs.replace(shown.details, layers=tuple(layers))
    lines = text(drawn(msgspec.structs.replace(shown, details=details), 8)).splitlines()
    marked = [line for line in lines if "without it" in line]
    assert [line.endswith("!") for line in marked] == [True, False]


def test_ascii_drawings_have_nothing_else() -> None:
    for shown, d_head in CIRCUITS.values():
        assert text(drawn(shown, d_head, ascii_only=True)).isascii()


def test_a_circuit_never_measured_is_drawn_without_numbers() -> None:
    shown = msgspec.structs.replace(quote_circuit(), details=None)
    out = text(drawn(shown, 8))
    assert f"not measured yet: circuit circuits measure {shown.summary.id}" in out
    assert "its 12 nodes, 9 edges are known by number only" in out
    assert re.search(r"post_act +863 +2790", out)


def test_an_empty_circuit_is_drawn() -> None:
    shown = quote_circuit()
    circuit = msgspec.structs.replace(shown.circuit, nodes=())
    out = text(drawn(msgspec.structs.replace(shown, circuit=circuit, details=None), 8))
    assert "single_double_quote" in out


# -------------------------------------------------------------------------------------- cards


@pytest.mark.parametrize("columns", [50, 80, 130])
@pytest.mark.parametrize("verdict", ["supported", "not supported", "depends"])
def test_a_card_begins_with_the_verdict(columns: int, verdict: str) -> None:
    lines = card_lines(circuit_card(verdict), columns=columns)
    assert widest(lines) <= columns
    out = text(lines)
    assert out.startswith(verdict.upper())
    assert ("on ablation kind" in out.splitlines()[0]) == (verdict == "depends")
    places = [out.index(word) for word in ("Pruning shuffled", "✓ pass", "✗ FAIL", "? open")]
    assert places == sorted(places), "reasons, then controls"
    assert "1 passed, 1 failed, 1 open" in out


def test_a_card_has_numbers_with_their_units_and_intervals() -> None:
    out = text(card_lines(circuit_card(), columns=100))
    assert re.search(r"held-out loss +0\.1710 nats +0\.15 to 0\.193 \(95%\)", out)
    assert re.search(r"held-out accuracy +96\.2%", out)
    assert re.search(r"nodes needed +130 nodes", out)


# ------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize("columns", [80, 100, 140])
def test_tables_fit(columns: int) -> None:
    found = summaries(6)
    broken = msgspec.structs.replace(found[0], broken="viz_data.pt is missing")
    tables = [
        catalogue_lines((*found, broken), columns=columns),
        pruned_lines(found, (), columns=columns, seconds={found[0].id: 3.2}),
    ]
    for lines in tables:
        assert widest(lines) <= columns


def test_the_catalogue_says_why_a_circuit_is_broken() -> None:
    found = (msgspec.structs.replace(summaries(1)[0], broken="unequal rows"),)
    out = text(catalogue_lines(found, columns=140))
    assert "broken" in out
    for columns in (60, 140):
        assert "00000000 is broken: unequal rows" in text(catalogue_lines(found, columns=columns))
    assert "0.600" not in out, "its numbers are not its own"


def test_a_prune_table_has_every_circuit_and_failure_and_a_curve() -> None:
    failure = PruneFailure(
        task="with_as", seed=3, target_k=9, error=InvalidRequest("too few", found="7").to_info()
    )
    found = summaries(4)
    out = text(pruned_lines(found, (failure,), columns=100, seconds={s.id: 2.5 for s in found}))
    for s in found:
        row = rf"{s.measured.loss:.4f} +{s.measured.k} +{s.measured.n_edges} .* 2\.5 s +{s.id[:8]}"
        assert re.search(row, out)
    assert "with_as, seed 3, k 9: too few (7)" in out
    assert "nodes kept (log)" in out
    assert "nodes kept" not in text(pruned_lines(found[:2], (), columns=100))


def test_facts_name_every_changed_setting() -> None:
    out = text(fact_lines(quote_circuit(card=circuit_card())))
    assert "settings  greedy=True" in out
    assert "in 41.5 s" in out
    assert "verdict   not supported" in out


def test_a_diff_lists_what_came_and_went() -> None:
    before, after = summaries(2)
    edge = Edge(source="0.mlp.act_in", source_channel=1, target="0.mlp.post_act", target_channel=2)
    diff = CircuitDiff(
        id="x",
        before=before,
        after=after,
        added=(SiteChannels(site="1.attn.q", channels=(1, 2)),),
        removed=(),
        shared=(SiteChannels(site="0.mlp.act_in", channels=(1,)),),
        added_edges=(edge,),
        removed_edges=(),
        jaccard=1 / 3,
        loss_change=-0.25,
        changes=(ImportanceChange(site="0.mlp.act_in", channel=1, before=0.1, after=0.4),),
    )
    lines = diff_lines(diff, columns=80)
    out = text(lines)
    assert widest(lines) <= 80
    assert "loss -0.2500 nats, 1 node in both, Jaccard 0.33" in out
    assert "2 nodes added\n  1.attn.q[1,2]" in out
    assert "0 nodes removed" in out
    assert "1 edge added\n  0.mlp.act_in[1] -> 0.mlp.post_act[2]" in out
    unknown = msgspec.structs.replace(diff, edges_known=False, added_edges=())
    assert "edges are not compared" in text(diff_lines(unknown, columns=80))
    assert re.search(r"0\.mlp\.act_in\[1\] +\+0\.1000 +\+0\.4000 +\+0\.3000", out)


def test_an_edit_shows_the_loss_before_and_after() -> None:
    circuit = quote_circuit().circuit
    derived = CircuitDerived(id="x", circuit_id="ab", circuit=circuit, delta=0.1)
    out = text(derived_lines(derived, "3f9a"))
    assert out.startswith("loss 0.0490 → 0.1490  +0.1000 nats per side")
    assert "not saved" in out


def test_trials_of_a_search_are_ranked_by_size() -> None:
    trials = [
        PruneTrial(task="t", seed=0, settings_json=f'{{"lr":{k}}}', k=k, loss=0.15)
        for k in (30, 10, 20)
    ] + [PruneTrial(task="t", seed=0, settings_json="{}", k=None, loss=None, error="diverged")]
    out = text(trial_lines(trials, columns=80))
    assert out.splitlines()[0] == "4 settings were tried, 1 in vain"
    assert [int(m) for m in re.findall(r"^t +(\d+)", out, re.MULTILINE)] == [10, 20, 30]


# ------------------------------------------------------------------------------------- curves


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), max_size=30),
    st.booleans(),
    st.booleans(),
    st.integers(20, 120),
    st.integers(2, 12),
)
def test_plots_fit_whatever_the_points(
    points: list, log: bool, ascii_only: bool, columns: int, rows: int
) -> None:
    lines = plot([Curve("a", tuple(points))], Axis("x", log), Axis("y", log), columns=columns,
                 rows=rows, ascii_only=ascii_only)  # fmt: skip
    drawable = [p for p in points if not log or (p[0] > 0 and p[1] > 0)]
    assert (lines == []) == (not drawable)
    if lines:
        assert len(lines) == rows + 2
        assert widest(lines) <= columns
        if ascii_only:
            assert text(lines).isascii()


def test_a_rising_curve_goes_from_bottom_left_to_top_right() -> None:
    lines = plot([Curve("a", ((0, 0), (1, 1), (2, 2)))], Axis("x"), Axis("y"), columns=30, rows=5,
                 ascii_only=True)  # fmt: skip
    rows = [line.partition("|")[2] for line in text(lines).splitlines()[1:-1]]
    columns = [row.index("*") for row in rows]
    assert columns == sorted(columns, reverse=True)
    assert rows[0].rstrip().endswith("*")
    assert len(rows[0].rstrip()) == max(len(r.rstrip()) for r in rows)
    assert rows[-1].startswith("*")


def test_the_curve_of_pruning_shows_loss_and_size() -> None:
    details = quote_circuit().details
    assert details is not None
    out = text(pruning_curve(details.curve, columns=60, ascii_only=False))
    assert "loss in nats per side" in out
    assert "nodes kept (log)" in out
    assert "5,012" in out


# ----------------------------------------------------------------------------------- progress


def test_the_progress_of_pruning_has_loss_size_and_time_left() -> None:
    progress = Progress(id="x", stage="prune with_as", done=100, total=400, unit="steps",
                        eta_s=12.5, loss=0.1834, k=1234)  # fmt: skip
    line = progress_line(progress, 100)
    for part in ("prune with_as", " 25%", "100/400 steps", "loss 0.1834", "k 1,234", "12.5 s left"):
        assert part in line
