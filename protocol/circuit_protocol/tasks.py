"""Tasks: pairs of prompts with two answers each; their prompts as the input of other requests."""

from typing import Annotated

import msgspec

from circuit_protocol.errors import ErrorInfo
from circuit_protocol.messages import ModelRequest, Name, Prompts, Reply, Request, Split
from circuit_protocol.tensors import Tensor


class TaskInput(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="task"):
    """Task prompts as the input of a request: `n` pairs (2n rows: row i and row i+n are a pair)."""

    task: Name
    n: Annotated[int, msgspec.Meta(ge=1, le=16384)] = 64
    split: Split = "train"
    seed: int = 0


class PromptInput(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="prompts"):
    """Prompts of the client's own as input.

    The loss is over `answers` (integers [B, 2]: right and wrong token at each row's last position;
    two-token loss) or over `targets` [B, T] (-1: not counted; mean cross-entropy).
    """

    prompts: Prompts
    answers: Tensor | None = None
    targets: Tensor | None = None


Input = TaskInput | PromptInput


class ListTasks(Request, frozen=True, kw_only=True, omit_defaults=True, tag="tasks.list"):
    """The built-in tasks and those found in task files."""


class TaskSummary(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A task as a list shows it."""

    name: str
    description: str
    source: str
    aligned: bool = True


class TaskList(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="tasks.listed"):
    """Answers tasks.list."""

    tasks: tuple[TaskSummary, ...]


class ShowTask(Request, frozen=True, kw_only=True, omit_defaults=True, tag="tasks.show"):
    """A task's description and a few pairs as text."""

    task: Name
    n: Annotated[int, msgspec.Meta(ge=1, le=64)] = 3
    split: Split = "train"
    seed: int = 0


class PairText(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A pair of a task as text: prompts and the right next token of each."""

    prompts: tuple[str, str]
    targets: tuple[str, str]


class TaskShown(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="tasks.shown"):
    """Answers tasks.show."""

    task: TaskSummary
    pairs: tuple[PairText, ...]


class SampleTask(ModelRequest, frozen=True, kw_only=True, omit_defaults=True, tag="tasks.sample"):
    """A task's pairs as tokens of the model's tokenizer."""

    input: TaskInput


class TaskSample(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="tasks.sampled"):
    """Answers tasks.sample: tokens [2n, T], lengths [2n], answers [2n, 2] (right, wrong)."""

    tokens: Tensor
    lengths: Tensor
    answers: Tensor


class EvaluateTasks(
    ModelRequest, frozen=True, kw_only=True, omit_defaults=True, tag="tasks.evaluate"
):
    """Loss (mean per side) and accuracy of the model on tasks; streams one partial per task."""

    tasks: tuple[str, ...] = ()  # none: all
    n: Annotated[int, msgspec.Meta(ge=1, le=16384)] = 256
    split: Split = "held_out"
    seed: int = 0


class TaskScore(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How well a model does a task: mean two-token loss per side, share of rows answered right."""

    task: str
    loss: float | None
    accuracy: float | None
    rows: int = 0
    error: ErrorInfo | None = None


class TaskScores(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="tasks.evaluated"):
    """Answers tasks.evaluate; partial replies carry the scores so far known."""

    scores: tuple[TaskScore, ...]
    split: str
    cached: bool = False
