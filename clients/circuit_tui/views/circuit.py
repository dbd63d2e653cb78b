"""The tables of the circuit page: layers, edges, and what a node is joined to."""

from collections.abc import Collection, Sequence
from typing import Final

from circuit_client import caption
from circuit_client.graph import Graph, strongest_first
from circuit_client.render.heat import Scale, number
from circuit_client.views.edges import EdgeRow
from circuit_client.views.layers import HalfBlock
from circuit_client.views.node import NodeFacts
from circuit_protocol.circuit_replies import CircuitShown
from circuit_protocol.errors import CircuitError
from circuit_tui.loaded import Loaded
from circuit_tui.views.catalogue import VERDICT_TONES
from circuit_tui.views.table import Cell, Column, Row, Tone

LAYER_COLUMNS: Final = (
    Column("layer"),
    Column("nodes", "right"),
    Column("delta", "right"),
    Column("edges", "right", optional=True),
)
EDGE_COLUMNS: Final = (
    Column("from", shrink=True, least=14),
    Column("to", shrink=True, least=14),
    Column("weight", "right"),
    Column("delta", "right"),
)
#: Of the nodes of one site, which is named above them. Widths do not depend on the site, so that
#: a step to another one changes only what it must.
NODE_COLUMNS: Final = (
    Column("channel", "right"),
    Column("in/out", "right"),
    Column("delta", "right", room=6),
    Column("head.channel", "right", optional=True),
)
LINK_COLUMNS: Final = (
    Column("", least=1),
    Column("node", shrink=True, least=14),
    Column("by", shrink=True, least=6),
    Column("delta", "right", optional=True),
)


def block_key(block: HalfBlock) -> str:
    """What a half block's row is called by."""
    return f"{'' if block.layer is None else block.layer}.{block.half}"


def layer_rows(
    blocks: Sequence[HalfBlock], graph: Graph, off: Collection[int], scale: Scale
) -> list[Row]:
    """Half blocks with what they keep and what they are worth; important ones are marked."""
    from circuit_client.views.parts import in_half

    rows: list[Row] = []
    for block in blocks:
        n_off = sum(i in off for i in in_half(graph, block.layer, block.half))
        nodes = f"{block.n_nodes - n_off}/{block.n_nodes}" if n_off else f"{block.n_nodes}"
        delta = "" if block.delta is None else f"{block.delta:+z.3f}"
        level = None if block.delta is None else scale.level(block.delta)
        cells = (
            Cell("after layers" if block.layer is None else block.name,
                 "strong" if block.is_important else "plain"),
            Cell(nodes, "note" if n_off else "plain"),
            Cell(delta, level=level),
            Cell(f"{block.n_edges}", "dim"),
        )  # fmt: skip
        rows.append(Row(block_key(block), cells, "◆" if block.is_important else " "))
    return rows


def edge_table(edges: Sequence[EdgeRow], cut: Collection[int], scale: Scale) -> list[Row]:
    """Edges, those that are cut marked."""
    return [
        Row(
            str(e.index),
            (
                Cell(_node_name(e.source.site, e.source.label), _tone(e.index in cut)),
                Cell(_node_name(e.target.site, e.target.label), _tone(e.index in cut)),
                Cell(f"{'-' if e.weight < 0 else '+'}{number(abs(e.weight))}",
                     "bad" if e.weight < 0 else "good"),
                Cell("" if e.delta is None else f"{e.delta:+z.3f}",
                     level=None if e.delta is None else scale.level(e.delta)),
            ),
            "×" if e.index in cut else " ",
        )
        for e in edges
    ]  # fmt: skip


