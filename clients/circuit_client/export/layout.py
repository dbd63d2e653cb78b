"""Where the nodes of a picture lie: ranks from top to bottom in the order of the pass.

Layered drawing in its classical three steps. Ranks are given by the sites. Within a rank, nodes are
ordered by the barycentre of their neighbours, sweeping down and up until nothing gets shorter.
Then each rank is placed by least squares: as near to the neighbours as the order and the boxes'
widths allow (isotonic regression). q, k and v share a rank and stay together by head; a rank wider
than the page is broken into rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from circuit_client.graph import HEAD_KINDS, Graph, place_of

#: All in pixels.
BOX_HEIGHT = 30.0
GAP = 8.0
GROUP_GAP = 18.0
ROW_GAP = 26.0
RANK_GAP = 44.0
BLOCK_GAP = 62.0
ROW_WIDTH_MAX = 1120.0
_CHAR_WIDTH = 7.0
_SWEEPS = 12
#: How much a carried residual channel pulls, beside an edge.
_CARRIED_PULL = 0.4
_ALONE_PULL = 1e-3


@dataclass(slots=True)
class Box:
    """A node's place: the middle of its top edge, and its width."""

    text: str
    width: float
    x: float = 0.0
    y: float = 0.0


@dataclass(slots=True)
class Group:
    """Nodes of a rank that stay together: one head, or a single node."""

    nodes: list[int]
    head: int | None = None


@dataclass(slots=True)
class Rank:
    """One row of the pass: its name, its groups in order, broken into `rows` of groups."""

    name: str
    layer: int | None
    half: str
    groups: list[Group]
    rows: list[list[Group]] = field(default_factory=list)
    top: float = 0.0
    bottom: float = 0.0


@dataclass(slots=True)
class Layout:
    """Boxes by node, ranks from top to bottom, and the room they take."""

    boxes: list[Box]
    ranks: list[Rank]
    width: float
    height: float


def lay_out(graph: Graph) -> Layout:
    """Places for all nodes; x from 0 to `width`, y from 0 to `height`."""
    boxes = [_box(graph, i) for i in range(len(graph.nodes))]
    ranks = _ranks(graph)
    pulls = _pulls(graph)
    _order(ranks, pulls, len(boxes))
    for rank in ranks:
        rank.rows = _rows(rank, boxes)
    _place(ranks, boxes, pulls)
    left = min((b.x - b.width / 2 for b in boxes), default=0.0)
    for box in boxes:
        box.x -= left
    height = _stack(ranks, boxes)
    width = max((b.x + b.width / 2 for b in boxes), default=0.0)
    return Layout(boxes, ranks, width, height)


def _box(graph: Graph, i: int) -> Box:
    node = graph.nodes[i]
    letter = node.site[-1] if place_of(node.site).kind in HEAD_KINDS else ""
    text = f"{letter}{node.channel if node.head is None else node.within}"
    delta = "" if node.delta is None else f"{node.delta:+z.3f}"
    return Box(text, 10 + _CHAR_WIDTH * max(len(text), 0.85 * len(delta), 2))


def _ranks(graph: Graph) -> list[Rank]:
    ranks: dict[tuple[int | None, str], Rank] = {}
    for site, nodes in graph.by_site.items():
        place = place_of(site)
        name = "heads" if place.kind in HEAD_KINDS else place.kind.rpartition(".")[2]
        key = place.layer, f"{place.half}.{name}"
        rank = ranks.setdefault(key, Rank(name, place.layer, place.half, []))
        for i in nodes:
            head = graph.nodes[i].head
            same = [g for g in rank.groups if head is not None and g.head == head]
            if same:
                same[0].nodes.append(i)
            else:
                rank.groups.append(Group([i], head))
    return list(ranks.values())


def _pulls(graph: Graph) -> list[list[tuple[int, float]]]:
    """For each node its neighbours and how strongly each pulls."""
    pulls: list[list[tuple[int, float]]] = [[] for _ in graph.nodes]
    joined = [(e.source, e.target, 1.0) for e in graph.edges]
    joined += [(a, b, _CARRIED_PULL) for a, b in graph.carried]
    for a, b, pull in joined:
        pulls[a].append((b, pull))
        pulls[b].append((a, pull))
    return pulls


