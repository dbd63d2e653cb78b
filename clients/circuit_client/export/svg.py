"""A circuit as one self-contained SVG picture: no script, no network, no fonts of its own.

Layers run from top to bottom. A box is a node: its channel, and what ablating it alone adds to the
loss, as a number and as a colour. A line is an edge: its colour is the weight's sign, its width
what cutting it adds. Every box and line says more in its tooltip.
"""

from collections.abc import Iterator

from circuit_client import caption
from circuit_client.export.colors import level_class, style_sheet
from circuit_client.export.layout import BOX_HEIGHT, Group, Layout, Rank, lay_out
from circuit_client.export.markup import escaped
from circuit_client.graph import Graph, GraphEdge, graph_of
from circuit_client.render.heat import LEVELS, Scale, number, scale_for
from circuit_protocol.circuit_replies import CircuitShown

#: All in pixels.
_MARGIN = 24.0
_LABELS_WIDTH = 158.0
_HEADER_HEIGHT = 156.0
_WIDTH_MIN = 760.0
_EDGE_WIDTH_MIN, _EDGE_WIDTH_MAX = 1.0, 5.0
_SWATCH = 13.0


def to_svg(shown: CircuitShown, *, d_head: int | None = None) -> str:
    """The picture as a file of its own, light or dark as its reader prefers."""
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return head + picture(shown, d_head=d_head, style=f"<style>\n{style_sheet()}</style>\n")


def picture(shown: CircuitShown, *, d_head: int | None = None, style: str = "") -> str:
    """The `svg` element, to stand alone or in a page that brings the style."""
    graph = graph_of(shown, d_head=d_head)
    layout = lay_out(graph)
    width = max(_WIDTH_MIN, 2 * _MARGIN + _LABELS_WIDTH + layout.width)
    height = _HEADER_HEIGHT + layout.height + _MARGIN
    words = (
        f"{caption.title(shown)}: {caption.sizes(shown.circuit.measured)}, "
        f"{caption.numbers(shown.circuit.measured)}"
    )
    # The drawing stands in the middle of what the labels leave.
    left = _MARGIN + _LABELS_WIDTH
    left += (width - left - _MARGIN - layout.width) / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="graphics-document" '
        f'aria-label="{escaped(words)}">\n',
        style,
        f"<title>{escaped(words)}</title>\n",
        *_header(shown, graph, width),
        *_labels(graph, layout, width),
        f'<g transform="translate({left:.1f} {_HEADER_HEIGHT:.1f})">\n',
        *(_head_box(layout, g) for r in layout.ranks for row in r.rows for g in row),
        *_carried(graph, layout),
        *_edges(graph, layout),
        *_nodes(graph, layout),
        "</g>\n</svg>\n",
    ]
    return "".join(parts)


def _header(shown: CircuitShown, graph: Graph, width: float) -> Iterator[str]:
    measured = shown.circuit.measured
    yield _text(_MARGIN, 32, caption.title(shown), "title")
    yield _text(_MARGIN, 52, f"{caption.sizes(measured)}, {caption.numbers(measured)}", "words")
    verdict = "" if shown.card is None else f"; verdict: {shown.card.verdict}"
    yield _text(_MARGIN, 70, caption.how(shown) + verdict, "faint")
    yield from _legend(graph)
    yield _rule(_HEADER_HEIGHT - 36, width)


def _legend(graph: Graph) -> Iterator[str]:
    x, y = _MARGIN, 82.0
    scale = _node_scale(graph)
    if scale.limit > 0:
        low = f"-{number(scale.limit)}"
        yield _text(x, y + 10, low, "faint")
        x += 7 * len(low) + 4
        for level in range(-LEVELS, LEVELS + 1):
            name = level_class(level)
            yield (
                f'<rect class="swatch {name}" x="{x:.1f}" y="{y:.1f}" '
                f'width="{_SWATCH:.0f}" height="{_SWATCH:.0f}"/>\n'
            )
            x += _SWATCH
        end = f"+{number(scale.limit)} nats when ablated"
        yield _text(x + 4, y + 10, end, "faint")
    x, y = _MARGIN, 102.0
    for name, words in (
        ("edge positive", "weight > 0"),
        ("edge negative", "weight < 0"),
        ("carried", "carried by the stream (no edge)"),
    ):
        if (name == "carried" and not graph.carried) or (name != "carried" and not graph.edges):
            continue
        size = "" if name == "carried" else ' stroke-width="2.5"'
        yield f'<path class="{name}"{size} d="M{x:.1f} {y + 6:.1f}h24"/>\n'
        yield _text(x + 29, y + 10, words, "faint")
        x += 29 + 7 * len(words) + 12


def _labels(graph: Graph, layout: Layout, width: float) -> Iterator[str]:
    before: tuple[int | None, str] | None = None
    for rank in layout.ranks:
        block = rank.layer, rank.half
        top = _HEADER_HEIGHT + rank.top
        if block != before:
            if before is not None:
                yield _rule(top - 36, width)
            delta = None if rank.layer is None else graph.layer_deltas.get((rank.layer, rank.half))
            words = "" if delta is None else f"{delta:+z.3f} nats without it"
            yield (
                f'<text class="block" x="{_MARGIN:.0f}" y="{top - 14:.1f}">{_block_name(rank)}'
                f'<tspan class="faint" dx="10">{words}</tspan></text>\n'
            )
            before = block
        yield _text(_MARGIN + 8, (rank.top + rank.bottom) / 2 + _HEADER_HEIGHT + 4, rank.name,
                    "words")  # fmt: skip


