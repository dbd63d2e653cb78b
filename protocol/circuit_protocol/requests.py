"""Everything a client may ask: one frozen tagged struct per request type, and their union.

The tag (`type`) is the request's name in `docs/protocol.md`. Every request carries an `id` that is
unique among the client's unfinished requests; every reply repeats it. Requests that need no model
(hello, status, cancel, sessions, jobs, cache statistics) are answered at once by the front process;
the others wait their turn for a worker.
"""

from typing import Annotated, Literal

import msgspec

from circuit_protocol.circuit_requests import CircuitRequest
from circuit_protocol.inspection import InspectionRequest
from circuit_protocol.interventions import Intervention, NodeSet, Values
from circuit_protocol.messages import AblationKind as AblationKind
from circuit_protocol.messages import CacheKind as CacheKind
from circuit_protocol.messages import DTypeName as DTypeName
from circuit_protocol.messages import Edge as Edge
from circuit_protocol.messages import ModelRequest as ModelRequest
from circuit_protocol.messages import Name as Name
from circuit_protocol.messages import Prompts as Prompts
from circuit_protocol.messages import Request as Request
from circuit_protocol.messages import RequestId as RequestId
from circuit_protocol.messages import Split as Split
from circuit_protocol.session import SessionPatch
from circuit_protocol.tensors import Tensor

# ---------------------------------------------------------------------------------- the daemon


class Hello(Request, frozen=True, kw_only=True, omit_defaults=True, tag="hello"):
    """The first message on every connection."""

    versions: tuple[str, ...]
    client: str = ""
    capabilities: tuple[str, ...] = ()


class Status(Request, frozen=True, kw_only=True, omit_defaults=True, tag="status"):
    """How the daemon does: processes, queues, memory, models; never waits behind work."""


class Shutdown(Request, frozen=True, kw_only=True, omit_defaults=True, tag="shutdown"):
    """End the daemon: `drain` lets accepted work finish first; jobs resume at the next start."""

    drain: bool = True


class Cancel(Request, frozen=True, kw_only=True, omit_defaults=True, tag="cancel"):
    """End request `target` of this client within one step.

    Idempotent; the `done` reply says in `changed` whether the target was still unfinished.
    """

    target: RequestId


class Credit(Request, frozen=True, kw_only=True, omit_defaults=True, tag="credit"):
    """Allow the fetch with id `id` to send `chunks` more chunks. Has no reply of its own."""

    chunks: Annotated[int, msgspec.Meta(ge=1, le=4096)]


# --------------------------------------------------------------------------------------- models


class ListModels(Request, frozen=True, kw_only=True, omit_defaults=True, tag="models.list"):
    """All models found in the artefact roots, resident or not."""


class DescribeModel(Request, frozen=True, kw_only=True, omit_defaults=True, tag="models.describe"):
    """Configuration, sites, hash, sizes and sparsity of one model; it need not be resident."""

    model: Name


class LoadModel(ModelRequest, frozen=True, kw_only=True, omit_defaults=True, tag="models.load"):
    """Make a model resident. `device` like "cuda:1" or "cpu"; None lets the daemon place it."""

    device: str | None = None
    pin: bool = False
    sha256: str | None = None


class UnloadModel(Request, frozen=True, kw_only=True, omit_defaults=True, tag="models.unload"):
    """Free a resident model now."""

    model: Name


class PinModel(Request, frozen=True, kw_only=True, omit_defaults=True, tag="models.pin"):
    """Exempt a resident model from eviction and keep_alive (or undo that)."""

    model: Name
    pinned: bool = True


class ResidentModels(Request, frozen=True, kw_only=True, omit_defaults=True, tag="models.ps"):
    """What is resident, where, how large, and until when."""


class PackModel(Request, frozen=True, kw_only=True, omit_defaults=True, tag="models.pack"):
    """Write a model with only the nonzeros of its sparse matrices, bit for bit.

    `to` is a name in the user's artefact tree, or, from a client of the local socket, a path. What
    is there stays, unless it is a model and `overwrite` is set. The model hash does not change.
    """

    model: Name
    to: Name
    overwrite: bool = False


class UnpackModel(Request, frozen=True, kw_only=True, omit_defaults=True, tag="models.unpack"):
    """Write a packed model with all zeros, as safetensors; fields as of `models.pack`."""

    model: Name
    to: Name
    overwrite: bool = False