def node_rows(
    graph: Graph, indices: Sequence[int], off: Collection[int], scale: Scale
) -> list[Row]:
    """Nodes of a site, the ones that are worth most first."""
    degrees = graph.degrees
    rows: list[Row] = []
    for i in strongest_first(graph, indices):
        node = graph.nodes[i]
        tone: Tone = "dim" if i in off else "plain"
        cells = (
            Cell(f"{node.channel}", tone),
            Cell(f"{degrees[i][0]}/{degrees[i][1]}", tone),
            Cell("" if node.delta is None else f"{node.delta:+z.3f}",
                 level=None if node.delta is None else scale.level(node.delta)),
            Cell("" if node.head is None else node.label, tone),
        )  # fmt: skip
        rows.append(Row(node.name, cells, "○" if i in off else " "))
    return rows


def _tone(is_off: bool) -> Tone:
    return "dim" if is_off else "plain"


def _node_name(site: str, label: str) -> str:
    return f"{site} {label}"


def link_rows(facts: NodeFacts) -> list[Row]:
    """What feeds a node (←) and what it feeds (→)."""
    rows: list[Row] = []
    for link in facts.links:
        by = link.by if link.weight is None else f"{link.weight:+.3g}"
        delta = "" if link.delta is None else f"{link.delta:+z.3f}"
        cells = (Cell("←" if link.step < 0 else "→", "dim"), Cell(link.node), Cell(by, "dim"),
                 Cell(delta))  # fmt: skip
        rows.append(Row(f"{link.step} {link.node} {link.by}", cells))
    return rows


def fact_lines(
    facts: NodeFacts, scale: Scale, *, is_off: bool, bias: float | None = None
) -> list[list[Cell]]:
    """A node in four lines."""
    delta = facts.delta
    worth = (
        [Cell("not measured", "dim")]
        if delta is None
        else [Cell(f" {delta:+z.3f} ", level=scale.level(delta)), Cell(" nats without it", "dim")]
    )
    where = [Cell(" head ", "dim"), Cell(f"{facts.head}"), Cell("  channel ", "dim"),
             Cell(f"{facts.within}")] if facts.head is not None else [
        Cell(" channel ", "dim"), Cell(f"{facts.channel}")]  # fmt: skip
    return [
        [Cell(f" {facts.name}", "strong"), Cell("  off" if is_off else "", "note")],
        [Cell(" "), *worth],
        where,
        [
            Cell(f" {caption.count(facts.in_degree, 'edge')} in, {facts.out_degree} out", "dim"),
            *([] if bias is None else [Cell("  bias ", "dim"), Cell(number(bias))]),
        ],
    ]


def missing_line(is_chosen: bool, error: CircuitError | None) -> list[Cell]:
    """What stands where no circuit is."""
    if error is not None:
        return [Cell(f" {error.message}: press 1 for the catalogue", "bad")]
    if is_chosen:
        return [Cell(" the circuit is on its way", "note")]
    return [Cell(" no circuit is chosen: press 1 for the catalogue", "note")]


def headline(loaded: Loaded) -> list[Cell]:
    """One line about the whole circuit, and what to do where something is missing."""
    name, *rest = _circuit_line(loaded.shown)
    if not loaded.graph.nodes:
        said = "  it keeps no node: press 1 for another circuit, 6 to find one"
        return [name, Cell(said, "note"), *rest]
    if loaded.absent:
        return [name, Cell(f"  without its model: {loaded.absent}", "bad")]
    if not loaded.is_measured:
        return [name, *rest, Cell("  its parts are not measured: press i", "note")]
    return [name, *rest]


def _circuit_line(shown: CircuitShown) -> list[Cell]:
    m = shown.circuit.measured
    verdict = shown.summary.verdict or (shown.card.verdict if shown.card else None)
    return [
        Cell(f" {shown.summary.sweep}/{shown.summary.label}", "strong"),
        Cell(f"  {caption.sizes(m)}"),
        Cell(f"  loss {m.loss:.3f}", "strong"),
        Cell(f" (model {m.model_loss:.3f})", "dim"),
        Cell(f"  {verdict or 'unverified'}", VERDICT_TONES.get(verdict, "dim")),
        Cell(f"  {shown.circuit.ablation}-ablated", "dim"),
    ]
