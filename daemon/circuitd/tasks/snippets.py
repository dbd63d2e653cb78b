"""An endless seeded stream of short Python snippets that exercise the tasks' syntax.

It is mixed into pretraining text. Two sources alternate: train-split task templates with their
right answers, and a small random grammar that varies what templates fix (nesting, quotes, bracket
depth, names), so that a model learns the rule and not the template. Held-out templates and held-out
words never occur.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from .catalog import BUILT_IN
from .catalog.preambles import PREAMBLES
from .grammar import Grammar
from .template import draw_words
from .words import POOLS

TEMPLATE_SHARE = 0.6
PREAMBLE_SHARE = 0.4


def snippet_stream(seed: int) -> Iterator[str]:
    """Yield file-like snippets of about 1,000 characters forever; equal seeds, equal streams."""
    rng = random.Random(f"snippets:{seed}")
    pools = POOLS["train"]
    preambles = PREAMBLES["train"]
    by_task = [spec.train for spec in BUILT_IN.values()]
    grammar = Grammar(rng, pools)
    while True:
        pieces: list[str] = []
        for _ in range(rng.randint(3, 10)):
            if rng.random() >= TEMPLATE_SHARE:
                pieces.append(grammar.block())
                continue
            templates = by_task[int(rng.random() * len(by_task))]
            chosen = templates[int(rng.random() * len(templates))]
            side = int(rng.random() * 2)
            words = draw_words(chosen.slots, pools, rng)
            code = chosen.prompt.render(side, words) + chosen.completion.render(side, words)
            if code[0] != " " and rng.random() < PREAMBLE_SHARE:
                opening = preambles[int(rng.random() * len(preambles))]
                code = opening.render(0, draw_words(opening.slots, pools, rng)) + code
            pieces.append(code)
        yield ("\n" if rng.random() < 0.7 else "\n\n").join(pieces)