class Tokenize(ModelRequest, frozen=True, kw_only=True, omit_defaults=True, tag="tokenize"):
    """Texts to token ids, with each token's bytes and byte offset."""

    texts: tuple[str, ...]
    allow_special: bool = False


class Detokenize(ModelRequest, frozen=True, kw_only=True, omit_defaults=True, tag="detokenize"):
    """Token ids to text (and bytes, since a token may split a code point)."""

    tokens: tuple[tuple[int, ...], ...]


# ---------------------------------------------------------------------------------------- tasks


class ListTasks(Request, frozen=True, kw_only=True, omit_defaults=True, tag="tasks.list"):
    """The built-in tasks and those found in task files."""


class ShowTask(Request, frozen=True, kw_only=True, omit_defaults=True, tag="tasks.show"):
    """A task's description and a few pairs as text."""

    task: Name
    n: Annotated[int, msgspec.Meta(ge=1, le=64)] = 3
    split: Split = "train"
    seed: int = 0


class TaskInput(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="task"):
    """Task prompts as the input of a request: `n` pairs (2n rows: row i and row i+n are a pair)."""

    task: Name
    n: Annotated[int, msgspec.Meta(ge=1, le=16384)] = 64
    split: Split = "train"
    seed: int = 0


class PromptInput(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="prompts"):
    """Prompts of the client's own as input.

    The loss is over `answers` (integers [B, 2]: right and wrong token at each row's last position;
    two-token loss) or over `targets` [B, T] (-1: not counted; mean cross-entropy).
    """

    prompts: Prompts
    answers: Tensor | None = None
    targets: Tensor | None = None


Input = TaskInput | PromptInput


class SampleTask(ModelRequest, frozen=True, kw_only=True, omit_defaults=True, tag="tasks.sample"):
    """A task's pairs as tokens of the model's tokenizer."""

    input: TaskInput


class EvaluateTasks(
    ModelRequest, frozen=True, kw_only=True, omit_defaults=True, tag="tasks.evaluate"
):
    """Loss (mean per side) and accuracy of the model on tasks; streams one partial per task."""

    tasks: tuple[str, ...] = ()  # none: all
    n: Annotated[int, msgspec.Meta(ge=1, le=16384)] = 256
    split: Split = "held_out"
    seed: int = 0


# ------------------------------------------------------------------------------------- the verbs


class Forward(ModelRequest, frozen=True, kw_only=True, omit_defaults=True, tag="forward"):
    """Run prompts: logits, loss, top predictions.

    `targets`: "next" scores every token by the prompt's own next token, a tensor [B, T] gives
    targets (-1: not counted).
    """

    prompts: Prompts
    targets: Tensor | Literal["next"] | None = None
    logits: Literal["all", "last", "none"] = "all"
    token_loss: bool = False
    top_k: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 0
    interventions: tuple[Intervention, ...] = ()
    #: "handle" leaves large results in the daemon, "inline" sends them, "auto" decides by size.
    deliver: Literal["auto", "inline", "handle"] = "auto"


class Generate(ModelRequest, frozen=True, kw_only=True, omit_defaults=True, tag="generate"):
    """Continue one prompt; each token arrives as a partial reply."""

    prompts: Prompts
    max_new_tokens: Annotated[int, msgspec.Meta(ge=1, le=65536)] = 64
    temperature: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    top_k: Annotated[int, msgspec.Meta(ge=0)] = 0
    seed: int = 0
    stop_tokens: tuple[int, ...] = ()
    stop_texts: tuple[str, ...] = ()
    interventions: tuple[Intervention, ...] = ()
    records: tuple["Record", ...] = ()


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What to bring back from the sites `site` selects; reduced in the daemon, beside the tensor.

    `reduce` runs over positions (mean, max_abs), channels (norm) or all (top_k: the `top_k`
    largest magnitudes with their row, position and channel).
    """

    site: Name
    positions: tuple[int, ...] | None = None
    channels: tuple[int, ...] | None = None
    reduce: Literal["none", "mean", "norm", "max_abs", "top_k"] = "none"
    top_k: Annotated[int, msgspec.Meta(ge=1, le=65536)] = 16


class GradientOf(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which scalar to differentiate with respect to the recorded sites.

    "loss" is the mean cross-entropy over targets; "two_token_loss" and "logit_difference" use the
    answers [B, 2]: right minus wrong logit at each row's last position, averaged over rows.
    """

    of: Literal["loss", "two_token_loss", "logit_difference"] = "loss"


