"""What counts as passing: every threshold of the controls, each with its reason.

Most controls ask how much of a task is left, and answer in one currency, the *retained share*
(ln 2 - loss) / (ln 2 - loss of the whole model): 1 is the whole model, 0 is chance, and what is
confidently wrong is negative. It is comparable between tasks, which losses are not.
"""

from __future__ import annotations

import math
from typing import Final

#: Loss per side of a model that knows nothing, in nats.
CHANCE: Final = math.log(2)
#: Less gain over chance than this (nats), and there is no behaviour whose circuit could be found.
LEAST_GAIN: Final = 0.1
#: What retains less of the model's gain has lost more of the task than it kept.
RETAINED: Final = 0.5
#: By how much the loss may exceed the target: the pairs may be others than those it was cut on.
TARGET_SLACK: Final = 1.1
#: What may be retained when only the circuit is ablated. The published circuits left a loss of .5
#: to .69 (Gao et al., Fig. 32), which is a share of 0 to .28.
LEFT_WITHOUT: Final = 0.3
#: More needless nodes than this, and the circuit is mostly something else.
NEEDLESS: Final = 0.5
#: Random circuits as good as the circuit, at most: the usual 5 %.
P_RANDOM: Final = 0.05
#: Nonsense has been found to need about three times the nodes of a real task (Drori 2026), so three
#: times is what the method does anyway and more than that is evidence; less than twice is within
#: what a change of seed does to a circuit's size.
NULL_PASSES: Final = 3.0
NULL_FAILS: Final = 2.0
#: Of random halves of the rest, as many must leave the task intact; fewer than the second say that
#: what the rest does is not neutral.
SUBSETS_PASS: Final = 0.95
SUBSETS_FAIL: Final = 0.8
#: Jaccard index between seeds. Published blocks of seeds agreed by .36, which left it open whether
#: they had found the same thing; a third of the nodes shared (.5) is more than that.
JACCARD_PASSES: Final = 0.5
JACCARD_FAILS: Final = 0.25


def retained(loss: float, whole_loss: float) -> float:
    """The retained share of a loss where the whole model has `whole_loss` (nats per side).

    A model that gains hardly anything counts as gaining `LEAST_GAIN`.
    """
    return (CHANCE - loss) / max(CHANCE - whole_loss, LEAST_GAIN)


def at_least(low: float, high: float, threshold: float) -> bool | None:
    """Whether what lies between `low` and `high` reaches a threshold; None when it may or not."""
    return True if low >= threshold else False if high < threshold else None