def _order(ranks: Sequence[Rank], pulls: Sequence[list[tuple[int, float]]], n: int) -> None:
    """Sort each rank's groups by barycentre, down and up; the shortest order seen is kept."""
    at = [0.0] * n
    rank_of = [0] * n

    def settle(rank: Rank) -> None:
        nodes = [i for group in rank.groups for i in group.nodes]
        for place, i in enumerate(nodes):
            at[i] = (place + 0.5) / len(nodes)

    for number, rank in enumerate(ranks):
        settle(rank)
        for group in rank.groups:
            for i in group.nodes:
                rank_of[i] = number

    def barycentre(group: Group, side: int) -> float:
        found = [
            (at[j], pull)
            for i in group.nodes
            for j, pull in pulls[i]
            if (rank_of[j] - rank_of[i]) * side > 0
        ]
        total = sum(pull for _, pull in found)
        own = sum(at[i] for i in group.nodes) / len(group.nodes)
        return sum(x * pull for x, pull in found) / total if total else own

    def length() -> float:
        return sum(pull * abs(at[i] - at[j]) for i in range(n) for j, pull in pulls[i])

    best, shortest = [list(rank.groups) for rank in ranks], length()
    for sweep in range(_SWEEPS):
        side = -1 if sweep % 2 == 0 else 1
        for rank in ranks if side < 0 else reversed(ranks):
            keys = {id(group): barycentre(group, side) for group in rank.groups}
            rank.groups.sort(key=lambda group: keys[id(group)])
            settle(rank)
        if length() < shortest:
            best, shortest = [list(rank.groups) for rank in ranks], length()
    for rank, groups in zip(ranks, best, strict=True):
        rank.groups = groups


def _rows(rank: Rank, boxes: Sequence[Box]) -> list[list[Group]]:
    """The rank's groups dealt out to as few rows as the page's width allows.

    Dealt in turn, not cut: so each row reaches over the whole width, and edges stay short.
    """
    total = sum(_group_width(g, boxes) + GROUP_GAP for g in rank.groups)
    n = max(1, -(-int(total) // int(ROW_WIDTH_MAX)))
    return [rank.groups[r::n] for r in range(n) if rank.groups[r::n]]


def _group_width(group: Group, boxes: Sequence[Box]) -> float:
    return sum(boxes[i].width for i in group.nodes) + GAP * (len(group.nodes) - 1)


def _place(
    ranks: Sequence[Rank], boxes: Sequence[Box], pulls: Sequence[list[tuple[int, float]]]
) -> None:
    """Give every box its x: near its neighbours, in order, nothing overlapping."""
    rows = [row for rank in ranks for row in rank.rows]
    for row in rows:
        _spread(row, boxes, [(0.0, 1.0) for group in row for _ in group.nodes])
    for sweep in range(_SWEEPS):
        middle = sum(box.x for box in boxes) / max(1, len(boxes))
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted: list[tuple[float, float]] = []
            for i in (i for group in row for i in group.nodes):
                total = sum(pull for _, pull in pulls[i])
                near = sum(boxes[j].x * pull for j, pull in pulls[i])
                # What has no neighbours takes whatever room is near the middle.
                wanted.append((near / total, total) if total else (middle, _ALONE_PULL))
            _spread(row, boxes, wanted)


def _spread(
    row: Sequence[Group], boxes: Sequence[Box], wanted: Sequence[tuple[float, float]]
) -> None:
    """Each x as near to `wanted` (x, pull) as order and gaps allow: pooling adjacent violators."""
    nodes: list[int] = []
    offsets: list[float] = []
    edge = 0.0
    for group in row:
        for i in group.nodes:
            offsets.append(edge + boxes[i].width / 2)
            edge += boxes[i].width + GAP
            nodes.append(i)
        edge += GROUP_GAP - GAP if group.head is not None else 0.0
    # Once the offsets are taken away, "in order and not overlapping" is "not falling".
    pools: list[tuple[float, float, int]] = []
    for (x, pull), offset in zip(wanted, offsets, strict=True):
        pools.append((x - offset, pull, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, p, n), (b, q, m) = pools[-2:]
            pools[-2:] = [((a * p + b * q) / (p + q), p + q, n + m)]
    level = [value for value, _, n in pools for _ in range(n)]
    for i, value, offset in zip(nodes, level, offsets, strict=True):
        boxes[i].x = value + offset


def _stack(ranks: Sequence[Rank], boxes: Sequence[Box]) -> float:
    """Give every row its y; the whole height."""
    y = 0.0
    before: tuple[int | None, str] | None = None
    for rank in ranks:
        block = rank.layer, rank.half
        if before is not None:
            y += RANK_GAP if block == before else BLOCK_GAP
        before = block
        rank.top = y
        for r, row in enumerate(rank.rows):
            y += ROW_GAP if r else 0.0
            for group in row:
                for i in group.nodes:
                    boxes[i].y = y
            y += BOX_HEIGHT
        rank.bottom = y
    return y
