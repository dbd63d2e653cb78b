"""Answers about a node: where it is active, in pretraining text, on a task and in a document."""

import asyncio
from collections.abc import Mapping, Sequence

from circuit_client.aio import AsyncConnection
from circuit_client.circuit_answers import NodeActivity
from circuit_client.iv import InterventionLike
from circuit_lsp.facts import CircuitFacts, ModelFacts
from circuit_lsp.heat import kept
from circuit_lsp.messages import circuits as said
from circuit_lsp.messages.shared import Node
from circuit_lsp.predictions import names_of
from circuit_lsp.tokens import visible
from circuit_lsp.workbench import Workbench

#: A prompt's tokens, and the node's value at each of them.
_Row = tuple[list[int], list[float]]


async def samples(bench: Workbench, params: said.SamplesParams) -> said.NodeSamples:
    """Text around a node's smallest and largest values, a task's prompts, the open document.

    The pass over pretraining text takes seconds the first time; without windows it is not made.
    """
    circuit = None if params.circuit is None else await bench.facts.circuit(params.circuit)
    named = params.model or (bench.look().model if circuit is None else circuit.shown.circuit.model)
    model = await bench.facts.model(named)
    task = params.task or (None if circuit is None else circuit.shown.circuit.task)
    if params.n_windows == 0:
        return await _at_hand(bench, params, circuit, model, task)
    c = bench.link.connection
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
    task_samples = _task_samples(rows, names)
    shown = [v for band in bands for w in band.windows for v in w.values]
    return said.NodeSamples(
        node=params.node,
        model=model.name,
        circuit=None if circuit is None else circuit.name,
        mean=answer.mean,
        quantiles_at=answer.QUANTILES_AT,
        quantiles=answer.raw.quantiles,
        limit=_limit(task_samples, shown),
        bands=bands,
        task=task,
        task_samples=task_samples,
        patterns=_patterns(answer, rows),
        document=document,
    )


async def _at_hand(
    bench: Workbench,
    params: said.SamplesParams,
    circuit: CircuitFacts | None,
    model: ModelFacts,
    task: str | None,
) -> said.NodeSamples:
    """What takes one short pass each: the open document, and the task's prompts."""
    c, node = bench.link.connection, params.node
    document, rows = await asyncio.gather(
        _in_document(bench, params.uri, node, circuit),
        _on_task(c, model.name, task, params, circuit),
    )
    names = await names_of(c, model.name, [t for tokens, _ in rows for t in tokens])
    task_samples = _task_samples(rows, names)
    own = () if document is None or task_samples else document.values
    return said.NodeSamples(
        node=node,
        model=model.name,
        circuit=None if circuit is None else circuit.name,
        mean=None,
        quantiles_at=(),
        quantiles=(),
        limit=_limit(task_samples, own),
        bands=(),
        task=task,
        task_samples=task_samples,
        patterns=(),
        document=document,
    )


async def _on_task(
    c: AsyncConnection,
    model: str,
    task: str | None,
    params: said.SamplesParams,
    circuit: CircuitFacts | None,
) -> list[_Row]:
    """The pairs that the daemon samples a node on, with its values."""
    if task is None or params.n_pairs == 0:
        return []
    node = params.node
    drawn = await c.tasks.sample(task, model, n=params.n_pairs, seed=params.seed)
    prompts = [row[: int(n)] for row, n in zip(drawn.tokens, drawn.lengths, strict=True)]
    answer = await c.hook(
        model,
        sites=node.site,
        channels=[node.channel],
        tokens=prompts,
        interventions=_within(circuit),
    )
    values = answer[node.site][..., 0]
    return [
        (prompt.tolist(), row[: len(prompt)].tolist())
        for prompt, row in zip(prompts, values, strict=True)
    ]


def _within(circuit: CircuitFacts | None) -> Sequence[InterventionLike]:
    """What leaves only the circuit, where there is one."""
    return () if circuit is None else [kept(circuit)]


def _task_samples(rows: Sequence[_Row], names: Mapping[int, str]) -> tuple[said.TaskSample, ...]:
    half = len(rows) // 2
    return tuple(
        said.TaskSample(
            pair=i % half,
            side=1 if i >= half else 0,
            text=said.SampleText(
                texts=tuple(names[t] for t in tokens), values=tuple(values), position=None
            ),
        )
        for i, (tokens, values) in enumerate(rows)
    )


def _limit(task_samples: Sequence[said.TaskSample], others: Sequence[float]) -> float:
    """The largest magnitude of all."""
    values = [v for sample in task_samples for v in sample.text.values]
    return max(map(abs, [*values, *others]), default=0.0)


def _task_rows(answer: NodeActivity) -> list[_Row]:
    if answer.raw.task_tokens is None:
        return []
    parts = zip(answer.task_tokens, answer.task_activations, answer.task_lengths, strict=True)
    return [(tokens[: int(n)].tolist(), values[: int(n)].tolist()) for tokens, values, n in parts]


def _patterns(answer: NodeActivity, rows: list[_Row]) -> tuple[said.HeadPattern, ...]:
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
        interventions=_within(circuit),
    )
    values = reading.gather(answer[node.site][..., 0], 0)
    first, stop = reading.scored
    return said.SampleText(
        texts=tuple(visible(token.data) for token in reading.tokens[first:stop]),
        values=tuple(values[first:stop].tolist()),
        position=None,
    )


ANSWERS = {
    "circuit/node/samples": samples,
}
