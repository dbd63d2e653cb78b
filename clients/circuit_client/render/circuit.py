"""A circuit drawn in lines: half block by half block, its nodes in rows and the edges between them.

Each row holds the kept nodes of a site, with what ablating each alone adds to the loss as a number
and as a colour; q, k and v stand together by head. Between two rows stand the edges that join them:
an arrow in the colour of the weight's sign, the weight, and what cutting it adds to the loss. The
strongest come first, and what does not fit is counted.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from circuit_client import caption
from circuit_client.graph import HEAD_KINDS, Graph, graph_of, place_of, strongest_first
from circuit_client.render.heat import Scale, heat_span, legend, number, scale_for
from circuit_client.render.style import Depth, Line, Span, Theme, line_width
from circuit_client.render.text_width import pad, truncate
from circuit_client.render.text_width import shown as visible
from circuit_protocol.circuit_replies import CircuitShown

#: A half block whose ablation adds more than this (nats) is marked.
MARKED_DELTA = 0.3
_LABEL_COLUMNS = 17
_GAP = Span(" ")


@dataclass(frozen=True, slots=True)
class Canvas:
    """How wide and with what to draw."""

    columns: int
    depth: Depth
    theme: Theme = "dark"
    ascii_only: bool = False
    #: Lines that one row of nodes, or one set of edges, may take; None: as many as it needs.
    lines_max: int | None = 2

    @property
    def arrow(self) -> str:
        """Between the ends of an edge."""
        return "->" if self.ascii_only else "─▸"

    @property
    def dots(self) -> str:
        """Before what is only counted."""
        return "..." if self.ascii_only else "…"


def circuit_lines(shown: CircuitShown, canvas: Canvas, *, d_head: int | None = None) -> list[Line]:
    """The circuit in lines no wider than `canvas.columns`."""
    graph = graph_of(shown, d_head=d_head)
    scales = _Scales.of(graph)
    lines = [*_header(shown, graph, scales, canvas)]
    seen: tuple[int | None, str] | None = None
    for site, nodes in graph.by_site.items():
        place = place_of(site)
        block = place.layer, place.half
        if block != seen:
            seen = block
            lines += [(), _block_heading(graph, block, canvas)]
        lines += _edge_rows(graph, nodes, place.kind, scales, canvas)
        if place.kind in HEAD_KINDS and d_head:
            if not any(s in graph.by_site for s in _later_head_sites(site)):
                lines += _head_rows(graph, place.layer, scales, canvas)
        else:
            row = [_chip(graph, i, graph.nodes[i].label, scales, canvas)
                   for i in strongest_first(graph, nodes)]  # fmt: skip
            name = place.kind.rpartition(".")[2]
            lines += _flow(name, row, canvas, lines_max=canvas.lines_max)
    return [_cut(line, canvas.columns) for line in lines]


@dataclass(frozen=True, slots=True)
class _Scales:
    """What colours mean: nodes and edges each have a scale of their own."""

    nodes: Scale
    edges: Scale

    @classmethod
    def of(cls, graph: Graph) -> "_Scales":
        nodes = [n.delta for n in graph.nodes if n.delta is not None]
        edges = [e.delta for e in graph.edges if e.delta is not None]
        unit = "nats when ablated"
        return cls(scale_for(nodes, "diverging", unit), scale_for(edges, "diverging"))


def _header(shown: CircuitShown, graph: Graph, scales: _Scales, canvas: Canvas) -> Iterable[Line]:
    measured = shown.circuit.measured
    yield (
        Span(visible(caption.title(shown), ascii_only=canvas.ascii_only), bold=True),
        Span(f"  {caption.sizes(measured)}"),
    )
    yield (Span(caption.numbers(measured)),)
    yield (Span(caption.how(shown), color="dim"),)
    if shown.card is not None:
        yield (Span(f"verdict: {shown.card.verdict}", bold=True),)
    if graph.has_deltas:
        style = {"depth": canvas.depth, "theme": canvas.theme, "ascii_only": canvas.ascii_only}
        yield (Span("nodes  ", color="dim"), *legend(scales.nodes, **style))
        if graph.edges:
            text = f"edges  from {canvas.arrow} to, weight, nats when cut"
            yield (Span(text, color="dim"),)
    else:
        yield (
            Span(f"not measured yet: circuit circuits measure {shown.summary.id}", color="note"),
        )
    if not graph.has_edges:
        yield (Span(f"its {caption.sizes(measured)} are known by number only", color="dim"),)


def _block_heading(graph: Graph, block: tuple[int | None, str], canvas: Canvas) -> Line:
    layer, half = block
    if layer is None:
        return (Span("after the last layer", bold=True),)
    n = sum(
        len(nodes)
        for site, nodes in graph.by_site.items()
        if (place_of(site).layer, place_of(site).half) == block
    )
    name = Span(f"layer {layer} {'attention' if half == 'attn' else half}", bold=True)
    spans = [name, Span(f"  {caption.count(n, 'node')}", color="dim")]
    delta = graph.layer_deltas.get((layer, half))
    if delta is not None:
        mark = " !" if delta > MARKED_DELTA else ""
        color = "bad" if mark else "dim"
        spans.append(Span(f", {delta:+z.3f} nats without it{mark}", color=color))
    return tuple(spans)


def _chip(graph: Graph, i: int, label: str, scales: _Scales, canvas: Canvas) -> Line:
    delta = graph.nodes[i].delta
    if delta is None:
        return (Span(f" {label} "),)
    return (heat_span(f" {label} {delta:+z.3f} ", scales.nodes.level(delta), canvas.theme),)


def _later_head_sites(site: str) -> list[str]:
    """Of q, k, v of the same layer, those that come after `site` in the order of the pass."""
    layer, _, kind = site.partition(".")
    return [f"{layer}.{k}" for k in HEAD_KINDS[HEAD_KINDS.index(kind) + 1 :]]


def _head_rows(graph: Graph, layer: int | None, scales: _Scales, canvas: Canvas) -> list[Line]:
    heads: dict[int, list[int]] = {}
    for kind in HEAD_KINDS:
        for i in graph.by_site.get(f"{layer}.{kind}", ()):
            heads.setdefault(graph.nodes[i].head or 0, []).append(i)

    def strength(head: int) -> float:
        return max(abs(graph.nodes[i].delta or 0.0) for i in heads[head])

    row: list[Line] = []
    for head in sorted(heads, key=lambda h: (-strength(h), h)):
        spans = [Span(f"head {head}", bold=True), _GAP]
        for i in heads[head]:
            node = graph.nodes[i]
            spans += [*_chip(graph, i, f"{node.site[-1]}{node.within}", scales, canvas), _GAP]
        row.append((*spans, _GAP))
    return _flow("heads", row, canvas, lines_max=canvas.lines_max and 2 * canvas.lines_max)


def _edge_rows(
    graph: Graph, targets: Sequence[int], kind: str, scales: _Scales, canvas: Canvas
) -> list[Line]:
    wanted = set(targets)
    edges = sorted((e for e in graph.edges if e.target in wanted), key=lambda e: e.strength)[::-1]
    entries = [
        [
            graph.nodes[e.source].label,
            graph.nodes[e.target].label,
            f"{'-' if e.weight < 0 else '+'}{number(abs(e.weight))}",
            "" if e.delta is None else f"{e.delta:+z.3f}",
        ]
        for e in edges
    ]
    if not entries:
        return []
    widths = [max(len(entry[i]) for entry in entries) for i in range(4)]
    row: list[Line] = []
    for edge, entry in zip(edges, entries, strict=True):
        source, target, weight, delta = (
            pad(text, columns, "right" if i in (0, 3) else "left")
            for i, (text, columns) in enumerate(zip(entry, widths, strict=True))
        )
        arrow = Span(f" {canvas.arrow} ", color="bad" if edge.weight < 0 else "good")
        spans = [Span(source), arrow, Span(f"{target} {weight}")]
        if edge.delta is not None:
            level = scales.edges.level(edge.delta)
            spans += [_GAP, heat_span(delta, level, canvas.theme)]
        row.append((*spans, _GAP))
    name = kind.rpartition(".")[2]
    return _flow(f"{canvas.arrow} {name}", row, canvas, lines_max=canvas.lines_max, dim=True)


def _flow(
    label: str, row: Sequence[Line], canvas: Canvas, *, lines_max: int | None, dim: bool = False
) -> list[Line]:
    """The entries of a row, wrapped after its label; after `lines_max` lines they are counted."""
    room = canvas.columns - _LABEL_COLUMNS
    rows: list[list[Line]] = [[]]
    used = 0
    for entry in row:
        needed = line_width(entry) + 1
        if rows[-1] and used + needed - 1 > room:
            rows.append([])
            used = 0
        rows[-1].append(entry)
        used += needed
    count = ""
    if lines_max is not None and len(rows) > lines_max:
        rows = rows[:lines_max]
        n = len(row) - sum(map(len, rows))
        last = rows[-1]
        # The count stands on the last line, in the place of entries if need be.
        while (
            len(last) > 1 and sum(line_width(e) + 1 for e in last) + len(f" {n:,} more") + 6 > room
        ):
            last.pop()
            n += 1
        count = f"{canvas.dots} and {n:,} more"
    lines: list[Line] = []
    for i, entries in enumerate(rows):
        name = pad(truncate("" if i else f"  {label}", _LABEL_COLUMNS), _LABEL_COLUMNS)
        spans = [Span(name, color="dim" if dim else None)]
        for entry in entries:
            spans += [*entry, _GAP]
        lines.append(tuple(spans))
    if count:
        lines[-1] = (*lines[-1], Span(count, color="dim"))
    return lines


def _cut(line: Line, columns: int) -> Line:
    """`line` without what is beyond `columns`, and without blanks at its end."""
    if line and line[-1] == _GAP:
        line = line[:-1]
    if line_width(line) <= columns:
        return line
    spans: list[Span] = []
    for span in line:
        room = columns - line_width(tuple(spans))
        if line_width((span,)) > room:
            shortened = truncate(span.text, room)
            spans.append(Span(shortened, span.color, span.background, span.basic_background,
                              span.bold, span.underline))  # fmt: skip
            break
        spans.append(span)
    return tuple(spans)
