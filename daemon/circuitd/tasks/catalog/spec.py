"""What defines one built-in task: its templates by split and its target tokens' surface forms."""

from __future__ import annotations

from dataclasses import dataclass, field

from circuitd.tasks.template import Template, TwoSided
from circuitd.tasks.words import Split


@dataclass(frozen=True)
class TaskSpec:
    """A task of Table 1 as data.

    `targets` lists alternative surface forms of the two answers, best first; the tokenizer decides
    which is used. `aligned` tasks keep only pairs whose two prompts have equally many tokens.
    """

    name: str
    description: str
    targets: tuple[str, ...]
    aligned: bool
    train: tuple[Template, ...]
    held_out: tuple[Template, ...]
    target_forms: tuple[TwoSided, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "target_forms", tuple(TwoSided(text) for text in self.targets))

    def templates(self, split: Split) -> tuple[Template, ...]:
        """The templates of one split."""
        return self.train if split == "train" else self.held_out
