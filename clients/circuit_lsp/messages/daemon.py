"""Messages about the daemon: its state, what it holds, sessions, and jobs."""

from typing import Literal

import msgspec

from circuit_lsp.messages.shared import Message, Node, Problem

#: `absent`: none runs. `refused`: one runs and does not want us. `off`: the user hung up.
LinkState = Literal["connected", "connecting", "absent", "refused", "incompatible", "off"]
JobState = Literal["queued", "running", "done", "failed", "cancelled"]
Catalogue = Literal["models", "tasks", "circuits", "jobs", "cache", "sessions"]


class ResidentModel(Message, frozen=True, kw_only=True):
    """A loaded model. `expires_in_s` null: never. `execution`: how its passes run, in words."""

    model: str
    device: str
    dtype: str
    nbytes: int
    pinned: bool
    expires_in_s: float | None
    in_use: int
    execution: str


class DaemonStatus(Message, frozen=True, kw_only=True):
    """Whether there is a daemon, and how it does. `sentence` is for people; `hint` what to do."""

    state: LinkState
    sentence: str
    hint: str | None = None
    #: The machine that this language server runs on.
    host: str = ""
    endpoint: str | None = None
    #: Like `circuitd 0.1.0`.
    server: str | None = None
    protocol_version: str | None = None
    #: Names this life of the daemon: another one means that it was started anew.
    instance: str | None = None
    pid: int | None = None
    session: str | None = None
    #: The model that documents are read with.
    model: str | None = None
    #: Whether `circuit/daemon/start` can do anything here.
    can_start: bool = False
    clients: int = 0
    queued: int = 0
    running: int = 0
    jobs_unfinished: int = 0
    used_nbytes: int = 0
    budget_nbytes: int = 0
    resident: tuple[ResidentModel, ...] = ()


class ConnectParams(Message, frozen=True, kw_only=True):
    """Use another endpoint from now on; without one, what the settings say.

    `key` and `server_key` are files, for tcp with CURVE. `here`: the daemon that runs on this
    machine, whatever the settings say. `off` hangs up and stays so.
    """

    endpoint: str | None = None
    key: str | None = None
    server_key: str | None = None
    here: bool = False
    off: bool = False


class StopParams(Message, frozen=True, kw_only=True):
    """End the daemon; `drain` lets accepted work finish first."""

    drain: bool = True


class ListParams(Message, frozen=True, kw_only=True):
    """At most `limit` entries, newest first."""

    limit: int = 200


class ModelInfo(Message, frozen=True, kw_only=True):
    """A model that the daemon has. `broken` says why it cannot be used."""

    name: str
    n_layer: int
    d_model: int
    n_nodes: int
    nbytes_on_disk: int
    is_default: bool
    resident: ResidentModel | None
    broken: str | None


class ModelList(Message, frozen=True, kw_only=True):
    """Answers `circuit/models/list`."""

    models: tuple[ModelInfo, ...]


class ModelParams(Message, frozen=True, kw_only=True):
    """One model by name."""

    model: str


class PinParams(Message, frozen=True, kw_only=True):
    """Exempt a resident model from eviction, or undo that."""

    model: str
    pinned: bool = True


class TaskInfo(Message, frozen=True, kw_only=True):
    """A task. `source` is `built-in` or the path of its file; `n_circuits` of the model in use."""

    name: str
    description: str
    source: str
    n_circuits: int


class TaskList(Message, frozen=True, kw_only=True):
    """Answers `circuit/tasks/list`."""

    tasks: tuple[TaskInfo, ...]


class TaskParams(Message, frozen=True, kw_only=True):
    """One task, and how many of its pairs."""

    task: str
    n: int = 3


class TaskPair(Message, frozen=True, kw_only=True):
    """A pair: two prompts that differ, and the right next token of each."""

    prompts: tuple[str, str]
    targets: tuple[str, str]


