"""The custom messages between an editor and the language server: one table of methods.

Documented in docs/lsp.md and declared for TypeScript in editors/vscode; both are generated from
these structs, and a test keeps them equal.
"""

from typing import Final, Literal, NamedTuple

from circuit_lsp.messages import circuits, commands, daemon, documents, shared
from circuit_lsp.messages.settings import Settings
from circuit_lsp.messages.shared import Message, Nothing, Problem


class Method(NamedTuple):
    """A method: what it carries, what answers it (None: a notification), and what it is for."""

    params: type[Message]
    result: type[Message] | None
    sent_by: Literal["client", "server"]
    summary: str


def _asked(params: type[Message], result: type[Message], summary: str) -> Method:
    return Method(params, result, "client", summary)


def _told(params: type[Message], summary: str) -> Method:
    return Method(params, None, "server", summary)


METHODS: Final[dict[str, Method]] = {
    # The daemon.
    "circuit/status": _asked(
        Nothing, daemon.DaemonStatus, "Is there a daemon, and how does it do?"
    ),
    "circuit/statusChanged": _told(
        daemon.DaemonStatus, "The line to the daemon came up or went down, or its load changed."
    ),
    "circuit/daemon/connect": _asked(
        daemon.ConnectParams, daemon.DaemonStatus, "Choose an endpoint, try again, or hang up."
    ),
    "circuit/daemon/start": _asked(
        Nothing, daemon.DaemonStatus, "Run `circuitd start` on the server's machine and connect."
    ),
    "circuit/daemon/stop": _asked(
        daemon.StopParams, daemon.DaemonStatus, "End the daemon; jobs resume at its next start."
    ),
    # Text.
    "circuit/document/watch": _asked(
        documents.WatchParams, documents.Heat, "Turn heat on, off or to another number."
    ),
    "circuit/document/heat": _asked(
        documents.DocumentParams, documents.Heat, "The heat of a document as far as it is known."
    ),
    "circuit/heat": _told(
        documents.Heat, "Fresh heat of a watched document, or why there is none any more."
    ),
    "circuit/document/focus": Method(
        documents.FocusParams, None, "client", "The cursor moved in a long document."
    ),
    "circuit/document/token": _asked(
        documents.TokenParams, documents.TokenDetail, "One token: scores, predictions, nodes."
    ),
    "circuit/document/explain": _asked(
        documents.ExplainParams, documents.Explanation, "Which nodes carry this prediction?"
    ),
    "circuit/document/ablate": _asked(
        documents.AblateParams, documents.AblationEffect, "What does this prediction do without?"
    ),
    # The session.
    "circuit/session/get": _asked(Nothing, daemon.SessionState, "The session this editor is in."),
    "circuit/session/update": _asked(
        daemon.SessionPatch, daemon.SessionState, "Change fields of the session, for everybody."
    ),
    "circuit/session/join": _asked(
        daemon.SessionName, daemon.SessionState, "Leave this session and follow another."
    ),
    "circuit/session/list": _asked(Nothing, daemon.SessionList, "The sessions there are."),
    "circuit/sessionChanged": _told(
        daemon.SessionState, "Somebody changed the session, or this editor did."
    ),
    # The catalogue.
    "circuit/models/list": _asked(Nothing, daemon.ModelList, "Models, resident or not."),
    "circuit/models/load": _asked(daemon.ModelParams, daemon.ModelList, "Make a model resident."),
    "circuit/models/unload": _asked(daemon.ModelParams, daemon.ModelList, "Free a model now."),
    "circuit/models/pin": _asked(daemon.PinParams, daemon.ModelList, "Pin or unpin a model."),
    "circuit/tasks/list": _asked(Nothing, daemon.TaskList, "Tasks, built in and from files."),
    "circuit/tasks/show": _asked(daemon.TaskParams, daemon.TaskDetail, "A task and some pairs."),
    "circuit/cache/list": _asked(Nothing, daemon.CacheList, "What the daemon remembers."),
    "circuit/cache/clear": _asked(daemon.CacheParams, daemon.CacheList, "Forget some or all."),
    "circuit/catalogueChanged": _told(
        daemon.CatalogueChanged, "Some of the lists are not what they were."
    ),
    # Jobs.
    "circuit/jobs/list": _asked(daemon.ListParams, daemon.JobList, "Jobs, newest first."),
    "circuit/jobs/cancel": _asked(daemon.JobParams, daemon.Changed, "End a job within one step."),
    "circuit/jobs/prune": _asked(daemon.PruneParams, daemon.JobInfo, "Find a circuit, as a job."),
    "circuit/jobs/verify": _asked(daemon.VerifyParams, daemon.JobInfo, "Doubt one, as a job."),
    "circuit/jobChanged": _told(
        daemon.JobInfo, "How far a job of this editor is, at most five times a second; its end."
    ),
    # Circuits.
    "circuit/circuits/list": _asked(
        circuits.CircuitFilter, circuits.CircuitList, "The circuits there are."
    ),
    "circuit/circuits/show": _asked(
        circuits.CircuitParams, circuits.CircuitGraph, "One circuit as a graph."
    ),
    "circuit/circuits/measure": _asked(
        circuits.CircuitParams,
        circuits.CircuitGraph,
        "Measure its edges and deltas, and store them.",
    ),
    "circuit/circuits/draw": _asked(
        circuits.DrawParams, circuits.Drawing, "One circuit in lines of text."
    ),
    "circuit/circuits/masks": _asked(
        circuits.MasksParams, circuits.MaskTable, "Which nodes are kept, across budgets k."
    ),
    "circuit/circuits/edit": _asked(
        circuits.EditParams, circuits.EditResult, "Toggle nodes and edges, and measure."
    ),
    "circuit/circuits/compare": _asked(
        circuits.CompareParams, circuits.Comparison, "What differs between two circuits."
    ),
    "circuit/circuits/export": _asked(
        circuits.ExportParams, circuits.Export, "A circuit as a file, or as Python."
    ),
    "circuit/circuits/delete": _asked(
        circuits.CircuitParams, daemon.Changed, "Remove a circuit's files."
    ),
    "circuit/node/samples": _asked(
        circuits.SamplesParams, circuits.NodeSamples, "Where a node is active."
    ),
}

#: Structs that travel outside of methods: the settings, and the `data` of an error response.
OTHERS: Final[tuple[type[Message], ...]] = (Settings, Problem)

__all__ = [
    "METHODS",
    "OTHERS",
    "Message",
    "Method",
    "Nothing",
    "Settings",
    "circuits",
    "commands",
    "daemon",
    "documents",
    "shared",
]
