"""A plan: one frozen value that says what a forward pass records, changes and differentiates.

The forward pass is a pure function of weights, tokens and a plan. Two plans never meet: there is no
module state, no global hook, and nothing in a plan is code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from circuitd.engine.cuts import Cut
from circuitd.engine.errors import PlanError
from circuitd.engine.interventions import Intervention, Positions

#: How a recorded activation shrinks where it is; see `Record`.
Reduction = Literal["mean", "mean_abs", "max_abs", "norm", "top_k"]


@dataclass(frozen=True, eq=False)
class Record:
    """Keep the value of `site` (after interventions), or a slice or reduction of it.

    `positions` are absolute, negative ones count from each row's end; `channels` or `heads` select
    along the last axis (of a pattern, `heads` select its head axis and `positions` its queries).
    Without reduction the value is [B, P, C]. `reduce` gives

        mean, mean_abs, max_abs   over the selected real positions: [B, C]
        norm                      Euclidean, over the selected channels: [B, P]
        top_k                     the `k` entries of largest magnitude: [B, P, k], signed, largest
                                  first; their channels go to `Run.indices[key]`

    Padding of a ragged batch is left out of means and maxima, and is in the other values as it is.
    `key` names the record in `Run.records`; the site's name unless two records share a site.
    """

    site: str
    positions: Positions | None = None
    channels: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None
    reduce: Reduction | None = None
    k: int = 10
    key: str | None = None

    @property
    def name(self) -> str:
        """The key in `Run.records`."""
        return self.site if self.key is None else self.key


@dataclass(frozen=True, eq=False)
class LogitDifference:
    """Per row, logit of token `a[b]` minus logit of `b[b]` at one position (None: the row's last).

    `a` and `b` are token ids, one for all rows or [B].
    """

    a: Tensor | int
    b: Tensor | int
    position: int | None = None


@dataclass(frozen=True, eq=False)
class TwoTokenLoss:
    """Per row, cross-entropy over only two tokens' logits, `right[b]` against `wrong[b]`.

    Chance is ln 2. `position` as in `LogitDifference`.
    """

    right: Tensor | int
    wrong: Tensor | int
    position: int | None = None


Objective = Literal["loss"] | LogitDifference | TwoTokenLoss


@dataclass(frozen=True, eq=False)
class Gradient:
    """Differentiate `of` with respect to the activations at `sites` (never to weights).

    "loss" is the plan's mean cross-entropy, so a row's gradient depends on how many targets the
    batch has. The other objectives are summed over rows: a row's gradient is its own.
    """

    of: Objective
    sites: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """What one forward pass does besides computing.

    `cuts` are single weights whose flow is replaced (edge ablation); see `Cut`.
    `logits`: "all" [B, T, V], "last" (each row's last real position) [B, V], or "none".
    `targets` [B, T] int64, -1 is ignored: gives `Run.loss` and `Run.token_loss`.
    `lengths` [B]: real tokens per row of a right-padded batch; None means all T.
    `stop_after`: a site after which nothing more is computed (no logits either).
    `cancelled` is asked before each layer; when it says true, `Cancelled` is raised.
    """

    record: tuple[Record, ...] = ()
    interventions: tuple[Intervention, ...] = ()
    cuts: tuple[Cut, ...] = ()
    gradient: Gradient | None = None
    logits: Literal["all", "last", "none"] = "all"
    targets: Tensor | None = None
    lengths: Tensor | None = None
    stop_after: str | None = None
    cancelled: Callable[[], bool] | None = None

    def __post_init__(self) -> None:
        names = [record.name for record in self.record]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise PlanError(f"records {twice}", "asked for twice", "give each a key of its own")
        if self.logits not in ("all", "last", "none"):
            raise PlanError(f"logits={self.logits!r}", "not a choice", "all, last or none")
        if self.gradient is not None and self.gradient.of == "loss" and self.targets is None:
            raise PlanError("gradient of the loss", "the plan has no targets", "give targets")
        if self.stop_after is not None and (self.gradient is not None or self.targets is not None):
            raise PlanError(
                f"stop_after={self.stop_after!r}",
                "targets or a gradient need the rest of the network",
                "leave one of them out",
            )

    @property
    def is_differentiable(self) -> bool:
        """Whether the forward pass must build a graph."""
        return self.gradient is not None or self.has_learned_values

    @property
    def has_learned_values(self) -> bool:
        """Whether an intervention's own values want a gradient (a gate being trained)."""
        return any(intervention.is_differentiable for intervention in self.interventions)
