"""Answers about circuits: listed, as a graph, across budgets, compared, written out."""

import msgspec

from circuit_client import caption
from circuit_client.export.formats import write
from circuit_client.graph import graph_of, place_of
from circuit_client.render.card import card_lines
from circuit_client.render.circuit import Canvas, circuit_lines
from circuit_lsp.facts import CircuitFacts
from circuit_lsp.messages import circuits as said
from circuit_lsp.messages.daemon import Changed
from circuit_lsp.messages.shared import EdgeName, Node
from circuit_lsp.python_script import script_of
from circuit_lsp.workbench import Workbench
from circuit_protocol.circuits import Card, CircuitSummary
from circuit_protocol.errors import NotFound
from circuit_protocol.interventions import NodeSet
from circuit_protocol.messages import Edge


def info(summary: CircuitSummary) -> said.CircuitInfo:
    """A circuit as a list shows it."""
    measured = summary.measured
    return said.CircuitInfo(
        id=summary.id,
        model=summary.model,
        task=summary.task,
        sweep=summary.sweep,
        label=summary.label,
        ablation=summary.ablation,
        origin=summary.origin,
        k=measured.k,
        n_edges=measured.n_edges,
        loss=measured.loss,
        accuracy=measured.accuracy,
        held_out_loss=measured.held_out_loss,
        model_loss=measured.model_loss,
        model_accuracy=measured.model_accuracy,
        verdict=summary.verdict,
        seed=summary.seed,
        target_loss=summary.target_loss,
        created_at_s=summary.created_at_s,
        read_only=summary.read_only,
        broken=summary.broken,
    )


async def list_circuits(bench: Workbench, params: said.CircuitFilter) -> said.CircuitList:
    """The catalogue."""
    c = bench.link.connection
    found = await c.circuits.list(params.model, task=params.task, limit=params.limit)
    return said.CircuitList(circuits=tuple(map(info, found)))


async def show(bench: Workbench, params: said.CircuitParams) -> said.CircuitGraph:
    """A circuit as a graph."""
    return await _graph(bench, await bench.facts.circuit(params.circuit, params.model))


async def measure(bench: Workbench, params: said.CircuitParams) -> said.CircuitGraph:
    """Measure edges and deltas, then show them."""
    await bench.link.connection.circuits.measure(params.circuit, params.model)
    bench.facts.forget("circuit", "circuits")
    return await show(bench, params)


async def _graph(bench: Workbench, facts: CircuitFacts) -> said.CircuitGraph:
    shown, graph = facts.shown, facts.graph
    details = shown.details
    summaries = await bench.facts.circuits(shown.circuit.model)
    siblings = [s for s in summaries if s.task == shown.circuit.task and s.broken is None]
    siblings.sort(key=lambda s: s.measured.k)
    deltas = [edge.delta for edge in graph.edges if edge.delta is not None]
    return said.CircuitGraph(
        info=info(shown.summary),
        d_head=facts.d_head,
        nodes=tuple(
            said.GraphNode(
                site=node.site,
                channel=node.channel,
                layer=(place := place_of(node.site)).layer,
                half=place.half,
                kind=place.kind,
                head=node.head,
                within=node.within,
                label=node.label,
                delta=node.delta,
            )
            for node in graph.nodes
        ),
        edges=said.GraphEdges(
            source=tuple(e.source for e in graph.edges),
            target=tuple(e.target for e in graph.edges),
            weight=tuple(e.weight for e in graph.edges),
            delta=tuple(deltas) if len(deltas) == len(graph.edges) and deltas else None,
        ),
        carried=said.StreamLinks(
            source=tuple(a for a, _ in graph.carried), target=tuple(b for _, b in graph.carried)
        ),
        half_blocks=tuple(
            said.HalfBlock(layer=x.layer, half=x.half, n_nodes=x.n_nodes, delta=x.delta)
            for x in (details.layers if details else ())
        ),
        has_edges=graph.has_edges,
        curve=tuple(
            said.CurvePoint(step=p.step, loss=p.loss, k=p.k)
            for p in (details.curve if details else ())
        ),
        settings=msgspec.json.encode(shown.circuit.found).decode(),
        card=None if shown.card is None else _card(shown.card),
        siblings=tuple(map(info, siblings)),
    )


def _card(card: Card) -> said.CircuitCard:
    return said.CircuitCard(
        verdict=card.verdict,
        reasons=card.reasons,
        depends_on=card.depends_on,
        controls=tuple(
            said.CardControl(
                name=control.name,
                passed=control.passed,
                sentence=control.sentence,
                measurements=tuple(
                    said.CardMeasurement(
                        name=m.name,
                        value=m.value,
                        unit=m.unit,
                        low=None if m.interval is None else m.interval.low,
                        high=None if m.interval is None else m.interval.high,
                    )
                    for m in control.measurements
                ),
            )
            for control in card.controls
        ),
    )


