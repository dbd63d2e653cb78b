"""`tasks.*`: what there is, its pairs as text or tokens, and how well a model does them."""

from collections.abc import Sequence
from typing import Unpack

from circuit_client.answers import TaskTokens
from circuit_client.call import UNSENT_ID, Call, Received, progress_only, whole
from circuit_client.verbs.options import ModelOptions, sort_options
from circuit_protocol.replies import (
    Progress,
    TaskList,
    TaskSample,
    TaskScores,
    TaskShown,
    TaskSummary,
)
from circuit_protocol.requests import (
    EvaluateTasks,
    ListTasks,
    SampleTask,
    ShowTask,
    Split,
    TaskInput,
)


def list_tasks() -> Call[Progress, tuple[TaskSummary, ...]]:
    """The built-in tasks and those found in task files."""

    def read(received: Received) -> tuple[TaskSummary, ...]:
        return received.expect(TaskList).tasks

    return Call(ListTasks(id=UNSENT_ID), read, progress_only)


def show(
    task: str, *, n: int = 3, split: Split = "train", seed: int = 0
) -> Call[Progress, TaskShown]:
    """A task's description and `n` pairs as text."""
    request = ShowTask(id=UNSENT_ID, task=task, n=n, split=split, seed=seed)
    return Call(request, whole(TaskShown), progress_only)


def sample(
    task: str,
    model: str | None = None,
    *,
    n: int = 64,
    split: Split = "train",
    seed: int = 0,
    **options: Unpack[ModelOptions],
) -> Call[Progress, TaskTokens]:
    """`n` pairs as tokens of the model's tokenizer: 2n rows, row i and row i + n are a pair."""
    fields, progress = sort_options(model, options)
    request = SampleTask(input=TaskInput(task=task, n=n, split=split, seed=seed), **fields)

    def read(received: Received) -> TaskTokens:
        return TaskTokens(received.expect(TaskSample), received)

    return Call(request, read, progress_only, progress=progress)


def evaluate(
    tasks: str | Sequence[str] = (),
    model: str | None = None,
    *,
    n: int = 256,
    split: Split = "held_out",
    seed: int = 0,
    **options: Unpack[ModelOptions],
) -> Call[Progress | TaskScores, TaskScores]:
    """Loss (mean per side) and accuracy on tasks (none named: all); partial scores as events."""
    fields, progress = sort_options(model, options)
    names = (tasks,) if isinstance(tasks, str) else tuple(tasks)
    request = EvaluateTasks(tasks=names, n=n, split=split, seed=seed, **fields)

    def read_event(received: Received) -> Progress | TaskScores | None:
        reply = received.reply
        return reply if isinstance(reply, Progress | TaskScores) else None

    return Call(request, whole(TaskScores), read_event, progress=progress)
