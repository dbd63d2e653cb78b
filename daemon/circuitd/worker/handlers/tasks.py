"""`tasks.show` and `tasks.sample`: a task's pairs as text, and as tokens of a model."""

from __future__ import annotations

from circuit_protocol.errors import InvalidRequest
from circuit_protocol.replies import PairText, TaskSample, TaskShown, TaskSummary
from circuit_protocol.requests import SampleTask, ShowTask
from circuitd.worker.context import Context
from circuitd.worker.prompts import read_input
from circuitd.worker.registry import Steps


def show(request: ShowTask, context: Context) -> Steps:
    """A few pairs as they are written; a task with several target forms shows its first."""
    task = context.host.tasks.get(request.task)
    pairs = [
        PairText(prompts=prompts, targets=targets)
        for prompts, targets in task.examples(request.split, request.n, request.seed)
    ]
    yield context.output(
        TaskShown(
            id=request.id,
            task=TaskSummary(
                name=task.name,
                description=task.description,
                source=task.source,
                aligned=task.aligned,
            ),
            pairs=tuple(pairs),
        )
    )


def sample(request: SampleTask, context: Context) -> Steps:
    """Pairs as tokens: row i and row i + n are a pair; answers are (right, wrong) of each row."""
    batch = read_input(context, request.input, context.model.config)
    if batch.answers is None:
        raise InvalidRequest("tasks.sample needs a task as its input")
    with context.parcel() as parcel:
        tokens, lengths = batch.put(parcel)
        answers = parcel.put(batch.answers.int())
        yield parcel.seal(
            TaskSample(id=request.id, tokens=tokens, lengths=lengths, answers=answers)
        )
