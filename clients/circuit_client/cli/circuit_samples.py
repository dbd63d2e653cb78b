"""`circuit circuits samples | attention`: what a node or a head of a circuit does on text."""

from typing import Any

import click
import numpy as np

from circuit_client.circuit_answers import AttentionAnswer, NodeActivity
from circuit_client.cli.arguments import (
    CircuitName,
    TaskName,
    prompt_arguments,
    read_prompts,
    run_options,
)
from circuit_client.cli.circuit_changes import read_node
from circuit_client.cli.command import command
from circuit_client.cli.output import Output
from circuit_client.cli.tokens import quoted, rows_of, token_bytes
from circuit_client.graph import layers_with_heads
from circuit_client.render.heat import Scale, legend, number, scale_for, token_heatmap
from circuit_client.render.style import Line, Span
from circuit_client.sync import Connection

_SHARES = Scale("sequential", 1.0, "of the attention")


@command(
    "samples",
    examples=[
        "circuit circuits samples '2.mlp.post_act[863]' --task with_as",
        "circuit circuits samples '2.mlp.post_act[863]' --circuit 3f9a21 --windows 3 --context 12",
    ],
)
@click.argument("node")
@click.option("-c", "--circuit", type=CircuitName(), metavar="CIRCUIT",
              help="In this circuit; else in the whole model.")  # fmt: skip
@click.option("-t", "--task", type=TaskName(), metavar="TASK", help="Prompts of this task, too.")
@click.option("--windows", "n_windows", type=int, default=3, show_default=True,
              help="Windows of text per band.")  # fmt: skip
@click.option("--context", type=int, default=16, show_default=True,
              help="Tokens before and after the one sampled.")  # fmt: skip
@click.option("-n", "--pairs", "n_pairs", type=int, default=4, show_default=True,
              help="Pairs of the task.")  # fmt: skip
@click.option("--seed", type=int, default=0, help="Which are drawn.")
@run_options
def samples(
    c: Connection,
    out: Output,
    node: str,
    circuit: str | None,
    model: str | None,
    **options: Any,
) -> None:
    """Where a node is active: text around its smallest and largest values, and a task's prompts.

    A query, key or value brings its head's attention on some of these prompts along. NODE is
    SITE[CHANNEL] or SITE:CHANNEL, like 2.mlp.post_act:863.
    """
    site, channel = read_node(node)
    if circuit is not None and model is None:
        model = c.circuits.show(circuit).circuit.model
    answer = c.circuits.samples(
        site, channel, model, circuit=circuit, progress=out.progress, **options
    )
    if out.json:
        out.document(_document(answer))
        return
    ids = {t for band in answer.bands for w in band.windows for t in w.tokens}
    if answer.raw.task_tokens is not None:
        ids |= {t for row in rows_of(answer.task_tokens, answer.task_lengths) for t in row}
    out.show(_sample_lines(answer, token_bytes(c, model, ids), out))


def _document(answer: NodeActivity) -> Any:
    raw = answer.raw
    of_task = None
    if raw.task_tokens is not None:
        lengths = answer.task_lengths
        of_task = {
            "tokens": rows_of(answer.task_tokens, lengths),
            "activations": rows_of(answer.task_activations, lengths),
        }
    return {
        "site": raw.site,
        "channel": raw.channel,
        "mean": raw.mean,
        "bias": raw.bias,
        "quantiles": raw.quantiles,
        "quantiles_at": answer.QUANTILES_AT,
        "bands": raw.bands,
        "task": of_task,
        "attention": None
        if raw.attention is None
        else {"head": raw.head, "rows": answer.attention_rows, "patterns": answer.attention},
    }


def _sample_lines(answer: NodeActivity, names: dict[int, bytes], out: Output) -> list[Line]:
    raw = answer.raw
    values = [a for band in answer.bands for w in band.windows for a in w.activations]
    if raw.task_activations is not None:
        values += [a for row in _task_rows(answer) for a in row[1]]
    scale = scale_for(values, "diverging")
    style = {"depth": out.depth, "theme": out.theme, "ascii_only": out.ascii_only}
    low, high = answer.quantiles[0], answer.quantiles[-1]
    said = f"  mean {number(raw.mean)}, from {number(low)} to {number(high)}"
    said += "" if raw.bias is None else f", bias {number(raw.bias)}"
    lines: list[Line] = [
        (Span(f"{raw.site}[{raw.channel}]", bold=True),
         Span(said, color="dim")),
        legend(scale, **style),
    ]  # fmt: skip
    for band in answer.bands:
        lines += [(), (Span(f"{band.end} {100 * band.fraction:g} %", bold=True),)]
        for window in band.windows:
            data = [names[t] for t in window.tokens]
            lines += token_heatmap(data, window.activations, scale, columns=out.columns, **style)
    if raw.task_activations is not None:
        rows = _task_rows(answer)
        half = len(rows) // 2
        for title, some in (("first of each pair", rows[:half]), ("second", rows[half:])):
            lines += [(), (Span(f"task, {title}", bold=True),)]
            for tokens, row in some:
                data = [names[t] for t in tokens]
                lines += token_heatmap(data, row, scale, columns=out.columns, **style)
    if raw.attention is not None:
        lines += [(), legend(_SHARES, **style)]
        lines += [(Span(f"attention of head {raw.head}, from the last token", bold=True),)]
        rows = rows_of(answer.task_tokens, answer.task_lengths)
        has_sink = answer.attention.shape[2] > answer.attention.shape[1]
        for row, pattern in zip(answer.attention_rows, answer.attention, strict=True):
            lines += _attended(rows[row], pattern, len(rows[row]) - 1, has_sink, names, out)
    return lines


