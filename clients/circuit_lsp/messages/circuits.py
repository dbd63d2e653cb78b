"""Messages about circuits: as a graph, their nodes, changed, compared, written out."""

from typing import Literal

from circuit_lsp.messages.shared import EdgeName, Message, Node


class CircuitInfo(Message, frozen=True, kw_only=True):
    """A circuit as a list shows it. Losses are nats per side. `broken` says why it is no use."""

    id: str
    model: str
    task: str
    sweep: str
    label: str
    ablation: Literal["zero", "mean", "resample"]
    origin: str
    k: int
    n_edges: int
    loss: float
    accuracy: float
    held_out_loss: float | None
    model_loss: float
    model_accuracy: float
    verdict: str | None
    seed: int
    target_loss: float | None
    created_at_s: float
    read_only: bool
    broken: str | None


class CircuitFilter(Message, frozen=True, kw_only=True):
    """Which circuits; each filter given must match."""

    model: str | None = None
    task: str | None = None
    limit: int = 1000


class CircuitList(Message, frozen=True, kw_only=True):
    """Answers `circuit/circuits/list`, newest first."""

    circuits: tuple[CircuitInfo, ...]


class CircuitParams(Message, frozen=True, kw_only=True):
    """A circuit by id, a unique beginning of it, or its place `task/sweep/label`."""

    circuit: str
    model: str | None = None


class GraphNode(Message, frozen=True, kw_only=True):
    """A kept node. `layer` null: after the last layer. `half` is `attn`, `mlp` or empty.

    `kind` is the site within its layer, like `attn.q`. `within` is the channel within `head`.
    `delta`: what ablating it alone adds to the circuit's loss, nats.
    """

    site: str
    channel: int
    layer: int | None
    half: str
    kind: str
    head: int | None
    within: int
    label: str
    delta: float | None


class GraphEdges(Message, frozen=True, kw_only=True):
    """Edges in columns: entry i goes from node `source[i]` to node `target[i]` of the graph.

    `delta`: what cutting it alone adds to the loss, nats; null where that was not measured.
    """

    source: tuple[int, ...]
    target: tuple[int, ...]
    weight: tuple[float, ...]
    delta: tuple[float, ...] | None


class StreamLinks(Message, frozen=True, kw_only=True):
    """What the residual stream carries from a writer to a reader, in columns. No edges."""

    source: tuple[int, ...]
    target: tuple[int, ...]


class HalfBlock(Message, frozen=True, kw_only=True):
    """What ablating all kept nodes of a half block adds to the circuit's loss, nats."""

    layer: int
    half: Literal["attn", "mlp"]
    n_nodes: int
    delta: float


class CurvePoint(Message, frozen=True, kw_only=True):
    """Nodes kept and loss at a step of pruning."""

    step: int
    loss: float
    k: int


class CardMeasurement(Message, frozen=True, kw_only=True):
    """One number of a control, with its interval where it has one."""

    name: str
    value: float
    unit: str
    low: float | None
    high: float | None


class CardControl(Message, frozen=True, kw_only=True):
    """One control. `passed` null: it could not decide, or only informs."""

    name: str
    passed: bool | None
    sentence: str
    measurements: tuple[CardMeasurement, ...]


class CircuitCard(Message, frozen=True, kw_only=True):
    """Whether to believe the circuit, and why."""

    verdict: Literal["supported", "not supported", "depends"]
    reasons: tuple[str, ...]
    depends_on: tuple[str, ...]
    controls: tuple[CardControl, ...]


class CircuitGraph(Message, frozen=True, kw_only=True):
    """Answers `circuit/circuits/show` and `circuit/circuits/measure`.

    Nodes are in the order of the pass. `has_edges` false: it was never measured, so that edges and
    deltas are not known. `siblings` are circuits of the same model and task, smallest first: loss
    against k. `settings`: how it was found, every hyper-parameter, as JSON.
    """

    info: CircuitInfo
    d_head: int | None
    nodes: tuple[GraphNode, ...]
    edges: GraphEdges
    carried: StreamLinks
    half_blocks: tuple[HalfBlock, ...]
    has_edges: bool
    curve: tuple[CurvePoint, ...]
    settings: str
    card: CircuitCard | None
    siblings: tuple[CircuitInfo, ...]


class DrawParams(Message, frozen=True, kw_only=True):
    """A circuit in lines of text, no wider than `columns`."""

    circuit: str
    model: str | None = None
    columns: int = 80
    ascii: bool = False


class Drawing(Message, frozen=True, kw_only=True):
    """Lines of text, for editors that show nothing else."""

    title: str
    lines: tuple[str, ...]


class MasksParams(Message, frozen=True, kw_only=True):
    """The circuits of a task, across budgets."""

    task: str
    model: str | None = None
    limit: int = 24