async def draw(bench: Workbench, params: said.DrawParams) -> said.Drawing:
    """A circuit in lines of text."""
    facts = await bench.facts.circuit(params.circuit, params.model)
    canvas = Canvas(max(20, params.columns), "none", ascii_only=params.ascii)
    lines = circuit_lines(facts.shown, canvas, d_head=facts.d_head)
    if facts.shown.card is not None:
        card = card_lines(facts.shown.card, columns=canvas.columns, ascii_only=params.ascii)
        lines = [*lines, (), *card]
    return said.Drawing(
        title=caption.title(facts.shown),
        lines=tuple("".join(span.text for span in line).rstrip() for line in lines),
    )


async def masks(bench: Workbench, params: said.MasksParams) -> said.MaskTable:
    """Which circuits of a task keep which node."""
    c = bench.link.connection
    model = await bench.facts.model(params.model or bench.look().model)
    found = await c.circuits.list(model.name, task=params.task, limit=params.limit)
    if not found:
        raise NotFound(
            "there are no circuits of this task",
            asked=f"{params.task} in {model.name}",
            hint="`circuit prune` finds one",
        )
    usable = sorted((s for s in found if s.broken is None), key=lambda s: s.measured.k)
    kept: dict[tuple[str, int], list[int]] = {}
    labels: dict[tuple[str, int], str] = {}
    for i, summary in enumerate(usable):
        facts = await bench.facts.circuit(summary.id, model.name)
        for node in graph_of(facts.shown, d_head=facts.d_head).nodes:
            kept.setdefault((node.site, node.channel), []).append(i)
            labels[node.site, node.channel] = node.label
    order = sorted(kept, key=lambda n: (place_of(n[0]).order, n[1]))
    rows = (
        said.MaskRow(site=site, channel=channel, label=labels[site, channel],
                     kept_by=tuple(kept[site, channel]))
        for site, channel in order
    )  # fmt: skip
    return said.MaskTable(circuits=tuple(map(info, usable)), rows=tuple(rows))


def listed(nodes: NodeSet) -> tuple[Node, ...]:
    """The nodes of a set, one by one."""
    return tuple(Node(site=n.site, channel=c) for n in nodes for c in n.channels or ())


def edge_name(edge: Edge) -> EdgeName:
    """An edge by its two ends."""
    return EdgeName(
        source=Node(site=edge.source, channel=edge.source_channel),
        target=Node(site=edge.target, channel=edge.target_channel),
    )


async def compare(bench: Workbench, params: said.CompareParams) -> said.Comparison:
    """What differs between two circuits."""
    diff = await bench.link.connection.circuits.diff(
        params.before, params.after, model=params.model
    )
    return said.Comparison(
        before=info(diff.before),
        after=info(diff.after),
        added=listed(diff.added),
        removed=listed(diff.removed),
        shared=listed(diff.shared),
        added_edges=tuple(map(edge_name, diff.added_edges)),
        removed_edges=tuple(map(edge_name, diff.removed_edges)),
        edges_known=diff.edges_known,
        jaccard=diff.jaccard,
        loss_change=diff.loss_change,
        changes=tuple(
            said.DeltaChange(
                node=Node(site=change.site, channel=change.channel),
                before=change.before,
                after=change.after,
            )
            for change in diff.changes
        ),
    )


async def export(bench: Workbench, params: said.ExportParams) -> said.Export:
    """A circuit as text."""
    facts = await bench.facts.circuit(params.circuit, params.model)
    summary = facts.shown.summary
    stem = f"{summary.task}-{summary.label}-{summary.id[:8]}"
    if params.format == "python":
        return said.Export(file_name=f"{stem}.py", text=script_of(facts.shown, bench.look()))
    text = write(facts.shown, params.format, d_head=facts.d_head)
    return said.Export(file_name=f"{stem}.{params.format}", text=text)


async def delete(bench: Workbench, params: said.CircuitParams) -> Changed:
    """Remove a circuit's files."""
    changed = await bench.link.connection.circuits.delete(params.circuit, model=params.model)
    bench.facts.forget("circuit", "circuits")
    return Changed(changed=changed)


ANSWERS = {
    "circuit/circuits/list": list_circuits,
    "circuit/circuits/show": show,
    "circuit/circuits/measure": measure,
    "circuit/circuits/draw": draw,
    "circuit/circuits/masks": masks,
    "circuit/circuits/compare": compare,
    "circuit/circuits/export": export,
    "circuit/circuits/delete": delete,
}
