"""`circuit circuits node | card`: one node of a circuit, and the verdict on it, printed."""

import difflib
from typing import Any

import click

from circuit_client.cli.arguments import CircuitName
from circuit_client.cli.circuit_changes import read_node
from circuit_client.cli.circuit_drawing import head_width
from circuit_client.cli.command import command
from circuit_client.cli.output import Output
from circuit_client.cli.verify import EXIT_CODES
from circuit_client.graph import Graph, graph_of
from circuit_client.render.card import card_head, card_lines
from circuit_client.render.node import node_lines
from circuit_client.sync import Connection
from circuit_client.views.ego import Link
from circuit_client.views.node import NodeFacts, node_facts
from circuit_protocol.errors import NotFound

_circuit = click.argument("circuit", type=CircuitName())
_model = click.option("-m", "--model", metavar="MODEL", help="Only circuits of this model.")


@command(
    "node",
    examples=[
        "circuit circuits node 3f9a21 '10.attn.v[656]'",
        "circuit circuits node single_double_quote/shipped/34 0.attn.v:219 --plain",
        "circuit circuits node 3f9a21 10.attn.v:656 --json | jq -r '.inputs[].node'",
    ],
)
@_circuit
@click.argument("node")
@_model
def node(c: Connection, out: Output, circuit: str, node: str, model: str | None) -> None:
    """Where a node of a circuit is, what it is worth, what feeds it and what it feeds.

    NODE is SITE[CHANNEL] or SITE:CHANNEL, like 10.attn.v:656. Inputs and outputs are the circuit's
    edges, with their weights, and what the residual stream carries from node to node.
    """
    place = read_node(node)
    shown = c.circuits.show(circuit, model=model)
    graph = graph_of(shown, d_head=head_width(c, shown))
    index = graph.index.get(place)
    if index is None:
        raise _not_kept(graph, *place, circuit)
    facts = node_facts(graph, index)
    out.give(
        {"circuit": shown.summary.id, **_document(facts)},
        lambda: node_lines(facts, columns=out.columns, ascii_only=out.ascii_only),
    )


def _not_kept(graph: Graph, site: str, channel: int, circuit: str) -> NotFound:
    asked = f"{site}[{channel}]"
    near = difflib.get_close_matches(asked, [n.name for n in graph.nodes], n=3, cutoff=0.0)
    return NotFound(
        "the circuit does not keep this node",
        asked=asked,
        nearest=tuple(near),
        hint=f"`circuit circuits show {circuit} --all` draws every node it keeps",
    )


def _document(facts: NodeFacts) -> dict[str, Any]:
    return {
        "node": facts.name,
        "site": facts.site,
        "channel": facts.channel,
        "layer": facts.layer,
        "kind": facts.kind,
        "head": facts.head,
        "within": facts.within,
        "delta": facts.delta,
        "in_degree": facts.in_degree,
        "out_degree": facts.out_degree,
        "inputs": [_link(link) for link in facts.inputs],
        "outputs": [_link(link) for link in facts.outputs],
    }


def _link(link: Link) -> dict[str, Any]:
    return {"node": link.node, "by": link.by, "weight": link.weight, "delta": link.delta}


@command(
    "card",
    examples=[
        "circuit circuits card 3f9a21",
        "circuit circuits card with_as/learned-mean-0/40 --json | jq -r .verdict",
    ],
)
@_circuit
@_model
def card(c: Connection, out: Output, circuit: str, model: str | None) -> int:
    """Print a circuit's verification card: the verdict, its reasons, every control.

    Exit codes as `circuit verify` has them: 0 supported, 3 "not supported", 4 "depends".
    """
    shown = c.circuits.show(circuit, model=model)
    found = shown.card
    if found is None:
        raise NotFound(
            "this circuit has no card: it was never put to its controls",
            asked=circuit,
            hint=f"`circuit verify {shown.summary.id}` makes one",
        )
    out.give(
        found,
        lambda: [
            *card_head(shown),
            (),
            *card_lines(found, columns=out.columns, ascii_only=out.ascii_only),
        ],
    )
    return EXIT_CODES[found.verdict]
