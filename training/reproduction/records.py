"""What a measurement leaves: small typed records, kept as JSON, from which the page is drawn.

Losses are nats, the mean per side; edges are counted as FACTS 1 says, in a dense network too: every
weight between two kept nodes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from circuit_protocol.circuits import Method
from circuitd.circuits.problem import Split

#: What a null run was given: the task itself, the task with its answers shuffled, or the task on a
#: network whose weights are permuted.
Given = Literal["task", "shuffled labels", "random weights"]


class Whole(msgspec.Struct, frozen=True, kw_only=True, tag="whole"):
    """The unpruned model on a task's fixed pairs."""

    model: str
    task: str
    loss: float
    held_out_loss: float


class Cut(msgspec.Struct, frozen=True, kw_only=True, tag="cut"):
    """A ranking cut at the smallest k that reaches `target_loss` on the pairs of split `cut_on`.

    `k_coef` is the only setting that differs between learned rankings (None: not learned).
    `seconds` is what the ranking took, the same for all its cuts. Where not even all nodes reach
    the target, `n_nodes` and what follows are None.
    """

    model: str
    task: str
    method: Method
    seed: int
    k_coef: float | None
    cut_on: Split
    target_loss: float
    n_nodes: int | None
    n_edges: int | None
    loss: float | None
    held_out_loss: float | None
    seconds: float


class Ablated(msgspec.Struct, frozen=True, kw_only=True, tag="ablated"):
    """The whole model without a learned circuit (cut on training pairs), and without as many random
    other nodes of each site, `losses_without_others` [n draws]; training pairs.
    """

    model: str
    task: str
    seed: int
    target_loss: float
    n_nodes: int
    whole_loss: float
    loss_without: float
    losses_without_others: tuple[float, ...]


class Null(msgspec.Struct, frozen=True, kw_only=True, tag="null"):
    """A circuit learned for what was `given`, at the smallest size that reaches `target_loss`.

    With `is_fitted` the pairs that it must reach the target on are the `n_pairs` it was learned
    from, and nonsense may be learned by heart; otherwise they are others. `n_nodes` and `n_edges`
    are None where no size reached the target, `least_loss` is the least of any size tried.
    """

    model: str
    task: str
    given: Given
    seed: int
    is_fitted: bool
    n_pairs: int
    target_loss: float
    n_nodes: int | None
    n_edges: int | None
    least_loss: float


Record: TypeAlias = Whole | Cut | Ablated | Null


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A model's size and how it is run; `n_block_weights` are those that are not zero."""

    name: str
    model_hash: str
    n_layer: int
    d_model: int
    d_mlp: int
    n_nodes: int
    n_block_weights: int
    execution: str


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for all records."""

    date: str
    version: str
    models: tuple[ModelFacts, ...]
    settings: dict[str, float | int | str | bool | None]
    n_pairs: int
    n_held_out_pairs: int
    n_pool_pairs: int
    data_seed: int


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """All of `docs/reproduction/results.json`."""

    conditions: Conditions
    records: tuple[Record, ...]


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write `records` in one go: a file that is there is whole."""
    part = path.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(tuple(records)))
    part.replace(path)


def read_records(path: Path) -> tuple[Record, ...]:
    """Read what `write_records` wrote. Raises `msgspec.ValidationError` for anything else."""
    return msgspec.json.decode(path.read_bytes(), type=tuple[Record, ...])


def write_results(path: Path, results: Results) -> None:
    """One record to a line, so that a difference between two runs can be read."""
    lines = (msgspec.json.encode(record).decode() for record in results.records)
    conditions = msgspec.json.encode(results.conditions).decode()
    body = ",\n".join(lines)
    path.write_text(f'{{"conditions":{conditions},\n"records":[\n{body}\n]}}\n', "utf-8")


def read_results(path: Path) -> Results:
    """Read what `write_results` wrote. Raises `msgspec.ValidationError` for anything else."""
    return msgspec.json.decode(path.read_bytes(), type=Results)
