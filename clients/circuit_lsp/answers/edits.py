"""Answers about changed circuits: what toggling some nodes and edges does."""

import asyncio

import numpy as np

from circuit_client import iv
from circuit_client.graph import graph_of
from circuit_lsp.facts import CircuitFacts
from circuit_lsp.heat import kept
from circuit_lsp.messages import circuits as said
from circuit_lsp.messages.shared import EdgeName, Node
from circuit_lsp.predictions import names_of
from circuit_lsp.workbench import Workbench
from circuit_protocol.interventions import NodeSet, SiteChannels
from circuit_protocol.messages import Edge


async def edit(bench: Workbench, params: said.EditParams) -> said.EditResult:
    """Toggle nodes and edges, measure what is left, and show some prompts' logits."""
    c = bench.link.connection
    before = await bench.facts.circuit(params.circuit, params.model)
    circuit = before.shown.circuit
    edited = c.circuits.edit(
        before.name,
        circuit.model,
        drop=node_set(params.drop),
        add=node_set(params.add),
        drop_edges=map(_edge, params.drop_edges),
        add_edges=map(_edge, params.add_edges),
        save=params.save,
        sweep=params.sweep,
    )
    touches_edges = bool(params.drop_edges or params.add_edges or circuit.cut_edges)
    if touches_edges or params.n_pairs == 0:
        result, logits = await edited, ()
    else:
        result, logits = await asyncio.gather(edited, _logits(bench, before, params))
    if result.saved:
        bench.facts.forget("circuits")
    measured = result.circuit.measured
    return said.EditResult(
        id=result.circuit_id,
        circuit=result.circuit_id if result.saved else None,
        k=measured.k,
        n_edges=measured.n_edges,
        loss=measured.loss,
        accuracy=measured.accuracy,
        delta=result.delta,
        model_loss=measured.model_loss,
        logits=logits,
        compute_s=result.compute_s,
    )


async def _logits(
    bench: Workbench, before: CircuitFacts, params: said.EditParams
) -> tuple[said.AnswerLogits, ...]:
    c = bench.link.connection
    circuit = before.shown.circuit
    sample = await c.tasks.sample(circuit.task, circuit.model, n=params.n_pairs)
    rows = [row[: int(n)] for row, n in zip(sample.tokens, sample.lengths, strict=True)]
    nodes = {(n.site, n.channel) for n in graph_of(before.shown).nodes}
    nodes -= {(n.site, n.channel) for n in params.drop}
    nodes |= {(n.site, n.channel) for n in params.add}
    after = node_set(tuple(Node(site=site, channel=channel) for site, channel in sorted(nodes)))
    fill = "zero" if circuit.ablation == "zero" else "mean"
    plans = (kept(before), iv.keep(after, fill=fill))
    was, now = await asyncio.gather(
        *(c.forward(circuit.model, tokens=rows, logits="last", interventions=p) for p in plans)
    )
    at = np.arange(len(rows))
    right, wrong = sample.answers[:, 0], sample.answers[:, 1]
    differences = [a.logits[at, 0, right] - a.logits[at, 0, wrong] for a in (was, now)]
    names = await names_of(c, circuit.model, sample.answers.ravel().tolist())
    prompts = await c.detokenize([row.tolist() for row in rows], circuit.model)
    return tuple(
        said.AnswerLogits(
            prompt=prompts[i].text,
            right=names[int(right[i])],
            wrong=names[int(wrong[i])],
            before=float(differences[0][i]),
            after=float(differences[1][i]),
        )
        for i in range(len(rows))
    )


def node_set(nodes: tuple[Node, ...]) -> NodeSet:
    """Nodes grouped by site, as the protocol has them."""
    by_site: dict[str, list[int]] = {}
    for node in nodes:
        by_site.setdefault(node.site, []).append(node.channel)
    return tuple(
        SiteChannels(site=site, channels=tuple(sorted(set(some)))) for site, some in by_site.items()
    )


def _edge(edge: EdgeName) -> Edge:
    return Edge(
        source=edge.source.site,
        source_channel=edge.source.channel,
        target=edge.target.site,
        target_channel=edge.target.channel,
    )


ANSWERS = {
    "circuit/circuits/edit": edit,
}
