"""`circuit circuits measure | edit | union | intersection`: new numbers, new circuits."""

import re
from typing import Any

import click

from circuit_client.as_json import public
from circuit_client.cli.arguments import CircuitName, run_options
from circuit_client.cli.circuit_drawing import draw
from circuit_client.cli.command import command
from circuit_client.cli.output import Output
from circuit_client.notation import parse_nodes
from circuit_client.render.circuit_tables import derived_lines
from circuit_client.sync import Connection
from circuit_protocol.circuit_replies import CircuitDerived
from circuit_protocol.interventions import SiteChannels
from circuit_protocol.messages import Edge

_NODES = re.compile(r"(?P<site>[^\s:\[\]]+):(?P<channels>\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*)")
_EDGE = re.compile(r"(\S+?)[:\[](\d+)\]?\s*->\s*(\S+?)[:\[](\d+)\]?")


@command(
    "measure", examples=["circuit circuits measure 3f9a21", "circuit circuits measure 3f9a21 -n 64"]
)
@click.argument("circuit", type=CircuitName())
@click.option("-n", "--pairs", "n_pairs", type=click.IntRange(1, 4096), default=32,
              show_default=True, help="Pairs of prompts to measure on.")  # fmt: skip
@click.option("--edges/--no-edges", default=True, help="Whether each edge is measured, too.")
@run_options
def measure(c: Connection, out: Output, circuit: str, model: str | None, **options: Any) -> None:
    """Compute what each node, edge and half block of a circuit is worth, and store it."""
    model = model_of(c, circuit, model)
    shown = c.circuits.measure(circuit, model, progress=out.progress, **options)
    out.give(public(shown), lambda: draw(c, out, shown))


@command(
    "edit",
    examples=[
        "circuit circuits edit 3f9a21 --drop 0.mlp.post_act:863",
        "circuit circuits edit 3f9a21 --drop 2.attn.v:16-20 --add 2.attn.k:7,9 --save",
        "circuit circuits edit 3f9a21 --drop-edge '0.mlp.act_in:5 -> 0.mlp.post_act:863'",
    ],
)
@click.argument("circuit", type=CircuitName())
@click.option("--drop", multiple=True, metavar="SITE:CH[,CH]", help="Drop these nodes.")
@click.option("--add", multiple=True, metavar="SITE:CH[,CH]", help="Add these nodes.")
@click.option("--drop-edge", "drop_edges", multiple=True, metavar="'SITE:CH -> SITE:CH'",
              help="Cut this edge.")  # fmt: skip
@click.option("--add-edge", "add_edges", multiple=True, metavar="'SITE:CH -> SITE:CH'",
              help="Restore this edge.")  # fmt: skip
@click.option("--save", is_flag=True, help="Keep the result in the catalogue.")
@click.option("--sweep", default="edited", show_default=True, help="Where --save puts it.")
@run_options
def edit(
    c: Connection,
    out: Output,
    circuit: str,
    drop: tuple[str, ...],
    add: tuple[str, ...],
    drop_edges: tuple[str, ...],
    add_edges: tuple[str, ...],
    model: str | None,
    **options: Any,
) -> None:
    """Drop or add nodes and see the loss answer at once."""
    if not (drop or add or drop_edges or add_edges):
        raise click.UsageError("Give --drop, --add, --drop-edge or --add-edge.")
    derived = c.circuits.edit(
        circuit,
        model_of(c, circuit, model),
        drop=[node for text in drop for node in read_nodes(text)],
        add=[node for text in add for node in read_nodes(text)],
        drop_edges=[read_edge(text) for text in drop_edges],
        add_edges=[read_edge(text) for text in add_edges],
        progress=out.progress,
        **options,
    )
    _give(derived, circuit, out)


def _combining(how: str, words: str) -> Any:
    @command(
        how,
        examples=[
            f"circuit circuits {how} 3f9a21 77c01b",
            f"circuit circuits {how} 3f9a 77c0 9b12 --save --sweep seeds",
        ],
    )
    @click.argument("names", nargs=-1, type=CircuitName(), metavar="CIRCUIT CIRCUIT...")
    @click.option("--save", is_flag=True, help="Keep the result in the catalogue.")
    @click.option("--sweep", default="combined", show_default=True, help="Where --save puts it.")
    @run_options
    def combine(
        c: Connection, out: Output, names: tuple[str, ...], model: str | None, **options: Any
    ) -> None:
        if len(names) < 2:
            raise click.UsageError("Give two circuits or more.")
        verb = c.circuits.union if how == "union" else c.circuits.intersection
        chosen = model_of(c, names[0], model)
        derived = verb(*names, model=chosen, progress=out.progress, **options)
        _give(derived, names[0], out)

    combine.help = words
    return combine


union = _combining("union", "All nodes of two or more circuits of one model and task, measured.")
intersection = _combining("intersection", "The nodes that two or more circuits share, measured.")


def model_of(c: Connection, circuit: str, model: str | None) -> str:
    """The model named, else the circuit's own (not the daemon's default, which may differ)."""
    return c.circuits.show(circuit).circuit.model if model is None else model


def _give(derived: CircuitDerived, origin: str, out: Output) -> None:
    m = derived.circuit.measured
    document = {
        "nodes": m.k,
        "edges": m.n_edges,
        "loss": m.loss,
        "loss_before": m.loss - derived.delta,
        "delta": derived.delta,
        "accuracy": m.accuracy,
        **public(derived),
    }
    out.give(document, lambda: derived_lines(derived, origin, ascii_only=out.ascii_only))


def read_nodes(text: str) -> tuple[SiteChannels, ...]:
    """Nodes as `SITE:CH,CH`, or in the notation of nodes, `SITE[CH,CH]`."""
    match = _NODES.fullmatch(text.strip())
    return parse_nodes(text if match is None else f"{match['site']}[{match['channels']}]")


def read_node(text: str) -> tuple[str, int]:
    """Site and channel of one node, as `SITE:CH` or `SITE[CH]`. Raises UsageError."""
    places = read_nodes(text)
    if len(places) != 1 or len(places[0].channels or ()) != 1:
        raise click.UsageError("Give one node, like 2.mlp.post_act[863].")
    (channel,) = places[0].channels or (0,)
    return places[0].site, channel


def read_edge(text: str) -> Edge:
    """An edge as `SITE:CH -> SITE:CH`. Raises UsageError."""
    match = _EDGE.fullmatch(text.strip())
    if match is None:
        raise click.UsageError(f"`{text}` is no edge like '0.mlp.act_in:5 -> 0.mlp.post_act:863'.")
    source, a, target, b = match.groups()
    return Edge(source=source, source_channel=int(a), target=target, target_channel=int(b))
