"""Everything the daemon may answer: one frozen tagged struct per reply type, and their union.

Every reply repeats its request's `id` and carries `seq` (0, 1, 2, … within that request) and
`final`. A request ends in exactly one final reply, also when it failed or was cancelled; replies
before it are progress, partial results or events.
"""

from typing import Literal

import msgspec

from circuit_protocol.circuit_replies import CircuitReply
from circuit_protocol.errors import ErrorInfo
from circuit_protocol.inspection import InspectionReply
from circuit_protocol.interventions import Values
from circuit_protocol.messages import CacheKind, Edge
from circuit_protocol.messages import Reply as Reply
from circuit_protocol.session import SelectedNode, SessionState
from circuit_protocol.tensors import Tensor


class Failed(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="error"):
    """The request ended in an error."""

    error: ErrorInfo


class Done(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="done"):
    """The request was carried out and there is nothing else to say; `changed` is False if it was
    already so (a cancel that came too late, a release of unknown handles).
    """

    changed: bool = True


class Progress(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="progress"):
    """How far a long request is; at most ten a second. Never final."""

    stage: str
    done: float = 0.0
    total: float | None = None
    unit: str = ""
    eta_s: float | None = None
    loss: float | None = None
    #: Nodes kept so far, while pruning.
    k: int | None = None


class JobAccepted(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="job.accepted"):
    """The request runs as a job now, with or without this client."""

    job: str


# ---------------------------------------------------------------------------------- the daemon


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the daemon enforces before it allocates anything.

    Per message: bytes of a frame and of all frames, and their number. Per request: `rows` of its
    batch, `positions` of all its rows together (padding included), `masks`. Per client:
    `queued_requests`, unfinished ones, and `held_nbytes` of tensors it leases under handles.
    """

    frame_nbytes: int
    message_nbytes: int
    frames: int
    rows: int
    positions: int
    masks: int
    queued_requests: int
    held_nbytes: int


class Welcome(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="welcome"):
    """Answers hello. A changed `instance` means another daemon: handles and requests are gone."""

    version: str
    server: str
    instance: str
    pid: int
    capabilities: tuple[str, ...]
    limits: Limits
    default_model: str | None = None


class ProcessInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One process of the daemon."""

    role: Literal["front", "worker"]
    pid: int
    rss_nbytes: int
    device: str | None = None
    state: str = "ready"
    restarts: int = 0
    running: tuple[str, ...] = ()


class StatusReport(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="status.report"):
    """How the daemon does."""

    version: str
    instance: str
    uptime_s: float
    endpoints: tuple[str, ...]
    processes: tuple[ProcessInfo, ...]
    clients: int
    queued: int
    running: int
    completed: int
    failed: int
    resident: tuple["Resident", ...] = ()
    jobs_unfinished: int = 0
    budget_nbytes: int = 0
    used_nbytes: int = 0


# --------------------------------------------------------------------------------------- models


