"""`circuit models embedding | training`: what a model's files say without running it."""

from typing import Any, Literal

import click
import numpy as np

from circuit_client.cli.arguments import ModelName, run_options
from circuit_client.cli.command import command
from circuit_client.cli.output import Output
from circuit_client.cli.tokens import quoted
from circuit_client.model_answers import Embedded
from circuit_client.render.heat import number
from circuit_client.render.plot import Axis, Curve, plot
from circuit_client.render.style import Line, Span
from circuit_client.render.table import Column, facts, table
from circuit_client.sync import Connection
from circuit_protocol.inspection import Metric, TokenWeight, TrainingCurvesShown


@command(
    "embedding",
    examples=["circuit models embedding 205", "circuit models embedding 205 --unembedding -n 8"],
)
@click.argument("channel", type=click.IntRange(min=0))
@click.option("--unembedding", is_flag=True,
              help="Which tokens it raises, rather than which write it.")  # fmt: skip
@click.option("-n", "n", type=int, default=20, show_default=True, help="Tokens at each end.")
@run_options
def embedding(
    c: Connection,
    out: Output,
    channel: int,
    unembedding: bool,
    n: int,
    model: str | None,
    **options: Any,
) -> None:
    """Which tokens write CHANNEL of the residual stream, and what positions add to it."""
    of: Literal["embedding", "unembedding"] = "unembedding" if unembedding else "embedding"
    answer = c.models.embedding(channel, model, of=of, n=n, progress=out.progress, **options)
    if out.json:
        out.document(_document(answer))
        return
    out.show(_embedding_lines(answer, out))


def _document(answer: Embedded) -> Any:
    raw = answer.raw

    def named(tokens: tuple[TokenWeight, ...]) -> list[Any]:
        return [{"id": t.id, "text": t.data.decode(errors="replace"), "weight": t.weight}
                for t in tokens]  # fmt: skip

    positions = answer.positions
    return {
        "channel": raw.channel,
        "of": raw.of,
        "n_tokens": raw.n_tokens,
        "n_nonzero": raw.n_nonzero,
        "mean": raw.mean,
        "std": raw.std,
        "top": named(raw.top),
        "bottom": named(raw.bottom),
        "histogram": {"counts": raw.counts, "edges": raw.edges},
        "positions": None if positions is None else positions.tolist(),
    }


def _embedding_lines(answer: Embedded, out: Output) -> list[Line]:
    raw = answer.raw
    verb = "write" if raw.of == "embedding" else "are read from"
    lines: list[Line] = [(Span(f"residual channel {raw.channel}", bold=True),)]
    if raw.n_tokens:
        lines += facts(
            [("tokens", f"{raw.n_nonzero:,} of {raw.n_tokens:,} {verb} it"),
             ("weights", f"mean {number(raw.mean or 0.0)}, deviation {number(raw.std or 0.0)}")]
        )  # fmt: skip
        rows = [
            (quoted(high.data, out), f"{high.weight:+.3f}", quoted(low.data, out),
             f"{low.weight:+.3f}")
            for high, low in zip(answer.top, answer.bottom, strict=True)
        ]  # fmt: skip
        columns = [
            Column("largest", shrink=True),
            Column("", "right"),
            Column("smallest", shrink=True),
            Column("", "right"),
        ]
        lines += [(), *table(columns, rows, width_max=out.columns)]
        middles = (answer.edges[:-1] + answer.edges[1:]) / 2
        points = tuple(zip(middles.tolist(), (answer.counts + 0.0).tolist(), strict=True))
        lines += [(), *_plotted([Curve("tokens", points)], Axis("weight"), Axis("tokens"), out)]
    positions = answer.positions
    if positions is not None:
        points = tuple(enumerate(positions.tolist()))
        curve = Curve("added", tuple((float(x), y) for x, y in points))
        lines += [(), *_plotted([curve], Axis("position"), Axis("what a position adds"), out)]
    return lines


@command(
    "training",
    examples=["circuit models training", "circuit models training csd-py-dense -m '*xent' --json"],
)
@click.argument("model", type=ModelName(), required=False)
@click.option("-m", "--metric", "metrics", multiple=True, metavar="PATTERN",
              help="Only these, like 'test_*'; else the best known ones are drawn.")  # fmt: skip
@click.option("--points", "n_points", type=click.IntRange(min=2), default=2000, show_default=True,
              help="At most so many lines of the file, evenly.")  # fmt: skip
def training(
    c: Connection, out: Output, model: str | None, metrics: tuple[str, ...], n_points: int
) -> None:
    """What was written down while a model was trained."""
    found = c.models.training(model, metrics=metrics, n_points=n_points)
    out.give(found, lambda: _training_lines(found, out, all_of_them=bool(metrics)))


#: What is drawn first of what a training run wrote down.
_BEST_KNOWN = ("test_xent", "train_xent", "L0", "L0_non_embed")


def _training_lines(found: TrainingCurvesShown, out: Output, *, all_of_them: bool) -> list[Line]:
    chosen = [m for m in found.metrics if all_of_them or m.name in _BEST_KNOWN] or found.metrics[:3]
    lines: list[Line] = [
        (Span(f"{found.n_lines:,} lines of {found.path}", color="dim"),),
        *((Span(note, color="note"),) for note in found.notes),
    ]
    for metric in chosen:
        last = next((v for v in reversed(metric.values) if v is not None), None)
        if last is not None:
            y = Axis(f"{metric.name} (in the end {number(last)})")
            curve = Curve(metric.name, _points(found, metric))
            lines += [(), *_plotted([curve], Axis("step"), y, out)]
    others = [m.name for m in found.metrics if m not in chosen]
    if others:
        lines += [(), (Span(f"also: {', '.join(others)}", color="dim"),)]
    return lines


def _points(found: TrainingCurvesShown, metric: Metric) -> tuple[tuple[float, float], ...]:
    pairs = zip(found.steps, metric.values, strict=True)
    return tuple((step, value) for step, value in pairs if value is not None)


def _plotted(curves: list[Curve], x: Axis, y: Axis, out: Output) -> list[Line]:
    finite = [Curve(c.name, tuple(p for p in c.points if np.isfinite(p[1]))) for c in curves]
    return plot(finite, x, y, columns=min(out.columns, 72), rows=6, ascii_only=out.ascii_only)