def _task_rows(answer: NodeActivity) -> list[tuple[list[int], list[float]]]:
    lengths = answer.task_lengths
    values = rows_of(answer.task_activations, lengths)
    return list(zip(rows_of(answer.task_tokens, lengths), values, strict=True))  # pyright: ignore[reportReturnType]  # rows of floats


@command(
    "attention",
    examples=[
        "circuit circuits attention 3f9a21 --layer 2 'x = \"a'",
        "circuit circuits attention 3f9a21 --layer 2 --heads 3,5 --at -1",
    ],
)
@click.argument("circuit", type=CircuitName())
@prompt_arguments
@click.option("-l", "--layer", type=int, required=True, help="Whose heads.")
@click.option("--heads", metavar="HEADS", help="These, like 3,5; else the retained ones.")
@click.option("--at", "query", type=int, default=-1, show_default=True,
              help="Position that attends, from the end if negative.")  # fmt: skip
@click.option("-n", "--pairs", "n", type=int, default=2, show_default=True,
              help="Pairs of the circuit's task, without a text.")  # fmt: skip
@run_options
def attention(
    c: Connection,
    out: Output,
    circuit: str,
    texts: tuple[str, ...],
    files: tuple[str, ...],
    tokens: tuple[str, ...],
    layer: int,
    heads: str | None,
    query: int,
    n: int,
    model: str | None,
    **options: Any,
) -> None:
    """Where heads attend while only the circuit is kept: the share of each earlier token."""
    prompts = read_prompts(texts, files, tokens)
    chosen = None if heads is None else _heads(heads)
    shown = c.circuits.show(circuit, model=model)
    answer = c.circuits.attention(
        shown, layer, chosen, model, n=n, **prompts, progress=out.progress, **options
    )
    if out.json:
        out.document(_patterns(answer))
        return
    names = token_bytes(c, model or shown.circuit.model, answer.tokens.ravel())
    layers = layers_with_heads(shown.circuit.nodes)
    out.show(_attention_lines(answer, names, query, layers, out))


def _heads(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"`{text}` is not like 3,5.", param_hint="--heads") from None


def _patterns(answer: AttentionAnswer) -> Any:
    return {
        "layer": answer.layer,
        "has_sink": answer.has_sink,
        "tokens": rows_of(answer.tokens, answer.lengths),
        "heads": [{"head": h, "pattern": answer[h]} for h in answer.heads],
    }


def _attention_lines(
    answer: AttentionAnswer,
    names: dict[int, bytes],
    query: int,
    layers: tuple[int, ...],
    out: Output,
) -> list[Line]:
    if not answer.heads:
        others = f" (but in {', '.join(map(str, layers))})" if layers else ""
        text = f"the circuit keeps no query, key or value in layer {answer.layer}{others}"
        return [(Span(text),)]
    style = {"depth": out.depth, "theme": out.theme, "ascii_only": out.ascii_only}
    lines: list[Line] = [legend(_SHARES, **style)]
    rows = rows_of(answer.tokens, answer.lengths)
    for head in answer.heads:
        lines += [(), (Span(f"layer {answer.layer} head {head}", bold=True),)]
        for i, row in enumerate(rows):
            at = query if query >= 0 else len(row) + query
            if not 0 <= at < len(row):
                raise click.BadParameter(f"{len(row)} tokens have no {query}.", param_hint="--at")
            lines += _attended(row, answer[head][i], at, answer.has_sink, names, out)
    return lines


def _attended(
    tokens: list[int],
    pattern: np.ndarray,
    at: int,
    has_sink: bool,
    names: dict[int, bytes],
    out: Output,
) -> list[Line]:
    """Where position `at` of `tokens` attends, by a head's `pattern` [T, keys]."""
    shares = pattern[at]
    lines = token_heatmap(
        [names[t] for t in tokens[: at + 1]],
        np.asarray(shares[: at + 1]).tolist(),
        _SHARES,
        columns=out.columns,
        depth=out.depth,
        theme=out.theme,
        ascii_only=out.ascii_only,
    )
    sink = f", {shares[-1]:.0%} to the sink" if has_sink else ""
    return [*lines, (Span(f"  from {quoted(names[tokens[at]], out)}{sink}", color="dim"),)]
