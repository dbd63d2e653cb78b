"""`circuit forward`."""

from pathlib import Path
from typing import Any

import click
import numpy as np

from circuit_client.answers import ForwardAnswer
from circuit_client.cli.arguments import (
    detach_option,
    interventions_option,
    need_prompts,
    prompt_arguments,
    read_interventions,
    read_prompts,
    run_options,
)
from circuit_client.cli.command import command
from circuit_client.cli.output import Output, sentence
from circuit_client.cli.tokens import quoted, rows_of, token_bytes
from circuit_client.render.heat import legend, scale_for, token_heatmap
from circuit_client.render.style import Line, Span
from circuit_client.render.table import Column, bar, duration, table
from circuit_client.sync import Connection


@command(
    "forward",
    examples=[
        "circuit forward 'for i in range(10):'",
        "circuit forward -f script.py --top-k 10",
        "circuit forward \"print('hi\" -i 'zero:2.mlp.post_act[3,5]@-1'",
        "circuit forward 'x = [1, 2' --json | jq '.rows[0].loss'",
        "circuit forward - --logits logits.npy < script.py",
    ],
)
@prompt_arguments
@click.option("-k", "--top-k", type=int, default=5, help="Show the likeliest next tokens.",
              show_default=True)  # fmt: skip
@click.option("--logits", "logits_file", type=click.Path(dir_okay=False), metavar="FILE",
              help="Save all logits [B, T, V] as .npy.")  # fmt: skip
@interventions_option
@detach_option
@run_options
def forward(
    c: Connection,
    out: Output,
    texts: tuple[str, ...],
    files: tuple[str, ...],
    tokens: tuple[str, ...],
    top_k: int,
    logits_file: str | None,
    interventions: tuple[str, ...],
    detach: bool,
    model: str | None,
    **options: Any,
) -> None:
    """Run text and show the loss of every token.

    Each token is coloured by its own loss: how badly the model foresaw it. The last line's table
    shows what the model expects next.
    """
    prompts = need_prompts(read_prompts(texts, files, tokens))
    arguments: dict[str, Any] = {
        **prompts,
        "targets": "next",
        "logits": "all" if logits_file else "none",
        "top_k": top_k,
        "interventions": read_interventions(interventions),
        "progress": out.progress,
        **options,
    }
    if detach:
        job = c.forward.detach(model, **arguments)
        out.give({"job": job.name}, lambda: sentence(job.name))
        return
    answer = c.forward(model, **arguments)
    if logits_file is not None:
        np.save(logits_file, answer.logits)
        out.note(f"saved logits {list(answer.logits.shape)} to {Path(logits_file)}")
    ids = answer.tokens.ravel().tolist()
    if top_k:
        ids += answer.top_k.ids[:, -1].ravel().tolist() if _aligned(answer) else []
        ids += [i for row in _next_tokens(answer) for i, _ in row]
    names = token_bytes(c, model, ids)
    if out.json:
        out.document(_document(answer, names, top_k))
    else:
        out.show(_lines(answer, names, top_k, out))


def _aligned(answer: ForwardAnswer) -> bool:
    return answer.top_k.ids.shape[1] == 1


def _next_tokens(answer: ForwardAnswer) -> list[list[tuple[int, float]]]:
    """Per row, the likeliest tokens after its last one, with their probabilities."""
    top = answer.top_k
    rows: list[list[tuple[int, float]]] = []
    for i, length in enumerate(answer.lengths):
        at = 0 if _aligned(answer) else int(length) - 1
        rows.append(
            [
                (int(t), float(np.exp(p)))
                for t, p in zip(top.ids[i, at], top.logprobs[i, at], strict=True)
            ]
        )
    return rows


def row_losses(answer: ForwardAnswer) -> list[np.ndarray]:
    """Per row, the loss *of* each token [length]: NaN for the first, which nothing foresaw."""
    losses: list[np.ndarray] = []
    for i, length in enumerate(answer.lengths):
        # token_loss[t] is that of the target at t, which is the token at t + 1.
        shifted = np.full(int(length), np.nan)
        shifted[1:] = answer.token_loss[i, : int(length) - 1]
        losses.append(shifted)
    return losses


def _document(answer: ForwardAnswer, names: dict[int, bytes], top_k: int) -> Any:
    expected = _next_tokens(answer) if top_k else [[] for _ in answer.lengths]
    return {
        "loss": answer.raw.loss,
        "cached": answer.raw.cached,
        "compute_s": answer.raw.compute_s,
        "rows": [
            {
                "loss": float(np.nanmean(losses)) if len(losses) > 1 else None,
                "tokens": [
                    {"id": t, "text": names[t].decode(errors="replace"), "loss": float(loss)}
                    for t, loss in zip(ids, losses, strict=True)
                ],
                "next": [
                    {"id": t, "text": names[t].decode(errors="replace"), "probability": p}
                    for t, p in row
                ],
            }
            for ids, losses, row in zip(
                rows_of(answer.tokens, answer.lengths), row_losses(answer), expected, strict=True
            )
        ],
    }


def _lines(answer: ForwardAnswer, names: dict[int, bytes], top_k: int, out: Output) -> list[Line]:
    losses = row_losses(answer)
    scale = scale_for(np.concatenate(losses).tolist(), "sequential", "nats")
    style = {"depth": out.depth, "theme": out.theme, "ascii_only": out.ascii_only}
    lines: list[Line] = []
    rows = rows_of(answer.tokens, answer.lengths)
    expected = _next_tokens(answer) if top_k else []
    for i, (ids, row) in enumerate(zip(rows, losses, strict=True)):
        data = [names[t] for t in ids]
        lines += token_heatmap(data, row.tolist(), scale, columns=out.columns, **style)
        if top_k:
            lines += [(), *_expectation(expected[i], names, out), ()]
    lines.append(legend(scale, **style))
    if answer.raw.loss is not None:
        counted = sum(int(np.isfinite(row).sum()) for row in losses)
        summary = (
            f"loss {answer.loss:.4f} nats per token (perplexity {np.exp(answer.loss):.1f}) "
            f"over {counted} tokens"
        )
        lines.append((Span(summary, bold=True), Span(origin(answer.raw), color="dim")))
    return lines


def origin(raw: Any) -> str:
    """Whether an answer was computed or remembered, and how long that took."""
    return ", from the cache" if raw.cached else f", computed in {duration(raw.compute_s)}"


def _expectation(
    expected: list[tuple[int, float]], names: dict[int, bytes], out: Output
) -> list[Line]:
    columns = [Column("next"), Column("id", "right"), Column("probability", "right"), Column("")]
    rows = [
        (quoted(names[t], out), str(t), f"{p:.1%}", bar(p, 1.0, 24, ascii_only=out.ascii_only))
        for t, p in expected
    ]
    return table(columns, rows, width_max=out.columns)
