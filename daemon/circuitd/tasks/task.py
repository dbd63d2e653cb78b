"""What every task can do, and the built-in kind, which draws its pairs from templates."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, TypeAlias

from circuitd.store.tokenizer import Tokenizer
from circuitd.tasks.batch import TaskBatch, TokenPair, stack_pairs, tokenise_side
from circuitd.tasks.catalog import TaskSpec
from circuitd.tasks.catalog.preambles import PREAMBLES
from circuitd.tasks.errors import TaskError
from circuitd.tasks.template import TwoSided, draw_words
from circuitd.tasks.words import POOLS, SPLITS, Split

_PREAMBLE_SHARE = 0.5
_PROBES = 64
_NATURAL_SHARE = 0.9
_ATTEMPTS_PER_PAIR = 200
_MIN_NARROWED_POOL = 8  # distinct words must remain for every slot of a template
MAX_PAIRS_PER_SAMPLE = 65_536


class Task(Protocol):
    """A named set of pairs, in a training and a held-out split."""

    @property
    def name(self) -> str:
        """The name it is asked for by."""
        ...

    @property
    def description(self) -> str:
        """One sentence: what has to be told apart."""
        ...

    @property
    def aligned(self) -> bool:
        """Whether the two prompts of every pair have equally many tokens."""
        ...

    @property
    def source(self) -> str:
        """`built-in`, or the path of the file that defines it."""
        ...

    def n_pairs(self, split: Split) -> int | None:
        """How many pairs the split holds, None where they are generated without end."""
        ...

    def examples(self, split: Split, n: int, seed: int) -> list[TextExample]:
        """Draw at most `n` pairs as a person reads them, without a tokenizer. Raises TaskError."""
        ...

    def sample(self, tokenizer: Tokenizer, split: Split, n: int, seed: int) -> TaskBatch:
        """Draw `n` pairs; equal arguments give equal batches. Raises TaskError."""
        ...


#: Both prompts of a pair and their right next tokens, as text.
TextExample: TypeAlias = tuple[tuple[str, str], tuple[str, str]]


@dataclass(frozen=True)
class TextPair:
    """A generated pair before tokenisation.

    `targets` holds one (side 0, side 1) tuple per surface form of the task, `completions` the code
    that follows each prompt, beginning with the right answer.
    """

    prompts: tuple[str, str]
    targets: tuple[tuple[str, str], ...]
    completions: tuple[str, str]


@dataclass(frozen=True)
class _TargetForm:
    index: int
    text: str
    natural: bool


def check_request(task: str, split: str, n: int) -> None:
    """Raise TaskError for a split that does not exist or an impossible number of pairs."""
    if split not in SPLITS:
        raise TaskError(
            "no such split", task=task, field="split", found=repr(split), advice="train or held_out"
        )
    if not 1 <= n <= MAX_PAIRS_PER_SAMPLE:
        raise TaskError(
            "impossible number of pairs",
            task=task,
            field="n",
            found=str(n),
            advice=f"give 1 to {MAX_PAIRS_PER_SAMPLE}",
        )


class GeneratedTask:
    """A built-in task: endless pairs from the templates and words of the asked split."""

    source = "built-in"

    def __init__(self, spec: TaskSpec) -> None:
        self.name = spec.name
        self.description = spec.description
        self.aligned = spec.aligned
        self._spec = spec
        self._forms: dict[str, _TargetForm] = {}
        self._narrowed: dict[tuple[str, Split], dict[str, tuple[str, ...]]] = {}

    def n_pairs(self, split: Split) -> int | None:
        """None: generated without end."""
        check_request(self.name, split, 1)
        return None

    def text_pairs(
        self, split: Split, seed: int, narrowed: Mapping[str, tuple[str, ...]] | None = None
    ) -> Iterator[TextPair]:
        """Yield distinct pairs of the split forever; equal arguments, equal pairs.

        `narrowed` restricts the words of some slots (by slot name).
        """
        rng = random.Random(f"{self.name}:{split}:{seed}")
        templates, preambles, pools = self._spec.templates(split), PREAMBLES[split], POOLS[split]
        seen: set[tuple[str, str]] = set()
        while True:
            chosen = rng.choice(templates)
            slots = chosen.slots
            opening = TwoSided("")
            if not chosen.prompt.text.startswith(" ") and rng.random() < _PREAMBLE_SHARE:
                opening = rng.choice(preambles)
                slots += opening.slots
            words = draw_words(slots, pools, rng, narrowed)
            start = opening.render(0, words)
            prompts = (
                start + chosen.prompt.render(0, words),
                start + chosen.prompt.render(1, words),
            )
            if prompts in seen:
                continue
            seen.add(prompts)
            yield TextPair(
                prompts=prompts,
                targets=tuple(
                    (form.render(0, words), form.render(1, words))
                    for form in self._spec.target_forms
                ),
                completions=(
                    chosen.completion.render(0, words),
                    chosen.completion.render(1, words),
                ),
            )

    def examples(self, split: Split, n: int, seed: int) -> list[TextExample]:
        """The first `n` pairs of `text_pairs`, with the targets of the first surface form."""
        check_request(self.name, split, n)
        pairs = islice(self.text_pairs(split, seed), n)
        return [(pair.prompts, pair.targets[0]) for pair in pairs]

    def sample(self, tokenizer: Tokenizer, split: Split, n: int, seed: int) -> TaskBatch:
        """Draw `n` distinct pairs; a smaller n with the same seed gives the first of them.

        Pairs that this tokenizer cannot represent (a target of several tokens, a boundary that
        merges, unequal lengths in an aligned task) are left out and the next ones take their place.
        Raises TaskError if hardly any pair can be represented.
        """
        check_request(self.name, split, n)
        form = self._target_form(tokenizer)
        narrowed = self._single_token_words(tokenizer, split, form)
        kept: list[TokenPair] = []
        reason: TaskError | None = None
        for attempt, pair in enumerate(self.text_pairs(split, seed, narrowed)):
            if attempt >= _ATTEMPTS_PER_PAIR * (n + 1):
                raise TaskError(
                    f"only {len(kept)} of {n} {split} pairs can be represented in the tokenizer "
                    f"{tokenizer.name}; last reason: {reason or 'prompts of unequal length'}",
                    task=self.name,
                    advice="use another task, or define this one in a file for this tokenizer",
                )
            try:
                tokens = _tokenise(tokenizer, pair, form)
            except TaskError as error:
                reason = error
                continue
            if self.aligned and len(tokens.prompts[0]) != len(tokens.prompts[1]):
                continue
            kept.append(tokens)
            if len(kept) == n:
                break
        return stack_pairs(kept, self.name, split, form.text)

    def _single_token_words(
        self, tokenizer: Tokenizer, split: Split, form: _TargetForm
    ) -> dict[str, tuple[str, ...]]:
        """Words that make one-token targets, for the slots that are a whole target but a space.

        Only a short cut: words that fail would be left out one pair at a time.
        """
        known = self._narrowed.get((tokenizer.fingerprint, split))
        if known is not None:
            return known
        narrowed: dict[str, tuple[str, ...]] = {}
        for slot in self._spec.target_forms[form.index].slots:
            pool = POOLS[split][slot[0]]
            fitting = tuple(w for w in pool if tokenizer.single_token(f" {w}") is not None)
            if len(fitting) >= _MIN_NARROWED_POOL:
                narrowed[slot] = fitting
        self._narrowed[tokenizer.fingerprint, split] = narrowed
        return narrowed

    def _target_form(self, tokenizer: Tokenizer) -> _TargetForm:
        """The first surface form this tokenizer produces in running code, else a usable one."""
        known = self._forms.get(tokenizer.fingerprint)
        if known is not None:
            return known
        pairs = [pair for pair, _ in zip(self.text_pairs("train", 0), range(_PROBES), strict=False)]
        usable: list[_TargetForm] = []
        reasons: list[str] = []
        for index, text in enumerate(self._spec.targets):
            fitting = dict.fromkeys((False, True), 0)
            reason = ""
            for pair in pairs:
                for natural in fitting:
                    try:
                        _tokenise(tokenizer, pair, _TargetForm(index, text, natural))
                        fitting[natural] += 1
                    except TaskError as error:
                        reason = error.problem
                        break
            if fitting[False]:
                natural = fitting[True] >= _NATURAL_SHARE * fitting[False]
                usable.append(_TargetForm(index, text, natural))
            else:
                reasons.append(reason)
        if not usable:
            raise TaskError(
                f"no target form is a single token in the tokenizer {tokenizer.name}: "
                + "; ".join(reasons),
                task=self.name,
                field="targets",
                advice="use another task, or define this one in a file for this tokenizer",
            )
        chosen = next((form for form in usable if form.natural), usable[0])
        self._forms[tokenizer.fingerprint] = chosen
        return chosen


def _tokenise(tokenizer: Tokenizer, pair: TextPair, form: _TargetForm) -> TokenPair:
    sides = [
        tokenise_side(
            tokenizer,
            pair.prompts[side],
            pair.targets[form.index][side],
            pair.completions[side] if form.natural else "",
        )
        for side in (0, 1)
    ]
    return TokenPair((sides[0][0], sides[1][0]), (sides[0][1], sides[1][1]))