class Variant(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A second plan to compare with the first: same prompts, or its own of the same shape."""

    interventions: tuple[Intervention, ...] = ()
    prompts: Prompts | None = None


class Hook(ModelRequest, frozen=True, kw_only=True, omit_defaults=True, tag="hook"):
    """Record sites, with gradients or as the difference to a second plan, changes ranked."""

    input: Input
    records: Annotated[tuple[Record, ...], msgspec.Meta(min_length=1, max_length=4096)]
    interventions: tuple[Intervention, ...] = ()
    gradient: GradientOf | None = None
    against: Variant | None = None
    #: With `against`: how many changed channels to rank.
    rank: Annotated[int, msgspec.Meta(ge=0, le=65536)] = 32
    deliver: Literal["auto", "inline", "handle"] = "auto"


class AblateNodes(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="nodes"):
    """Ablate these nodes."""

    nodes: NodeSet
    kind: AblationKind | None = None


class AblateSites(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="sites"):
    """Ablate every channel of the node sites a selector names."""

    site: Name
    kind: AblationKind | None = None


class AblateHeads(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="heads"):
    """Ablate heads of one layer: their q, k and v channels."""

    layer: int
    heads: tuple[int, ...]
    kind: AblationKind | None = None


class AblateLayers(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="layers"):
    """Ablate what whole layers, or their attention or MLP half, write to the residual stream."""

    layers: tuple[int, ...]
    half: Literal["both", "attn", "mlp"] = "both"
    kind: AblationKind | None = None


class AblateEdges(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="edges"):
    """Cut weights: what flows along each edge is the ablated value of its source."""

    edges: tuple[Edge, ...]
    kind: AblationKind | None = None


Ablation = AblateNodes | AblateSites | AblateHeads | AblateLayers | AblateEdges


class Every(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One mask for each thing in turn, of `nodes` (None: of `keep`, or else of the whole model)."""

    of: Literal["node", "edge", "head", "layer", "site"]
    nodes: NodeSet | None = None


class Ablate(ModelRequest, frozen=True, kw_only=True, omit_defaults=True, tag="ablate"):
    """Losses under ablations: one mask or thousands, over a task or given prompts.

    Give the masks as `masks` (each a combination of ablations), as `packed` (BOOL [M, n_nodes] in
    the order of the model's node sites; True keeps a node) or as `every`. `keep` is a circuit that
    all masks start from: nodes outside it are ablated throughout. Results stream in parts.
    """

    input: Input
    masks: tuple[tuple[Ablation, ...], ...] = ()
    packed: Tensor | None = None
    every: Every | None = None
    keep: NodeSet | None = None
    kind: AblationKind = "mean"
    #: Means [n_nodes] that replace the model's pretraining means.
    means: Values | None = None
    seed: int = 0
    #: Also the change of both answer logits per mask and row.
    logit_changes: bool = False


# --------------------------------------------------------------------------------------- tensors


class Fetch(Request, frozen=True, kw_only=True, omit_defaults=True, tag="tensor.fetch"):
    """The bytes of a held tensor from `offset` on, in chunks of `chunk_nbytes`.

    At most `credit` chunks are sent before the client allows more with `credit` messages.
    """

    handle: str
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0
    nbytes: Annotated[int, msgspec.Meta(ge=0)] | None = None
    chunk_nbytes: Annotated[int, msgspec.Meta(ge=1024, le=8 << 20)] = 2 << 20
    credit: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 16


class MapTensor(Request, frozen=True, kw_only=True, omit_defaults=True, tag="tensor.map"):
    """Where the bytes of a held tensor lie, for a client on the daemon's machine that maps them.

    Only over ipc, where the welcome's `capabilities` name it; elsewhere it is `forbidden`.
    """

    handle: str


class Reduce(Request, frozen=True, kw_only=True, omit_defaults=True, tag="tensor.reduce"):
    """A view or a summary of a held tensor, computed in the daemon.

    "slice" takes start/stop/step per dimension; "top_k" the `k` largest magnitudes with their
    indices; "norm" and "mean" reduce `axis`; "quantiles" answers `quantiles` of all entries;
    "project" multiplies the last axis by `directions` [n, width].
    """

    handle: str
    how: Literal["slice", "top_k", "norm", "mean", "quantiles", "project"]
    slices: tuple[tuple[int | None, int | None, int | None], ...] = ()
    k: Annotated[int, msgspec.Meta(ge=1, le=65536)] = 16
    axis: int = -1
    quantiles: tuple[Annotated[float, msgspec.Meta(ge=0, le=1)], ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    directions: Tensor | None = None


class Release(Request, frozen=True, kw_only=True, omit_defaults=True, tag="tensor.release"):
    """Let go of held tensors; unknown handles are not an error (release is idempotent)."""

    handles: tuple[str, ...]


# ----------------------------------------------------------------------------------------- cache


class CacheStats(Request, frozen=True, kw_only=True, omit_defaults=True, tag="cache.stats"):
    """Entries, bytes, budget, hits and misses of each kind of cache."""


class CacheList(Request, frozen=True, kw_only=True, omit_defaults=True, tag="cache.list"):
    """Entries of one kind, most recently used first."""

    kind: CacheKind
    limit: Annotated[int, msgspec.Meta(ge=1, le=10000)] = 100


class CachePin(Request, frozen=True, kw_only=True, omit_defaults=True, tag="cache.pin"):
    """Exempt an entry from eviction (or undo that)."""

    kind: CacheKind
    key: Name
    pinned: bool = True


class CacheEvict(Request, frozen=True, kw_only=True, omit_defaults=True, tag="cache.evict"):
    """Drop one entry."""

    kind: CacheKind
    key: Name


class CacheClear(Request, frozen=True, kw_only=True, omit_defaults=True, tag="cache.clear"):
    """Drop every unpinned entry of a kind (None: of all kinds)."""

    kind: CacheKind | None = None


# -------------------------------------------------------------------------------------- sessions


class ListSessions(Request, frozen=True, kw_only=True, omit_defaults=True, tag="sessions.list"):
    """The sessions there are."""


class GetSession(Request, frozen=True, kw_only=True, omit_defaults=True, tag="sessions.get"):
    """The state of one session."""

    session: Name


class AttachSession(Request, frozen=True, kw_only=True, omit_defaults=True, tag="sessions.attach"):
    """Follow a session (made on the spot if `create`): its state now, then every change.

    Ends when this request is cancelled or the session is closed.
    """

    session: Name
    create: bool = True


class UpdateSession(Request, frozen=True, kw_only=True, omit_defaults=True, tag="sessions.update"):
    """Change fields of a session. With `revision`, only if it is still the current one."""

    session: Name
    patch: SessionPatch
    revision: int | None = None


class CloseSession(Request, frozen=True, kw_only=True, omit_defaults=True, tag="sessions.close"):
    """End a session; attached clients are told."""

    session: Name


# ------------------------------------------------------------------------------------------ jobs


class ListJobs(Request, frozen=True, kw_only=True, omit_defaults=True, tag="jobs.list"):
    """Jobs, newest first."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=10000)] = 100
    unfinished_only: bool = False


class GetJob(Request, frozen=True, kw_only=True, omit_defaults=True, tag="jobs.get"):
    """One job's record."""

    job: Name


class WatchJob(Request, frozen=True, kw_only=True, omit_defaults=True, tag="jobs.watch"):
    """Follow a job: progress and partial results, and at its end the very reply of its request."""

    job: Name


class CancelJob(Request, frozen=True, kw_only=True, omit_defaults=True, tag="jobs.cancel"):
    """End a job within one step. Idempotent."""

    job: Name


AnyRequest = (
    Hello
    | Status
    | Shutdown
    | Cancel
    | Credit
    | ListModels
    | DescribeModel
    | LoadModel
    | UnloadModel
    | PinModel
    | ResidentModels
    | PackModel
    | UnpackModel
    | Tokenize
    | Detokenize
    | ListTasks
    | ShowTask
    | SampleTask
    | EvaluateTasks
    | Forward
    | Generate
    | Hook
    | Ablate
    | Fetch
    | MapTensor
    | Reduce
    | Release
    | CacheStats
    | CacheList
    | CachePin
    | CacheEvict
    | CacheClear
    | ListSessions
    | GetSession
    | AttachSession
    | UpdateSession
    | CloseSession
    | ListJobs
    | GetJob
    | WatchJob
    | CancelJob
    | InspectionRequest
    | CircuitRequest
)
