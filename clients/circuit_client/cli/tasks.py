"""`circuit tasks`."""

import click

from circuit_client.cli.arguments import TaskName, model_option
from circuit_client.cli.command import command, group
from circuit_client.cli.output import Output, sentence
from circuit_client.render.style import Line, Span
from circuit_client.render.table import Column, bar, table
from circuit_client.render.text_width import shown
from circuit_client.sync import Connection
from circuit_protocol.replies import TaskScore, TaskScores, TaskShown, TaskSummary

#: What a model must reach on a task to do it, on held-out data.
PASS_ACCURACY = 0.97
PASS_LOSS = 0.10


@group("tasks")
def tasks() -> None:
    """Tasks, and how well a model does them."""


@command("list", examples=["circuit tasks list"])
def list_tasks(c: Connection, out: Output) -> None:
    """The built-in tasks and those found in task files."""
    found = c.tasks.list()
    out.give({"tasks": found}, lambda: _list_lines(found, out))


def _list_lines(found: tuple[TaskSummary, ...], out: Output) -> list[Line]:
    columns = [Column("task"), Column("what it asks", shrink=True), Column("from", shrink=True)]
    rows = [(t.name, t.description, Span(t.source, color="dim")) for t in found]
    return table(columns, rows, width_max=out.columns)


@command(
    "show", examples=["circuit tasks show single_double_quote", "circuit tasks show with_as -n 5"]
)
@click.argument("task", type=TaskName())
@click.option("-n", "--pairs", "n", type=int, default=3, help="How many pairs.", show_default=True)
@click.option("--split", type=click.Choice(["train", "held_out"]), default="train",
              show_default=True)  # fmt: skip
@click.option("--seed", type=int, default=0, help="Which pairs are drawn.")
def show(c: Connection, out: Output, task: str, n: int, split: str, seed: int) -> None:
    """A task's description and a few of its pairs."""
    shown_task = c.tasks.show(task, n=n, split=split, seed=seed)  # pyright: ignore[reportArgumentType]  # click checked it
    out.give(shown_task, lambda: _show_lines(shown_task, out))


def _show_lines(answer: TaskShown, out: Output) -> list[Line]:
    lines: list[Line] = [
        (Span(answer.task.name, bold=True), Span(f"  {answer.task.description}")),
    ]
    for i, pair in enumerate(answer.pairs):
        for prompt, target in zip(pair.prompts, pair.targets, strict=True):
            lines.append(())
            rows = prompt.split("\n")
            lines += [(Span(f"{i + 1} │ ", color="dim"), Span(_text(r, out))) for r in rows[:-1]]
            lines.append(
                (
                    Span(f"{i + 1} │ ", color="dim"),
                    Span(_text(rows[-1], out)),
                    Span(_text(target, out), color="good", bold=True, underline=True),
                )
            )
    return lines


def _text(text: str, out: Output) -> str:
    return shown(text, ascii_only=out.ascii_only)


@command(
    "sample",
    examples=["circuit tasks sample bracket_counting -n 4 --json"],
)
@click.argument("task", type=TaskName())
@click.option("-n", "--pairs", "n", type=int, default=4, help="How many pairs.", show_default=True)
@click.option("--split", type=click.Choice(["train", "held_out"]), default="train",
              show_default=True)  # fmt: skip
@click.option("--seed", type=int, default=0, help="Which pairs are drawn.")
@model_option
def sample(
    c: Connection, out: Output, task: str, n: int, split: str, seed: int, model: str | None
) -> None:
    """A task's pairs as tokens of the model's tokenizer."""
    answer = c.tasks.sample(task, model, n=n, split=split, seed=seed)  # pyright: ignore[reportArgumentType]  # click checked it
    rows = [
        {"tokens": answer.tokens[i, : answer.lengths[i]], "answers": answer.answers[i]}
        for i in range(len(answer.lengths))
    ]
    columns = [Column("right", "right"), Column("wrong", "right"), Column("tokens", shrink=True)]
    out.give(
        {"rows": rows, "pairs": n},
        lambda: table(
            columns,
            [
                (str(r["answers"][0]), str(r["answers"][1]), " ".join(map(str, r["tokens"])))
                for r in rows
            ],
            width_max=out.columns,
        ),
    )


@command(
    "evaluate",
    examples=[
        "circuit tasks evaluate",
        "circuit tasks evaluate single_double_quote with_as -n 512",
        "circuit tasks evaluate --json | jq '.scores[] | select(.accuracy > .97) | .task'",
    ],
)
@click.argument("names", nargs=-1, type=TaskName(), metavar="[TASK]...")
@click.option("-n", "--pairs", "n", type=int, default=256, help="Pairs per task.",
              show_default=True)  # fmt: skip
@click.option("--split", type=click.Choice(["train", "held_out"]), default="held_out",
              show_default=True)  # fmt: skip
@click.option("--seed", type=int, default=0, help="Which pairs are drawn.")
@model_option
def evaluate(
    c: Connection,
    out: Output,
    names: tuple[str, ...],
    n: int,
    split: str,
    seed: int,
    model: str | None,
) -> None:
    """Loss and accuracy of a model on tasks (none named: all of them).

    A pass is an accuracy of .97 or more and a loss of .10 or less (mean per side, in nats; chance
    is 0.693).
    """
    scores = c.tasks.evaluate(names, model, n=n, split=split, seed=seed, progress=out.progress)  # pyright: ignore[reportArgumentType]  # click checked it
    out.give(scores, lambda: _score_lines(scores, out))


def passes(score: TaskScore) -> bool:
    """Whether the model does the task."""
    return (
        score.loss is not None
        and score.accuracy is not None
        and score.loss <= PASS_LOSS
        and score.accuracy >= PASS_ACCURACY
    )


def _score_lines(answer: TaskScores, out: Output) -> list[Line]:
    if not answer.scores:
        return sentence("no tasks")
    yes, no = ("yes", "no") if out.ascii_only else ("✓", "✗")
    columns = [
        Column("pass"),
        Column("task"),
        Column("accuracy", "right"),
        Column("loss", "right"),
        Column("rows", "right"),
        Column("", shrink=True),
    ]
    rows = []
    for s in sorted(answer.scores, key=lambda s: (not passes(s), s.loss is None, s.loss or 0.0)):
        if s.error is not None or s.loss is None or s.accuracy is None:
            reason = s.error.message if s.error else "no score"
            rows.append((Span("-", color="dim"), s.task, "", "", "", Span(reason, color="bad")))
            continue
        mark = Span(yes, color="good", bold=True) if passes(s) else Span(no, color="bad")
        length = bar(s.accuracy, 1.0, 20, ascii_only=out.ascii_only)
        rows.append((mark, s.task, f"{s.accuracy:.1%}", f"{s.loss:.4f}", str(s.rows), length))
    done = sum(map(passes, answer.scores))
    summary = (
        f"{done} of {len(answer.scores)} tasks passed (accuracy at least {PASS_ACCURACY:.0%}, "
        f"loss at most {PASS_LOSS:.2f}), {answer.split} data"
        + (", from the cache" if answer.cached else "")
    )
    return [*table(columns, rows, width_max=out.columns), (), (Span(summary, bold=True),)]


for _command in (list_tasks, show, sample, evaluate):
    tasks.add_command(_command)