class MaskRow(Message, frozen=True, kw_only=True):
    """A node that any of the circuits keeps; `kept_by` are entries of `circuits`."""

    site: str
    channel: int
    label: str
    kept_by: tuple[int, ...]


class MaskTable(Message, frozen=True, kw_only=True):
    """Which circuit keeps which node: circuits by k, nodes in the order of the pass."""

    circuits: tuple[CircuitInfo, ...]
    rows: tuple[MaskRow, ...]


class SamplesParams(Message, frozen=True, kw_only=True):
    """Where a node is active, in the whole model or in a circuit; also in document `uri`.

    Pretraining text takes seconds the first time. `n_windows` 0 leaves it out, and the rest comes
    at once.
    """

    node: Node
    uri: str | None = None
    model: str | None = None
    circuit: str | None = None
    task: str | None = None
    n_windows: int = 3
    context: int = 12
    n_pairs: int = 4
    seed: int = 0


class SampleText(Message, frozen=True, kw_only=True):
    """Tokens as visible text and the node's value at each; `position` is the one sampled."""

    texts: tuple[str, ...]
    values: tuple[float, ...]
    position: int | None


class SampleBand(Message, frozen=True, kw_only=True):
    """Text around the lowest or highest `fraction` of values."""

    end: Literal["bottom", "top"]
    fraction: float
    windows: tuple[SampleText, ...]


class TaskSample(Message, frozen=True, kw_only=True):
    """A prompt of the task; both sides of a pair have the same `pair`."""

    pair: int
    side: Literal[0, 1]
    text: SampleText


class HeadPattern(Message, frozen=True, kw_only=True):
    """Where the node's head attends from a prompt's last token: a share for each token of the
    task sample `sample`, and for the sink.
    """

    sample: int
    head: int
    shares: tuple[float, ...]
    sink: float | None


class NodeSamples(Message, frozen=True, kw_only=True):
    """Answers `circuit/node/samples`. `limit` is the largest magnitude of all values shown.

    `mean` and quantiles are over pretraining text: null and empty where that was left out.
    """

    node: Node
    model: str
    circuit: str | None
    mean: float | None
    quantiles_at: tuple[float, ...]
    quantiles: tuple[float, ...]
    limit: float
    bands: tuple[SampleBand, ...]
    task: str | None
    task_samples: tuple[TaskSample, ...]
    patterns: tuple[HeadPattern, ...]
    document: SampleText | None


class EditParams(Message, frozen=True, kw_only=True):
    """Toggle nodes and edges of a circuit and measure what is left; `save` keeps it.

    `n_pairs` of the task are shown with their logits.
    """

    circuit: str
    model: str | None = None
    drop: tuple[Node, ...] = ()
    add: tuple[Node, ...] = ()
    drop_edges: tuple[EdgeName, ...] = ()
    add_edges: tuple[EdgeName, ...] = ()
    save: bool = False
    sweep: str = "edited"
    n_pairs: int = 4


class AnswerLogits(Message, frozen=True, kw_only=True):
    """Right minus wrong logit of one prompt: in the circuit as it was, and as it is now."""

    prompt: str
    right: str
    wrong: str
    before: float
    after: float


class EditResult(Message, frozen=True, kw_only=True):
    """The changed circuit: its loss per side, and that minus the loss it had.

    `circuit` names it once it is saved. `logits` is empty where edges were changed: those prompts
    are run with nodes only.
    """

    id: str
    circuit: str | None
    k: int
    n_edges: int
    loss: float
    accuracy: float
    delta: float
    model_loss: float
    logits: tuple[AnswerLogits, ...]
    compute_s: float


class CompareParams(Message, frozen=True, kw_only=True):
    """Two circuits of one model."""

    before: str
    after: str
    model: str | None = None


class DeltaChange(Message, frozen=True, kw_only=True):
    """A node of both whose delta differs, nats."""

    node: Node
    before: float
    after: float


class Comparison(Message, frozen=True, kw_only=True):
    """What `after` has and `before` has not, and the reverse. `changes` largest first."""

    before: CircuitInfo
    after: CircuitInfo
    added: tuple[Node, ...]
    removed: tuple[Node, ...]
    shared: tuple[Node, ...]
    added_edges: tuple[EdgeName, ...]
    removed_edges: tuple[EdgeName, ...]
    edges_known: bool
    jaccard: float
    loss_change: float
    changes: tuple[DeltaChange, ...]


ExportFormat = Literal["json", "csv", "graphml", "dot", "svg", "html", "python"]


class ExportParams(Message, frozen=True, kw_only=True):
    """Write a circuit out. `python` is a script that asks for the same."""

    circuit: str
    format: ExportFormat
    model: str | None = None


class Export(Message, frozen=True, kw_only=True):
    """The text of the file, and what it should be called."""

    file_name: str
    text: str
