"""`circuit circuits`: the group, and looking at the catalogue, at one circuit, at two."""

from typing import Any

import click

from circuit_client.as_json import public
from circuit_client.cli.arguments import CircuitName, ModelName, TaskName
from circuit_client.cli.circuit_drawing import draw
from circuit_client.cli.command import command, group
from circuit_client.cli.output import Output, sentence
from circuit_client.render.card import card_lines
from circuit_client.render.circuit_tables import (
    catalogue_lines,
    diff_lines,
    fact_lines,
    loss_against_k,
    pruning_curve,
)
from circuit_client.render.style import Line
from circuit_client.sync import Connection
from circuit_protocol.circuits import CircuitSummary

circuit_argument = click.argument("circuit", type=CircuitName())
#: `--model` where it only narrows what a circuit's name may mean.
model_filter = click.option("-m", "--model", type=ModelName(), metavar="MODEL",
                            help="Only circuits of this model.")  # fmt: skip


@group("circuits")
def circuits() -> None:
    """Circuits that were found: list, draw, compare, change, export, import.

    CIRCUIT is an id, the beginning of one, or TASK/SWEEP/LABEL, as `circuit circuits list` shows
    them.
    """


@command(
    "list",
    examples=[
        "circuit circuits list",
        "circuit circuits list --task single_double_quote --curve",
        "circuit circuits list --sweep learned-mean-0 --json | jq '.circuits[].id'",
    ],
)
@model_filter
@click.option("-t", "--task", type=TaskName(), metavar="TASK", help="Only this task's.")
@click.option("--sweep", metavar="NAME", help="Only of this sweep.")
@click.option("--k", type=int, metavar="K", help="Only of this many nodes.")
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=1000,
    show_default=True,
    help="Circuits at most.",
)
@click.option("--curve", is_flag=True, help="Also draw loss against k.")
def list_circuits(c: Connection, out: Output, curve: bool, **filters: Any) -> None:
    """The catalogue, newest first."""
    found = c.circuits.list(**filters)
    is_filtered = any(filters[name] is not None for name in ("model", "task", "sweep", "k"))
    out.give({"circuits": found}, lambda: _list_lines(found, is_filtered, curve, out))


def _list_lines(
    found: tuple[CircuitSummary, ...], is_filtered: bool, curve: bool, out: Output
) -> list[Line]:
    if not found and is_filtered:
        return sentence("no circuit is like this (without options, all are listed)")
    if not found:
        return sentence("no circuits (`circuit prune --task TASK` finds one)")
    lines = catalogue_lines(found, columns=out.columns)
    if curve:
        sound = [s for s in found if s.broken is None]
        lines += [(), *loss_against_k(sound, columns=out.columns, ascii_only=out.ascii_only)]
    return lines


@command(
    "show",
    examples=[
        "circuit circuits show 3f9a21",
        "circuit circuits show with_as/learned-mean-0/40 --all --color always | less -R",
        "circuit circuits show 3f9a21 --card --curve",
    ],
)
@circuit_argument
@model_filter
@click.option("--all", "whole", is_flag=True, help="Every node and edge, not only the strongest.")
@click.option("--facts", is_flag=True, help="How it was found and how good it is, no drawing.")
@click.option("--card", is_flag=True, help="Also its verification card.")
@click.option("--curve", is_flag=True, help="Also loss and size while it was pruned.")
def show(
    c: Connection,
    out: Output,
    circuit: str,
    model: str | None,
    whole: bool,
    facts: bool,
    card: bool,
    curve: bool,
) -> None:
    """Draw a circuit: layer by layer its nodes, with their ablation deltas, and its edges."""
    shown = c.circuits.show(circuit, model=model)
    if out.json:
        out.document(public(shown))
        return
    lines = fact_lines(shown) if facts else draw(c, out, shown, whole=whole)
    if curve and shown.details is not None and shown.details.curve:
        steps = shown.details.curve
        lines += [(), *pruning_curve(steps, columns=out.columns, ascii_only=out.ascii_only)]
    if card:
        lines.append(())
        if shown.card is None:
            lines += sentence(f"no card yet (`circuit verify {shown.summary.id}` makes one)")
        else:
            lines += card_lines(shown.card, columns=out.columns, ascii_only=out.ascii_only)
    out.show(lines)


@command(
    "diff",
    examples=["circuit circuits diff 3f9a21 77c01b", "circuit circuits diff 3f9a 77c0 --limit 40"],
)
@click.argument("before", type=CircuitName())
@click.argument("after", type=CircuitName())
@model_filter
@click.option("--limit", type=int, default=12, show_default=True, help="Lines of each list.")
def diff(
    c: Connection, out: Output, before: str, after: str, model: str | None, limit: int
) -> None:
    """What one circuit has and the other has not: nodes, edges, loss, importances."""
    answer = c.circuits.diff(before, after, model=model)
    out.give(answer, lambda: diff_lines(answer, columns=out.columns, limit=limit))


@command("delete", examples=["circuit circuits delete 3f9a21"])
@circuit_argument
@model_filter
def delete(c: Connection, out: Output, circuit: str, model: str | None) -> None:
    """Remove a circuit's files; shipped ones are refused."""
    changed = c.circuits.delete(circuit, model=model)
    out.give({"changed": changed}, lambda: sentence("deleted" if changed else "it was gone"))


def _assemble() -> None:
    """Put the group together; its other commands are in modules of their own."""
    from circuit_client.cli import circuit_changes, circuit_files, circuit_reading, circuit_samples

    for found in (
        *(list_circuits, show, circuit_reading.node, circuit_reading.card, diff),
        *(circuit_changes.measure, circuit_changes.edit),
        *(circuit_changes.union, circuit_changes.intersection),
        *(circuit_samples.samples, circuit_samples.attention),
        *(circuit_files.export, circuit_files.import_, delete),
    ):
        circuits.add_command(found)


_assemble()
