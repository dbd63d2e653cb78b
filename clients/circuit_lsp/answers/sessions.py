"""Answers about the session: what this editor, the terminal UI and scripts look at together."""

from msgspec import UNSET

from circuit_client.notation import format_intervention, parse_interventions
from circuit_lsp.messages import Nothing, daemon
from circuit_lsp.messages.shared import Node
from circuit_lsp.workbench import Workbench
from circuit_protocol.errors import ConnectError
from circuit_protocol.session import SelectedNode, SessionPatch, SessionState


def session_message(state: SessionState, attached: int = 0) -> daemon.SessionState:
    """A session as the editor reads it."""
    node = state.node
    return daemon.SessionState(
        name=state.name,
        revision=state.revision,
        model=state.model,
        task=state.task,
        circuit=state.circuit,
        k=state.k,
        node=None if node is None else Node(site=node.site, channel=node.channel),
        interventions=tuple(map(format_intervention, state.interventions)),
        text=state.text,
        attached=attached,
    )


async def get(bench: Workbench, _: Nothing) -> daemon.SessionState:
    """The session as it was heard of last."""
    link = bench.link
    link.connection  # noqa: B018  # raises where there is none
    if link.session is None:
        raise ConnectError("the session is not known yet")
    return session_message(link.session, link.n_attached)


async def update(bench: Workbench, patch: daemon.SessionPatch) -> daemon.SessionState:
    """Change the session for everybody in it."""
    link = bench.link
    node = patch.node
    changed = SessionPatch(
        model=patch.model,
        task=patch.task,
        circuit=patch.circuit,
        k=patch.k,
        node=SelectedNode(site=node.site, channel=node.channel) if isinstance(node, Node) else node,
        interventions=UNSET
        if patch.interventions is UNSET
        else tuple(i for text in patch.interventions for i in parse_interventions(text)),
        text=patch.text,
    )
    state = await link.connection.sessions.update(
        link.session_name, changed, revision=patch.revision
    )
    return session_message(state, link.n_attached)


async def join(bench: Workbench, params: daemon.SessionName) -> daemon.SessionState:
    """Follow another session from now on."""
    await bench.link.join(params.name)
    return await get(bench, Nothing())


async def list_sessions(bench: Workbench, _: Nothing) -> daemon.SessionList:
    """All sessions of the daemon."""
    states = await bench.link.connection.sessions.list()
    return daemon.SessionList(sessions=tuple(map(session_message, states)))


ANSWERS = {
    "circuit/session/get": get,
    "circuit/session/update": update,
    "circuit/session/join": join,
    "circuit/session/list": list_sessions,
}