class TaskDetail(Message, frozen=True, kw_only=True):
    """Answers `circuit/tasks/show`."""

    task: TaskInfo
    pairs: tuple[TaskPair, ...]


class CacheInfo(Message, frozen=True, kw_only=True):
    """One kind of cache."""

    kind: Literal["models", "activations", "results", "artefacts", "tokenizers"]
    entries: int
    nbytes: int
    budget_nbytes: int
    disk_nbytes: int
    hits: int
    misses: int
    evictions: int


class CacheList(Message, frozen=True, kw_only=True):
    """Answers `circuit/cache/list` and `circuit/cache/clear`."""

    caches: tuple[CacheInfo, ...]


class CacheParams(Message, frozen=True, kw_only=True):
    """One kind of cache; null: all."""

    kind: Literal["models", "activations", "results", "artefacts", "tokenizers"] | None = None


class JobInfo(Message, frozen=True, kw_only=True):
    """A job. Times are seconds since the epoch. `stage`, `eta_s`, `loss` and `k` are known while
    it is watched; `circuits` are references of what it found.
    """

    job: str
    kind: str
    description: str
    state: JobState
    created_at_s: float
    finished_at_s: float | None
    done: float
    total: float | None
    problem: Problem | None
    stage: str | None = None
    eta_s: float | None = None
    loss: float | None = None
    k: int | None = None
    circuits: tuple[str, ...] = ()
    #: The verdict, of a verification.
    verdict: str | None = None


class JobList(Message, frozen=True, kw_only=True):
    """Answers `circuit/jobs/list`."""

    jobs: tuple[JobInfo, ...]


class JobParams(Message, frozen=True, kw_only=True):
    """One job by name."""

    job: str


class Changed(Message, frozen=True, kw_only=True):
    """Whether there was anything to do."""

    changed: bool


class PruneParams(Message, frozen=True, kw_only=True):
    """Find a circuit of a task, as a job. Without targets: a loss of 0.15 per side."""

    task: str
    model: str | None = None
    target_loss: float | None = None
    k: int | None = None
    method: Literal[
        "learned", "attribution", "integrated_gradients", "activation_patching", "magnitude",
        "random",
    ] = "learned"  # fmt: skip
    ablation: Literal["zero", "mean", "resample"] = "mean"
    seed: int = 0
    n_steps: int = 200


class VerifyParams(Message, frozen=True, kw_only=True):
    """Put a circuit to its controls, as a job. `controls` empty: all of them."""

    circuit: str
    model: str | None = None
    controls: tuple[str, ...] = ()


class SessionState(Message, frozen=True, kw_only=True):
    """The session this editor is in, at one revision. Interventions are in their notation."""

    name: str
    revision: int
    model: str | None
    task: str | None
    circuit: str | None
    k: int | None
    node: Node | None
    interventions: tuple[str, ...]
    text: str | None
    #: Clients that follow it, this one included.
    attached: int = 0


class SessionPatch(Message, frozen=True, kw_only=True):
    """Fields to change: one left out stays, null empties it.

    With `revision`, only if that is still the current one.
    """

    model: str | msgspec.UnsetType | None = msgspec.UNSET
    task: str | msgspec.UnsetType | None = msgspec.UNSET
    circuit: str | msgspec.UnsetType | None = msgspec.UNSET
    k: int | msgspec.UnsetType | None = msgspec.UNSET
    node: Node | msgspec.UnsetType | None = msgspec.UNSET
    interventions: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    text: str | msgspec.UnsetType | None = msgspec.UNSET
    revision: int | None = None


class SessionName(Message, frozen=True, kw_only=True):
    """A session to join; it is made if there is none of this name."""

    name: str


class SessionList(Message, frozen=True, kw_only=True):
    """Answers `circuit/session/list`."""

    sessions: tuple[SessionState, ...]


class CatalogueChanged(Message, frozen=True, kw_only=True):
    """Lists that should be asked for again."""

    what: tuple[Catalogue, ...]
