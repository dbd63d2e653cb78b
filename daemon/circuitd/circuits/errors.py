"""What can go wrong in finding a circuit, said with the numbers that were measured.

FindError
├── TaskNotDone          the whole model's loss exceeds the target
├── TargetNotReached     no k of this ranking reaches the target
├── TooManyNodes         a k above the number of nodes
├── AnswersCoincide      both answers of a pair are one token
└── SearchFailed         none of a search's runs gave a circuit
"""

from __future__ import annotations


class FindError(ValueError):
    """Base: `asked` and `found` are what was wanted and what is, `hint` what would do."""

    def __init__(self, message: str, asked: str, found: str, hint: str = "") -> None:
        super().__init__(f"{message}; asked: {asked}; found: {found}")
        self.message = message
        self.asked = asked
        self.found = found
        self.hint = hint


class TaskNotDone(FindError):
    """The model cannot do the task, so nothing can be pruned from it."""

    def __init__(self, loss: float, target_loss: float) -> None:
        super().__init__(
            "the unpruned model does not reach the target loss on this task",
            f"a loss of {target_loss:g}",
            f"a loss of {loss:.4f}",
            f"Ask for a target above {loss:.4f}, or take a task that the model can do",
        )


class TargetNotReached(FindError):
    """No number of nodes reaches the target."""

    def __init__(self, loss: float, target_loss: float, n_nodes: int) -> None:
        super().__init__(
            "no k of this ranking reaches the target loss",
            f"a loss of {target_loss:g}",
            f"a loss of {loss:.4f} with all {n_nodes} nodes",
            f"Ask for a target above {loss:.4f}",
        )


class TooManyNodes(FindError):
    """A k above the number of nodes of the model."""

    def __init__(self, k: int, n_nodes: int) -> None:
        super().__init__(
            "there are not as many nodes",
            f"k = {k}",
            f"a model of {n_nodes} nodes",
            f"k is 0 to {n_nodes}",
        )


class AnswersCoincide(FindError):
    """A pair's two answers are the same token: its loss is ln 2 whatever the model does."""

    def __init__(self, row: int, token: int) -> None:
        super().__init__(
            "the two answers of a pair are the same token",
            "two different answers for each prompt",
            f"token {token} twice in row {row}",
            "Give pairs with two different answers",
        )


class SearchFailed(FindError):
    """None of a search's runs gave a circuit."""

    def __init__(self, n_trials: int, last_error: str) -> None:
        super().__init__(
            "every run of the search failed",
            f"{n_trials} runs",
            f"none reached the target; the last: {last_error}",
            "Raise the target loss, or start the search from other settings",
        )
