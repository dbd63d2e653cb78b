"""A node of a circuit in lines: its facts, then what feeds it and what it feeds, a line each."""

from collections.abc import Sequence

from circuit_client import caption
from circuit_client.render.style import Line, Span
from circuit_client.render.table import Cell, Column, facts, table
from circuit_client.render.text_width import truncate
from circuit_client.views.ego import Link
from circuit_client.views.node import NodeFacts

_NOTE = (
    "delta, in nats: of an edge, what cutting it adds to the loss; along the residual stream, "
    "what ablating the node at the other end adds"
)


def node_lines(node: NodeFacts, *, columns: int, ascii_only: bool = False) -> list[Line]:
    """The node in lines no wider than `columns`."""
    where = "after the last layer" if node.layer is None else f"layer {node.layer}"
    worth = "not measured (`circuit circuits measure` does)"
    pairs: list[tuple[str, Cell]] = [
        ("node", Span(node.name, bold=True)),
        ("place", f"{where}, {node.kind}, channel {node.channel}"),
    ]
    if node.head is not None:
        pairs.append(("head", f"{node.head}, its channel {node.within}"))
    if node.delta is not None:
        worth = f"{node.delta:+z.4f} nats without it"
    pairs += [
        ("worth", worth),
        ("degree", f"{caption.count(node.in_degree, 'edge')} in, {node.out_degree} out"),
    ]
    lines = facts(pairs)
    arrows = ("<-", "->") if ascii_only else ("←", "→")
    for title, arrow, links in zip(
        ("inputs", "outputs"), arrows, (node.inputs, node.outputs), strict=True
    ):
        lines += [(), *_links(title, arrow, links, columns)]
    if node.links:
        lines += [(), *((Span(text, color="dim"),) for text in _wrapped(_NOTE, columns))]
    return lines


def _links(title: str, arrow: str, links: Sequence[Link], columns: int) -> list[Line]:
    if not links:
        text = f"no {title}: nothing of the circuit is joined to it on this side"
        return [(Span(truncate(text, columns), color="dim"),)]
    headings = [
        Column(arrow),
        Column(title, shrink=True),
        Column("by"),
        Column("weight", "right"),
        Column("delta", "right"),
    ]
    rows = [
        (
            "",
            link.node,
            link.by,
            "" if link.weight is None else f"{link.weight:+.4g}",
            "" if link.delta is None else f"{link.delta:+z.4f}",
        )
        for link in links
    ]
    return table(headings, rows, width_max=columns)


def _wrapped(text: str, columns: int) -> list[str]:
    from textwrap import wrap

    return wrap(text, max(8, columns))
