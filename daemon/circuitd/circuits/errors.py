"""What can go wrong in finding a circuit, said with the numbers that were found.

ValueError
└── CircuitError
    ├── TaskNotDone          the whole model's loss exceeds the target
    ├── TargetNotReached     no k of this ranking reaches the target
    ├── TooManyNodes         a k above the number of nodes
    └── AnswersCoincide      both answers of a pair are one token
"""

from __future__ import annotations


class CircuitError(ValueError):
    """Base: `found` and `allowed` say what was measured and what would have done."""

    def __init__(self, message: str, found: str = "", allowed: str = "") -> None:
        super().__init__(message)
        self.found = found
        self.allowed = allowed


class TaskNotDone(CircuitError):
    """The model cannot do the task, so nothing can be pruned from it."""

    def __init__(self, loss: float, target_loss: float) -> None:
        super().__init__(
            "the unpruned model does not reach the target loss on this task",
            f"a loss of {loss:.4f}, target {target_loss:g}",
            f"a target above {loss:.4f}, or a task the model can do",
        )
        self.loss = loss


class TargetNotReached(CircuitError):
    """No number of nodes reaches the target."""

    def __init__(self, loss: float, target_loss: float, n_nodes: int) -> None:
        super().__init__(
            "no k of this ranking reaches the target loss",
            f"a loss of {loss:.4f} with all {n_nodes} nodes, target {target_loss:g}",
            "a higher target",
        )


class TooManyNodes(CircuitError):
    """A k above the number of nodes of the model."""

    def __init__(self, k: int, n_nodes: int) -> None:
        super().__init__(
            f"k = {k} nodes were asked for", f"a model of {n_nodes}", f"0 to {n_nodes}"
        )


class AnswersCoincide(CircuitError):
    """A pair's two answers are the same token: its loss is ln 2 whatever the model does."""

    def __init__(self, row: int, token: int) -> None:
        super().__init__(
            "the two answers of a pair are the same token",
            f"token {token} in row {row}",
            "pairs with two different answers",
        )
