"""Two-sided code templates: one text that renders to both prompts of a pair.

`«left¦right»` differs between the sides; `<v1>` is a slot filled alike on both, its letter a kind
of `words.POOLS`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from circuitd.tasks.words import SHARED_KINDS

_SLOT = re.compile(r"<([a-zA-Z])(\d)>")
_SIDES = re.compile(r"«([^¦»]*)¦([^¦»]*)»")


def _side(text: str, side: int) -> str:
    return _SIDES.sub(lambda match: match.group(side + 1), text)


@dataclass(frozen=True)
class TwoSided:
    """A text with sides and slots, compiled to two %-formats so that rendering is one C call."""

    text: str
    formats: tuple[str, str] = field(init=False, repr=False)
    slots: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        sides = [_SLOT.sub(r"%(\1\2)s", _side(self.text, s).replace("%", "%%")) for s in (0, 1)]
        object.__setattr__(self, "formats", (sides[0], sides[1]))
        names = dict.fromkeys(kind + number for kind, number in _SLOT.findall(self.text))
        object.__setattr__(self, "slots", tuple(names))

    def render(self, side: int, words: Mapping[str, str]) -> str:
        """The text of one side (0 or 1) with its slots filled."""
        return self.formats[side] % words


@dataclass(frozen=True)
class Template:
    """A pair of prompts and the code that naturally follows each, beginning with the answer."""

    prompt: TwoSided
    completion: TwoSided

    @property
    def slots(self) -> tuple[str, ...]:
        """Slots of prompt and completion, in order of appearance."""
        return tuple(dict.fromkeys(self.prompt.slots + self.completion.slots))


def template(prompt: str, completion: str) -> Template:
    """Compile a template from its two texts."""
    return Template(TwoSided(prompt), TwoSided(completion))


def draw_words(
    slots: tuple[str, ...],
    pools: Mapping[str, tuple[str, ...]],
    rng: random.Random,
    narrowed: Mapping[str, tuple[str, ...]] | None = None,
) -> dict[str, str]:
    """Fill slots with words of their kinds; no word serves twice, except numbers and quotes.

    A slot named in `narrowed` draws from that pool instead of its kind's.
    """
    words: dict[str, str] = {}
    used: set[str] = set()
    draw = rng.random
    for slot in slots:
        pool = narrowed[slot] if narrowed and slot in narrowed else pools[slot[0]]
        word = pool[int(draw() * len(pool))]
        if slot[0] not in SHARED_KINDS:
            while word in used:
                word = pool[int(draw() * len(pool))]
            used.add(word)
        words[slot] = word
    return words
