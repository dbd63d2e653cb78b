"""Circuits as pictures for the graph canvas: a half block, the ego graph of a node.

Places come from the layout that exported drawings use; colours are heat of the ablation deltas, of
nodes and of edges each on a scale of its own. What is off is hollow.
"""

from collections.abc import Collection, Sequence
from typing import Final

import numpy as np

from circuit_client.export.layout import lay_out
from circuit_client.graph import HEAD_KINDS, place_of
from circuit_client.graph import Graph as CircuitGraph
from circuit_client.render.heat import Scale, scale_for
from circuit_client.views.ego import Ego
from circuit_tui.canvas.graph import Caption, Graph
from circuit_tui.paint.glyphs import glyphs
from circuit_tui.paint.look import Look
from circuit_tui.paint.palette import dim, heat

#: Edges this near to the strongest one are drawn thick.
_THICK_SHARE: Final = 0.5


def scales_of(graph: CircuitGraph) -> tuple[Scale, Scale]:
    """What colours mean: of nodes and of edges, in nats."""
    nodes = [n.delta for n in graph.nodes if n.delta is not None]
    edges = [e.delta for e in graph.edges if e.delta is not None]
    return scale_for(nodes, "diverging", "nats"), scale_for(edges, "diverging", "nats")


def picture_of(
    graph: CircuitGraph,
    *,
    scales: tuple[Scale, Scale],
    off: Collection[int],
    cut: Collection[tuple[int, int]] = (),
    carried: Sequence[tuple[int, int]] = (),
    center: int | None = None,
    look: Look,
) -> Graph:
    """The picture of a graph of circuit nodes; `off`, `cut`, `carried` by index in `graph`."""
    layout = lay_out(graph)
    signs, colors = glyphs(look), heat(look)
    levels = colors.levels_of([n.delta or 0.0 for n in graph.nodes], scales[0])
    n = colors.levels
    hollow = 2 * n + 1
    ink = np.array(
        [hollow if i in off else int(levels[i]) + n for i in range(len(levels))], np.intp
    )
    edges = sorted(graph.edges, key=lambda e: e.strength)
    edge_levels = colors.levels_of([e.delta or 0.0 for e in edges], scales[1])
    limit = scales[1].limit
    plain = 2 * n + 1
    joined = [*((a, b) for a, b in carried), *((e.source, e.target) for e in edges)]
    edge_ink = [plain] * len(carried)
    thickness = [1] * len(carried)
    for edge, level in zip(edges, edge_levels, strict=True):
        ends = edge.source, edge.target
        is_off = ends in cut or edge.source in off or edge.target in off
        edge_ink.append(plain if is_off else int(level) + n)
        is_strong = limit > 0 and abs(edge.delta or 0.0) >= _THICK_SHARE * limit
        thickness.append(2 if is_strong and not is_off else 1)
    order = sorted(range(len(graph.nodes)), key=lambda i: -abs(graph.nodes[i].delta or 0.0))
    return Graph(
        positions=np.array([(b.x, b.y) for b in layout.boxes], np.float64).reshape(-1, 2),
        marks=[
            signs.closed_node if i in off else signs.selected_node if i == center else signs.node
            for i in range(len(graph.nodes))
        ],
        labels=[_label(graph, i) for i in range(len(graph.nodes))],
        node_ink=ink,
        node_styles=[*colors.letters, dim(look)],
        edges=np.array(joined, np.intp).reshape(-1, 2),
        edge_ink=np.array(edge_ink, np.intp),
        edge_styles=[*colors.letters, dim(look)],
        thickness=np.array(thickness, np.intp),
        captions=[
            Caption(
                _rank_name(rank.layer, rank.half, rank.name),
                0.0,
                rank.top,
                dim(look),
                sticky=True,
            )
            for rank in layout.ranks
        ],
        label_order=order,
    )


def _label(graph: CircuitGraph, i: int) -> str:
    node = graph.nodes[i]
    kind = place_of(node.site).kind
    name = f"{kind[-1]}{node.label}" if kind in HEAD_KINDS else node.label
    return name if node.delta is None else f"{name} {node.delta:+.2f}"


def _rank_name(layer: int | None, half: str, name: str) -> str:
    short = {"resid_delta": "out", "act_in": "in", "post_act": "neurons"}.get(name, name)
    return name if layer is None else f"{layer}.{half} {short}"


def ego_picture(
    ego: Ego, *, scales: tuple[Scale, Scale], off: Collection[int], look: Look
) -> Graph:
    """The picture of an ego graph, its links through the residual stream dim."""
    return picture_of(
        ego.graph, scales=scales, off=off, carried=ego.carried, center=ego.center, look=look
    )
