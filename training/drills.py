"""Snippets that repeat the tasks' training templates, with names taken from natural code.

`circuitd.tasks.snippets` teaches the tasks' syntax among much else. A small model sees too little
of the harder tasks that way; these documents hold nothing but training templates, the harder ones
more often, filled with many more names than the tasks' own word lists. No held-out template and no
held-out word is used.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from textwrap import indent

from circuitd.tasks.catalog import BUILT_IN
from circuitd.tasks.catalog.preambles import PREAMBLES
from circuitd.tasks.template import TwoSided, draw_words
from circuitd.tasks.words import POOLS

#: How often a task is drilled; a task that is not named here counts 1.
WEIGHTS = {
    "bracket_counting": 14.0,
    "set_or_string_fixedvarname": 4.0,
    "set_or_string": 4.0,
    "final_kwarg": 2.0,
    "if_ternary": 2.0,
    "if_equals": 1.0,
    "for_while": 1.0,
    "bracket_brace": 1.5,
    "lambda_func": 1.5,
    "single_double_quote": 0.75,
    "fstring_brace": 0.5,
    "while_return_true": 0.5,
    "enumerate_range": 0.5,
    "with_open": 0.25,
    "indent_for": 0.25,
    "class_init": 0.5,
    "var_swap": 0.5,
}
#: The tasks whose templates are also drilled inside a block, and the headers of such blocks. None
#: of these headers makes a held-out template of these tasks from a training template.
WRAPPED = frozenset({"bracket_counting", "set_or_string", "set_or_string_fixedvarname"})
HEADERS = (
    TwoSided("for <v8> in <v9>:\n"),
    TwoSided("def <f8>(<v8>, <v9>):\n"),
    TwoSided("if <v8>:\n    pass\nelse:\n"),
)
WRAPPED_SHARE = 0.4
N_NAMES = 3000
PREAMBLE_SHARE = 0.3
_NAME = re.compile(r"\b[a-z][a-z_]{2,11}\b")


def names_of(texts: Iterable[str]) -> tuple[str, ...]:
    """The `N_NAMES` most frequent lower-case names of `texts`, without held-out words."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(_NAME.findall(text))
    held_out = {word for pool in POOLS["held_out"].values() for word in pool}
    keywords = {"and", "assert", "async", "await", "class", "def", "del", "elif", "else", "except"}
    keywords |= {"finally", "for", "from", "global", "import", "lambda", "nonlocal", "not"}
    keywords |= {"pass", "raise", "return", "try", "while", "with", "yield", "break", "continue"}
    ranked = (name for name, _ in counts.most_common() if name not in held_out | keywords)
    return tuple(name for name, _ in zip(ranked, range(N_NAMES), strict=False))


def drill_stream(seed: int, names: tuple[str, ...]) -> Iterator[tuple[str, list[int]]]:
    """Yield documents of four to ten filled templates, forever; equal arguments, equal streams.

    With each document come the offsets, in bytes, at which its answers begin.
    """
    rng = random.Random(f"drills:{seed}")
    own = POOLS["train"]
    pools: Mapping[str, tuple[str, ...]] = {**own, "v": tuple(dict.fromkeys(own["v"] + names))}
    specs = list(BUILT_IN.values())
    weights = [WEIGHTS.get(spec.name, 1.0) for spec in specs]
    while True:
        text, answers = "", []
        for spec in rng.choices(specs, weights, k=rng.randint(4, 10)):
            chosen = rng.choice(spec.train)
            side = rng.randrange(2)
            words = draw_words(chosen.slots, pools, rng)
            prompt = chosen.prompt.render(side, words)
            completion = chosen.completion.render(side, words)
            opening = ""
            if spec.name in WRAPPED and rng.random() < WRAPPED_SHARE:
                header = rng.choice(HEADERS)
                opening = header.render(0, draw_words(header.slots, pools, rng))
                prompt, completion = _indented(prompt), _indented(completion)[4:]
            if prompt[0] != " " and rng.random() < PREAMBLE_SHARE:
                preamble = rng.choice(PREAMBLES["train"])
                opening = preamble.render(0, draw_words(preamble.slots, pools, rng))
            text += opening + prompt
            answers.append(len(text.encode()))
            text += completion + "\n"
        yield text, answers


def _indented(code: str) -> str:
    return indent(code, "    ")