class Resident(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model that is loaded. `expires_in_s` None means never; `nbytes` is measured. `execution` is
    a line for people: how its forward passes run, dense or sparse, and why.
    """

    model: str
    model_hash: str
    device: str
    dtype: str
    nbytes: int
    pinned: bool = False
    expires_in_s: float | None = None
    in_use: int = 0
    execution: str = ""


class ResidentReport(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="models.resident"):
    """Answers models.ps and models.load."""

    models: tuple[Resident, ...]
    budget_nbytes: int
    used_nbytes: int
    notes: tuple[str, ...] = ()


class ModelSummary(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model in the artefact roots, as a list shows it."""

    name: str
    path: str
    nbytes_on_disk: int
    n_layer: int
    d_model: int
    n_nodes: int
    resident: bool = False
    default: bool = False
    broken: str | None = None


class ModelList(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="models.listed"):
    """Answers models.list."""

    models: tuple[ModelSummary, ...]


class SiteInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A place in the forward pass."""

    site: str
    width: int
    n_heads: int = 0
    is_node_site: bool = False


class MatrixInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A weight tensor and how much of it is not zero."""

    name: str
    shape: tuple[int, ...]
    nonzeros: int


class ModelDescription(
    Reply, frozen=True, kw_only=True, omit_defaults=True, tag="models.described"
):
    """Answers models.describe. `config_json` is the published flat JSON."""

    model: str
    path: str
    model_hash: str
    config_json: str
    n_nodes: int
    n_parameters: int
    n_nonzeros: int
    block_density: float
    nbytes_on_disk: int
    sites: tuple[SiteInfo, ...]
    matrices: tuple[MatrixInfo, ...]
    notes: tuple[str, ...] = ()
    card: str | None = None


class ModelConverted(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="models.converted"):
    """Answers models.pack and models.unpack. Bytes are those of the weights files."""

    path: str
    model_hash: str
    nbytes_before: int
    nbytes_after: int


class TokenInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One token: id, bytes, and the byte offset in the UTF-8 text where it begins."""

    id: int
    data: bytes
    offset: int


class Tokens(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="tokens"):
    """Answers tokenize."""

    rows: tuple[tuple[TokenInfo, ...], ...]


class TextPiece(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Text of one row; `data` are its bytes where they are no whole UTF-8."""

    text: str
    data: bytes


class Texts(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="texts"):
    """Answers detokenize."""

    rows: tuple[TextPiece, ...]


# ---------------------------------------------------------------------------------------- tasks


class TaskSummary(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A task as a list shows it."""

    name: str
    description: str
    source: str
    aligned: bool = True


class TaskList(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="tasks.listed"):
    """Answers tasks.list."""

    tasks: tuple[TaskSummary, ...]


class PairText(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A pair of a task as text: prompts and the right next token of each."""

    prompts: tuple[str, str]
    targets: tuple[str, str]


class TaskShown(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="tasks.shown"):
    """Answers tasks.show."""

    task: TaskSummary
    pairs: tuple[PairText, ...]


class TaskSample(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="tasks.sampled"):
    """Answers tasks.sample: tokens [2n, T], lengths [2n], answers [2n, 2] (right, wrong)."""

    tokens: Tensor
    lengths: Tensor
    answers: Tensor


class TaskScore(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How well a model does a task: mean two-token loss per side, share of rows answered right."""

    task: str
    loss: float | None
    accuracy: float | None
    rows: int = 0
    error: ErrorInfo | None = None


class TaskScores(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="tasks.evaluated"):
    """Answers tasks.evaluate; partial replies carry the scores so far known."""

    scores: tuple[TaskScore, ...]
    split: str
    cached: bool = False


# ------------------------------------------------------------------------------------- the verbs


class TopK(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The likeliest next tokens: ids (I32) and log-probabilities (F32), both [B, T or 1, k]."""

    ids: Tensor
    logprobs: Tensor


class ForwardResult(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="forward.result"):
    """Answers forward. Shapes: logits [B, T, V] ("all") or [B, 1, V] ("last"), token_loss [B, T]
    (nats; NaN where there is no target), tokens [B, T], lengths [B]. `execution` is "sparse",
    "dense", or "dense, since …" where the request kept a sparse model from running so.
    """

    tokens: Tensor
    lengths: Tensor
    logits: Values | None = None
    loss: float | None = None
    token_loss: Tensor | None = None
    top_k: TopK | None = None
    execution: str = "dense"
    cached: bool = False
    compute_s: float = 0.0


class Recorded(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was recorded at one site: [B, T, width] unless sliced or reduced; `gradient` alike.

    For top_k, `value` holds the k values and `indices` [k, 3] their row, position and channel.
    """

    site: str
    value: Values
    gradient: Values | None = None
    indices: Tensor | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one channel differs between two plans.

    `rms` and `mean` run over rows and positions; `largest` is the difference of largest magnitude,
    at `row` and `position`.
    """

    node: SelectedNode
    rms: float
    mean: float
    largest: float
    row: int
    position: int


class HookResult(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="hook.result"):
    """Answers hook. With `against`, values are the first plan's minus the second's. `execution` as
    in `forward.result`; of two plans, the first's.
    """

    tokens: Tensor
    lengths: Tensor
    recorded: tuple[Recorded, ...]
    loss: float | None = None
    against_loss: float | None = None
    changes: tuple[Change, ...] = ()
    execution: str = "dense"
    cached: bool = False
    compute_s: float = 0.0


class GenerateStep(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="generate.step"):
    """One generated token, as it is drawn. Never final."""

    token: int
    data: bytes
    logprob: float
    position: int
    recorded: tuple[Recorded, ...] = ()


class GenerateResult(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="generate.result"):
    """Ends generate."""

    tokens: tuple[int, ...]
    text: str
    stopped_by: Literal["length", "stop", "context"]
    compute_s: float = 0.0


class AblatePart(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="ablate.part"):
    """Losses of masks `start`, `start`+1, …, as they are done. Never final."""

    start: int
    losses: Tensor
    accuracies: Tensor | None = None


class AblatedThing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What mask number i of an `every` request ablated."""

    site: str | None = None
    channel: int | None = None
    layer: int | None = None
    head: int | None = None
    edge: Edge | None = None


class AblateResult(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="ablate.result"):
    """Answers ablate. All losses are means per side.

    `model_loss` is the unablated model's, `base_loss` that of `keep` alone; losses, deltas
    (loss - base_loss) and accuracies are [M]; logit_changes [M, B, 2] (right, wrong answer).
    `execution` is "compiled circuit", "sparse" or "batched passes, since …"; `masks_per_s` counts
    from when what the masks start from was known.
    """

    model_loss: float
    model_accuracy: float | None
    base_loss: float
    base_accuracy: float | None
    losses: Tensor
    deltas: Tensor
    accuracies: Tensor | None = None
    logit_changes: Values | None = None
    things: tuple[AblatedThing, ...] = ()
    masks_per_s: float = 0.0
    execution: str = ""
    cached: bool = False
    compute_s: float = 0.0


# --------------------------------------------------------------------------------------- tensors


class Chunk(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="tensor.chunk"):
    """Bytes of a held tensor, in frame 1. The last one is final."""

    offset: int
    nbytes: int


class Mapped(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="tensor.mapped"):
    """Answers tensor.map: a file of `nbytes` that holds what frames would, to be read only."""

    path: str
    nbytes: int


class Reduced(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="tensor.reduced"):
    """Answers tensor.reduce; top_k also gives `indices` [k, ndim]."""

    value: Values
    indices: Tensor | None = None


# ----------------------------------------------------------------------------------------- cache


class CacheKindStats(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One kind of cache: `nbytes` in memory, `disk_nbytes` on disk."""

    kind: CacheKind
    entries: int
    nbytes: int
    budget_nbytes: int
    disk_nbytes: int = 0
    hits: int = 0
    misses: int = 0
    evictions: int = 0


class CacheReport(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="cache.report"):
    """Answers cache.stats."""

    kinds: tuple[CacheKindStats, ...]


class CacheEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing in a cache."""

    key: str
    nbytes: int
    description: str = ""
    pinned: bool = False
    hits: int = 0
    age_s: float = 0.0


class CacheEntries(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="cache.entries"):
    """Answers cache.list."""

    kind: CacheKind
    entries: tuple[CacheEntry, ...]


class CacheFreed(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="cache.freed"):
    """Answers cache.evict and cache.clear."""

    entries: int
    nbytes: int


# -------------------------------------------------------------------------------------- sessions


class SessionList(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="sessions.listed"):
    """Answers sessions.list."""

    sessions: tuple[SessionState, ...]


class SessionEvent(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="session.event"):
    """A session's state: answers sessions.get and sessions.update, and follows each change to
    those attached. `closed` ends an attachment.
    """

    state: SessionState
    attached: int = 0
    closed: bool = False


# ------------------------------------------------------------------------------------------ jobs


class JobInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job's record. Times are seconds since the epoch."""

    job: str
    request_type: str
    description: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    created_at_s: float
    finished_at_s: float | None = None
    done: float = 0.0
    total: float | None = None
    error: ErrorInfo | None = None
    resumes: int = 0


class JobList(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="jobs.listed"):
    """Answers jobs.list and jobs.get."""

    jobs: tuple[JobInfo, ...]


AnyReply = (
    Failed
    | Done
    | Progress
    | JobAccepted
    | Welcome
    | StatusReport
    | ResidentReport
    | ModelList
    | ModelDescription
    | ModelConverted
    | Tokens
    | Texts
    | TaskList
    | TaskShown
    | TaskSample
    | TaskScores
    | ForwardResult
    | HookResult
    | GenerateStep
    | GenerateResult
    | AblatePart
    | AblateResult
    | Chunk
    | Mapped
    | Reduced
    | CacheReport
    | CacheEntries
    | CacheFreed
    | SessionList
    | SessionEvent
    | JobList
    | InspectionReply
    | CircuitReply
)
