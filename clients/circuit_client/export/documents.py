"""A circuit as data: JSON that an import takes again, CSV tables of its nodes and edges."""

import csv
import io

import msgspec

from circuit_client.graph import graph_of
from circuit_protocol.circuit_replies import CircuitShown

#: Says in the file what it is; rises when its shape changes.
FORMAT = "circuitd circuit 1"
NODE_COLUMNS = ("site", "channel", "head", "head_channel", "delta")
EDGE_COLUMNS = ("source", "source_channel", "target", "target_channel", "weight", "delta")


def to_json(shown: CircuitShown, *, d_head: int | None = None) -> str:
    """The circuit with its details and card; `circuits import` reads it. Heads are not named."""
    document = {
        "format": FORMAT,
        "summary": shown.summary,
        "circuit": shown.circuit,
        "details": shown.details,
        "card": shown.card,
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def to_csv(shown: CircuitShown, *, d_head: int | None = None) -> str:
    """Both tables, nodes first, an empty line between them."""
    return nodes_csv(shown, d_head=d_head) + "\n" + edges_csv(shown, d_head=d_head)


def nodes_csv(shown: CircuitShown, *, d_head: int | None = None) -> str:
    """One line per kept node; head and head_channel are empty where there are no heads."""
    rows = (
        (n.site, n.channel, n.head, None if n.head is None else n.within, n.delta)
        for n in graph_of(shown, d_head=d_head).nodes
    )
    return _table(NODE_COLUMNS, rows)


def edges_csv(shown: CircuitShown, *, d_head: int | None = None) -> str:
    """One line per edge; deltas in nats, empty where they were not measured."""
    graph = graph_of(shown, d_head=d_head)
    ends = ((graph.nodes[e.source], graph.nodes[e.target], e) for e in graph.edges)
    rows = ((a.site, a.channel, b.site, b.channel, e.weight, e.delta) for a, b, e in ends)
    return _table(EDGE_COLUMNS, rows)


def _table(columns: tuple[str, ...], rows: object) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)  # pyright: ignore[reportArgumentType]  # an iterable of rows
    return out.getvalue()