def _block_name(rank: Rank) -> str:
    if rank.layer is None:
        return "after the last layer"
    return f"layer {rank.layer} {'attention' if rank.half == 'attn' else rank.half}"


def _head_box(layout: Layout, group: Group) -> str:
    if group.head is None:
        return ""
    boxes = [layout.boxes[i] for i in group.nodes]
    left = boxes[0].x - boxes[0].width / 2 - 4
    right = boxes[-1].x + boxes[-1].width / 2 + 4
    y = boxes[0].y
    return (
        f'<rect class="head" x="{left:.1f}" y="{y - 13:.1f}" width="{right - left:.1f}" '
        f'height="{BOX_HEIGHT + 17:.0f}" rx="5"/>'
        f'<text class="faint" x="{left + 4:.1f}" y="{y - 3:.1f}">h{group.head}</text>\n'
    )


def _carried(graph: Graph, layout: Layout) -> Iterator[str]:
    for writer, reader in graph.carried:
        yield (
            f'<path class="carried" data-source="{writer}" data-target="{reader}" '
            f'd="{_curve(layout, writer, reader)}"/>\n'
        )


def _edges(graph: Graph, layout: Layout) -> Iterator[str]:
    """Weak ones first, so that strong ones lie on top."""
    deltas = [abs(e.delta) for e in graph.edges if e.delta is not None]
    top = max(deltas, default=0.0)
    for edge in sorted(graph.edges, key=lambda e: e.strength):
        share = abs(edge.delta or 0.0) / top if top else 0.0
        width = _EDGE_WIDTH_MIN + (_EDGE_WIDTH_MAX - _EDGE_WIDTH_MIN) * share
        sign = "negative" if edge.weight < 0 else "positive"
        yield (
            f'<path class="edge {sign}" data-source="{edge.source}" data-target="{edge.target}" '
            f'data-delta="{abs(edge.delta or 0.0):.6g}" stroke-width="{width:.2f}" '
            f'stroke-opacity="{0.45 + 0.55 * share:.2f}" '
            f'd="{_curve(layout, edge.source, edge.target)}">'
            f"<title>{escaped(edge_words(graph, edge))}</title></path>\n"
        )


def _curve(layout: Layout, source: int, target: int) -> str:
    a, b = layout.boxes[source], layout.boxes[target]
    y0, y1 = a.y + BOX_HEIGHT, b.y
    # Far apart, the bends stay near the ends, so that the way between is straight.
    bend = min(60.0, abs(y1 - y0) / 2) if y1 > y0 else 30.0
    points = ((a.x, y0 + bend), (b.x, y1 - bend), (b.x, y1))
    return f"M{a.x:.1f} {y0:.1f}C" + " ".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _nodes(graph: Graph, layout: Layout) -> Iterator[str]:
    scale = _node_scale(graph)
    for i, (node, box) in enumerate(zip(graph.nodes, layout.boxes, strict=True)):
        level = level_class(0 if node.delta is None else scale.level(node.delta))
        words = node.name if node.head is None else f"{node.name} (head {node.head})"
        if node.delta is not None:
            words += f": {node.delta:+z.4f} nats when ablated"
        delta = ""
        if node.delta is not None:
            place = f'x="{box.x:.1f}" y="{box.y + 25:.1f}"'
            delta = f'<text class="delta" {place}>{node.delta:+z.3f}</text>'
        y = box.y + (14 if delta else 19)
        yield (
            f'<g class="node {level}" data-node="{i}" tabindex="0" role="graphics-symbol" '
            f'aria-label="{escaped(words)}"><title>{escaped(words)}</title>'
            f'<rect x="{box.x - box.width / 2:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" '
            f'height="{BOX_HEIGHT:.0f}" rx="4"/>'
            f'<text x="{box.x:.1f}" y="{y:.1f}">{escaped(box.text)}</text>{delta}</g>\n'
        )


def edge_words(graph: Graph, edge: GraphEdge) -> str:
    """An edge in words: ends, weight, delta."""
    ends = f"{graph.nodes[edge.source].name} → {graph.nodes[edge.target].name}"
    cut = "" if edge.delta is None else f", {edge.delta:+z.4f} nats when cut"
    return f"{ends}: weight {edge.weight:+.4g}{cut}"


def _node_scale(graph: Graph) -> Scale:
    return scale_for([n.delta for n in graph.nodes if n.delta is not None], "diverging")


def _rule(y: float, width: float) -> str:
    return (
        f'<line class="rule" x1="{_MARGIN:.0f}" y1="{y:.1f}" '
        f'x2="{width - _MARGIN:.0f}" y2="{y:.1f}"/>\n'
    )


def _text(x: float, y: float, words: str, name: str) -> str:
    return f'<text class="{name}" x="{x:.1f}" y="{y:.1f}">{escaped(words)}</text>\n'
