"""The sweep of `ablate` on the sparse kernels: the same scores for masks that ablate one way.

On the kernels an ablated node has one value, so the masks of a sweep are all zero or all mean. They
are scored against what they have in common, their `root`, which is compiled if it is a circuit;
else each is run on all channels from the first layer in which it differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

import torch.nn.functional as F
from torch import Tensor

from circuitd.circuits.ablate import Mask, Scores
from circuitd.circuits.gated import Gated
from circuitd.circuits.prompts import ScoredPrompts

#: Codes of so many bytes are laid out at a time, however many masks there are.
_CODES_NBYTES: Final = 1 << 24


class KernelSweep:
    """Scores masks on one set of prompts; a mask leaves nothing unablated that `root` ablates.

    Raises ValueError where the kernels do not run: on networks and devices that they do not cover,
    and for prompts without answers.
    """

    def __init__(self, gated: Gated, prompts: ScoredPrompts, root: Mask) -> None:
        if prompts.answers is None:
            raise ValueError("the kernels score answers")
        variants = gated.variants(prompts, root)
        if variants is None:
            raise ValueError(f"no kernels: {gated.execution}")
        self._variants, self._root = variants, root
        #: How masks are scored: "compiled circuit" or "sparse".
        self.execution = variants.execution
        self._n_at_once = max(1, _CODES_NBYTES // len(root.codes))

    def base_steps(self) -> Iterator[Scores | None]:
        """The root's own scores; None between steps."""
        yield from self.run([self._root])

    def run(self, masks: Iterable[Mask]) -> Iterator[Scores | None]:
        """Scores of `masks` in order, some at a time; None between steps."""
        remaining = iter(masks)
        while group := list(islice(remaining, self._n_at_once)):
            for found in self._variants.differences(group):
                yield None if found is None else _scores(found)


def _scores(differences: Tensor) -> Scores:
    """Of m masks, from right minus wrong answer's logit [m, B]."""
    losses = F.softplus(-differences).mean(1)
    return Scores(losses, ((differences.sign() + 1) / 2).mean(1), None)
