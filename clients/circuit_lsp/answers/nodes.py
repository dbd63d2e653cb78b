"""Answers about nodes: where one is active, and what toggling some does to a circuit."""

import asyncio

import numpy as np

from circuit_client import iv
from circuit_client.circuit_answers import NodeActivity
from circuit_client.graph import graph_of
from circuit_lsp.facts import CircuitFacts
from circuit_lsp.heat import kept
from circuit_lsp.messages import circuits as said
from circuit_lsp.messages.shared import EdgeName, Node
from circuit_lsp.predictions import names_of
from circuit_lsp.tokens import visible
from circuit_lsp.workbench import Workbench
from circuit_protocol.interventions import NodeSet, SiteChannels
from circuit_protocol.messages import Edge


async def samples(bench: Workbench, params: said.SamplesParams) -> said.NodeSamples:
    """Text around a node's smallest and largest values, a task's prompts, the open document."""
    c = bench.link.connection
    look = bench.look()
    circuit = None if params.circuit is None else await bench.facts.circuit(params.circuit)
    named = params.model or (look.model if circuit is None else circuit.shown.circuit.model)
    model = await bench.facts.model(named)
    task = params.task or (None if circuit is None else circuit.shown.circuit.task)
    answer, document = await asyncio.gather(
        c.circuits.samples(
            params.node.site,
            params.node.channel,
            model.name,
            circuit=params.circuit,
            task=task,
            n_windows=params.n_windows,
            context=params.context,
            n_pairs=params.n_pairs,
            n_attention_pairs=min(2, params.n_pairs),
            seed=params.seed,
        ),
        _in_document(bench, params.uri, params.node, circuit),
    )
    rows = _task_rows(answer)
    ids = [t for band in answer.bands for w in band.windows for t in w.tokens]
    names = await names_of(c, model.name, ids + [t for tokens, _ in rows for t in tokens])
    bands = tuple(
        said.SampleBand(
            end=band.end,
            fraction=band.fraction,
            windows=tuple(
                said.SampleText(
                    texts=tuple(names[t] for t in w.tokens),
                    values=w.activations,
                    position=w.position,
                )
                for w in band.windows
            ),
        )
        for band in answer.bands
    )
    half = len(rows) // 2
    task_samples = tuple(
        said.TaskSample(
            pair=i % half,
            side=1 if i >= half else 0,
            text=said.SampleText(
                texts=tuple(names[t] for t in tokens), values=tuple(values), position=None
            ),
        )
        for i, (tokens, values) in enumerate(rows)
    )
    shown = [v for band in bands for w in band.windows for v in w.values]
    shown += [v for sample in task_samples for v in sample.text.values]
    return said.NodeSamples(
        node=params.node,
        model=model.name,
        circuit=None if circuit is None else circuit.name,
        mean=answer.mean,
        quantiles_at=answer.QUANTILES_AT,
        quantiles=answer.raw.quantiles,
        limit=max(map(abs, shown), default=0.0),
        bands=bands,
        task=task,
        task_samples=task_samples,
        patterns=_patterns(answer, rows),
        document=document,
    )


def _task_rows(answer: NodeActivity) -> list[tuple[list[int], list[float]]]:
    if answer.raw.task_tokens is None:
        return []
    parts = zip(answer.task_tokens, answer.task_activations, answer.task_lengths, strict=True)
    return [(tokens[: int(n)].tolist(), values[: int(n)].tolist()) for tokens, values, n in parts]


def _patterns(
    answer: NodeActivity, rows: list[tuple[list[int], list[float]]]
) -> tuple[said.HeadPattern, ...]:
    """Where the node's head attends from each prompt's last token."""
    if answer.raw.attention is None or answer.head is None:
        return ()
    patterns = answer.attention
    has_sink = patterns.shape[2] > patterns.shape[1]
    found: list[said.HeadPattern] = []
    for row, pattern in zip(answer.attention_rows.tolist(), patterns, strict=True):
        length = len(rows[row][0])
        shares = pattern[length - 1]
        found.append(
            said.HeadPattern(
                sample=row,
                head=answer.head,
                shares=tuple(shares[:length].tolist()),
                sink=float(shares[-1]) if has_sink else None,
            )
        )
    return tuple(found)


async def _in_document(
    bench: Workbench, uri: str | None, node: Node, circuit: CircuitFacts | None
) -> said.SampleText | None:
    """The node on what is read of an open document."""
    if uri is None:
        return None
    document = bench.document(uri)
    reading = await bench.reading_at(document, document.focus)
    if not reading.tokens:
        return None
    answer = await bench.link.connection.hook(
        reading.model.name,
        sites=node.site,
        channels=[node.channel],
        tokens=reading.rows,
        interventions=() if circuit is None else [kept(circuit)],
    )
    values = reading.gather(answer[node.site][..., 0], 0)
    first, stop = reading.scored
    return said.SampleText(
        texts=tuple(visible(token.data) for token in reading.tokens[first:stop]),
        values=tuple(values[first:stop].tolist()),
        position=None,
    )


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
    "circuit/node/samples": samples,
    "circuit/circuits/edit": edit,
}
