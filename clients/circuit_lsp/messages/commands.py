"""Commands of `workspace/executeCommand`: each takes one object, and answers with one.

They are what code actions, code lenses and links of hovers run, so that an editor without any code
of ours can act. What a command found is also told as a message.
"""

from typing import Final, NamedTuple

from circuit_lsp.messages.circuits import CircuitParams, Drawing, DrawParams
from circuit_lsp.messages.daemon import (
    Changed,
    DaemonStatus,
    JobInfo,
    JobParams,
    PruneParams,
    SessionPatch,
    SessionState,
    TaskParams,
    VerifyParams,
)
from circuit_lsp.messages.documents import (
    AblateParams,
    AblationEffect,
    ExplainParams,
    Explanation,
    Heat,
    WatchParams,
)
from circuit_lsp.messages.shared import Message, Nothing, Range


class HintsParams(Message, frozen=True, kw_only=True):
    """Show the heat's number behind each token, or not."""

    on: bool = True


class TextParams(Message, frozen=True, kw_only=True):
    """A stretch of an open document."""

    uri: str
    range: Range


class TaskRunParams(Message, frozen=True, kw_only=True):
    """Score the model on a task, or a circuit of it; `n` pairs of the held-out split."""

    task: str
    circuit: str | None = None
    n: int = 256


class TaskRun(Message, frozen=True, kw_only=True):
    """Losses per side in nats, and the share of answers that are right."""

    task: str
    model: str
    circuit: str | None
    loss: float
    accuracy: float | None
    model_loss: float | None
    sentence: str


class PairParams(Message, frozen=True, kw_only=True):
    """Run one pair; with a circuit, all nodes outside it are ablated."""

    prompts: tuple[str, str]
    targets: tuple[str, str]
    circuit: str | None = None


class PairRun(Message, frozen=True, kw_only=True):
    """How likely the right answer is of the two, on each side."""

    probabilities: tuple[float, float]
    sentence: str


class PairTaken(Message, frozen=True, kw_only=True):
    """One side of a pair of prompts is remembered, or the pair was written to `file`."""

    prompt: str
    target: str
    file: str | None
    sentence: str


class Command(NamedTuple):
    """A command: its one argument, its result, and what a menu calls it."""

    params: type[Message]
    result: type[Message]
    title: str


COMMANDS: Final[dict[str, Command]] = {
    "circuit.heat": Command(WatchParams, Heat, "Heat on or off"),
    "circuit.hints": Command(HintsParams, HintsParams, "Numbers behind tokens on or off"),
    "circuit.explain": Command(ExplainParams, Explanation, "Explain this prediction"),
    "circuit.ablate": Command(AblateParams, AblationEffect, "Ablate nodes here"),
    "circuit.select": Command(SessionPatch, SessionState, "Select in the session"),
    "circuit.showCircuit": Command(DrawParams, Drawing, "Show a circuit as text"),
    "circuit.runTask": Command(TaskRunParams, TaskRun, "Run a task"),
    "circuit.runPair": Command(PairParams, PairRun, "Run a pair"),
    "circuit.showTask": Command(TaskParams, Drawing, "Show pairs of a task"),
    "circuit.takeSide": Command(TextParams, PairTaken, "Take as one side of a task pair"),
    "circuit.prune": Command(PruneParams, JobInfo, "Find a circuit of this task"),
    "circuit.verify": Command(VerifyParams, JobInfo, "Put a circuit to its controls"),
    "circuit.measure": Command(CircuitParams, Drawing, "Measure a circuit's parts"),
    "circuit.cancelJob": Command(JobParams, Changed, "Cancel a job"),
    "circuit.startDaemon": Command(Nothing, DaemonStatus, "Start a daemon"),
}
