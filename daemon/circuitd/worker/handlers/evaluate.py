"""`tasks.evaluate`: the model's loss and accuracy on tasks, one partial reply per task."""

from __future__ import annotations

from collections.abc import Iterator

from circuit_protocol.replies import TaskScore, TaskScores
from circuit_protocol.requests import EvaluateTasks, TaskInput
from circuitd.circuits.scoring import answer_logits, correct, two_token_losses
from circuitd.engine import gpt
from circuitd.engine.plan import Plan
from circuitd.tasks.errors import TaskError
from circuitd.worker.context import Context
from circuitd.worker.errors import as_circuit_error
from circuitd.worker.output import Output
from circuitd.worker.prompts import read_input
from circuitd.worker.registry import Steps
from circuitd.worker.slices import row_slices


def run(request: EvaluateTasks, context: Context) -> Steps:
    """Score each task on `n` pairs; one that cannot be drawn carries its error instead."""
    names = request.tasks or tuple(context.host.tasks.names())
    for name in request.tasks:
        context.host.tasks.get(name)  # a name nobody knows fails the request before any work
    scores: list[TaskScore] = []
    for name in names:
        score: TaskScore | None = None
        for step in _score(request, name, context):
            score = step
            if step is None:
                yield context.progress("evaluate", len(scores), len(names), unit="tasks")
        assert score is not None  # the last step of a task is its score
        scores.append(score)
        if len(scores) < len(names):
            yield _answer(request, context, scores, final=False)
    yield _answer(request, context, scores, final=True)


def _score(request: EvaluateTasks, name: str, context: Context) -> Iterator[TaskScore | None]:
    """Steps of one task: None between passes, its score at the end."""
    weights = context.model.weights
    asked = TaskInput(task=name, n=request.n, split=request.split, seed=request.seed)
    try:
        batch = read_input(context, asked, context.model.config)
    except TaskError as error:
        reason = as_circuit_error(error, where=f"task {name}", reason=None)
        yield TaskScore(task=name, loss=None, accuracy=None, error=reason.to_info())
        return
    assert batch.answers is not None  # tasks have answers
    loss = right = 0.0
    for rows in row_slices(weights, batch.n_rows, batch.n_positions):
        plan = Plan(logits="last", lengths=batch.lengths[rows], cancelled=context.stop)
        logits = gpt.forward(weights, batch.tokens[rows], plan).logits
        assert logits is not None  # the plan asked for them
        answered = answer_logits(logits, batch.answers[rows].to(logits.device))
        loss += float(two_token_losses(answered).sum())
        right += float(correct(answered).sum())
        yield None
    n = batch.n_rows
    yield TaskScore(task=name, loss=loss / n, accuracy=right / n, rows=n)


def _answer(
    request: EvaluateTasks, context: Context, scores: list[TaskScore], *, final: bool
) -> Output:
    return context.output(
        TaskScores(id=request.id, final=final, scores=tuple(scores), split=request.split)
    )
