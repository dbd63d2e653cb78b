"""`circuit sessions`."""

from typing import Any

import click

from circuit_client.cli.arguments import CircuitName
from circuit_client.cli.command import command, group
from circuit_client.cli.output import Output, sentence
from circuit_client.notation import format_intervention, parse_interventions, parse_nodes
from circuit_client.render.style import Line
from circuit_client.render.table import Column, facts, table
from circuit_client.sync import Connection
from circuit_protocol.session import SelectedNode, SessionPatch, SessionState

_session = click.argument("session")


@group("sessions")
def sessions() -> None:
    """Looks at a model that several clients share."""


@command("list", examples=["circuit sessions list"])
def list_sessions(c: Connection, out: Output) -> None:
    """The sessions there are."""
    found = c.sessions.list()
    out.give({"sessions": found}, lambda: _list_lines(found, out))


def _list_lines(found: tuple[SessionState, ...], out: Output) -> list[Line]:
    if not found:
        return sentence("no sessions")
    columns = [
        Column("session", shrink=True),
        Column("revision", "right"),
        Column("model", shrink=True),
        Column("task", shrink=True),
        Column("circuit", shrink=True),
    ]
    rows = [(s.name, str(s.revision), s.model or "", s.task or "", s.circuit or "") for s in found]
    return table(columns, rows, width_max=out.columns)


@command("get", examples=["circuit sessions get mine --json"])
@_session
def get(c: Connection, out: Output, session: str) -> None:
    """The state of one session."""
    state = c.sessions.get(session)
    out.give(state, lambda: _state_lines(state))


def _state_lines(state: SessionState) -> list[Line]:
    node = state.node
    shown: list[tuple[str, Any]] = [
        ("session", f"{state.name}, revision {state.revision}"),
        ("model", state.model),
        ("task", state.task),
        ("circuit", state.circuit),
        ("k", state.k),
        ("node", None if node is None else f"{node.site}[{node.channel}]"),
        *(("intervention", format_intervention(i)) for i in state.interventions),
        ("text", state.text),
    ]
    return facts([(name, str(value)) for name, value in shown if value is not None])


@command("attach", examples=["circuit sessions attach mine", "circuit sessions attach mine --json"])
@_session
def attach(c: Connection, out: Output, session: str) -> None:
    """Follow a session until it is closed (Ctrl-C stops following)."""
    for event in c.sessions.attach(session):
        if out.json:
            out.line(event)
        else:
            out.show([*_state_lines(event.state), ()])


@command(
    "update",
    examples=[
        "circuit sessions update mine --task with_as --k 12",
        "circuit sessions update mine --create --circuit 3f9a21",
        "circuit sessions update mine --node '2.mlp.post_act[3]' --unset text",
    ],
)
@_session
@click.option("--model", metavar="MODEL")
@click.option("--task", metavar="TASK")
@click.option("--circuit", type=CircuitName(), metavar="CIRCUIT",
              help="Select a circuit: model, task and k become its own, if not given.")  # fmt: skip
@click.option("--k", type=int)
@click.option("--node", metavar="NODE", help="Like 2.mlp.post_act[3].")
@click.option("--text", metavar="TEXT")
@click.option("-i", "--interventions", multiple=True, metavar="WHAT", help="Replace all of them.")
@click.option("--unset", multiple=True, help="Empty this field.",
              type=click.Choice(["model", "task", "circuit", "k", "node", "text",
                                 "interventions"]))  # fmt: skip
@click.option("--revision", type=int, help="Only if this is still the current one.")
@click.option("--create", is_flag=True, help="Make the session if there is none.")
def update(
    c: Connection,
    out: Output,
    session: str,
    node: str | None,
    interventions: tuple[str, ...],
    unset: tuple[str, ...],
    revision: int | None,
    create: bool,
    **fields: Any,
) -> None:
    """Change fields of a session; everyone attached sees it."""
    changes = {name: value for name, value in fields.items() if value is not None}
    if fields["circuit"] is not None:
        changes = _selected(c, fields["circuit"], changes.get("model")) | changes
        changes["circuit"] = changes.pop("id")
    if node is not None:
        selected = parse_nodes(node)
        if len(selected) != 1 or len(selected[0].channels or ()) != 1:
            raise click.BadParameter("Give one node, like 2.mlp.post_act[3].", param_hint="--node")
        place = selected[0]
        changes["node"] = SelectedNode(site=place.site, channel=(place.channels or (0,))[0])
    if interventions:
        changes["interventions"] = tuple(i for t in interventions for i in parse_interventions(t))
    changes |= {name: () if name == "interventions" else None for name in unset}
    if not changes:
        raise click.UsageError("Nothing to change.")
    if create:
        with c.sessions.attach(session) as attached:
            next(attached)  # it lives on until it is closed
    state = c.sessions.update(session, SessionPatch(**changes), revision=revision)
    out.give(state, lambda: _state_lines(state))


def _selected(c: Connection, circuit: str, model: str | None) -> dict[str, Any]:
    """What a circuit says of itself, so that all who are attached look at the same thing."""
    found = c.circuits.show(circuit, model=model).summary
    return {"id": found.id, "model": found.model, "task": found.task, "k": found.measured.k}


@command("close", examples=["circuit sessions close mine"])
@_session
def close(c: Connection, out: Output, session: str) -> None:
    """End a session; attached clients are told."""
    changed = c.sessions.close(session)
    out.give({"changed": changed}, lambda: sentence("closed" if changed else "it was closed"))


for _command in (list_sessions, get, attach, update, close):
    sessions.add_command(_command)
