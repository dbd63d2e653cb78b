"""Networks whose circuit is known, because it was written into their weights by hand.

`plant(shape, seed)` gives one of `SHAPES`; `nonsense` draws tasks that nothing can know.
"""

from planted.network import Edge, Planted
from planted.nonsense import nonsense_task, shuffled_labels
from planted.shapes import SHAPES, plant

__all__ = ["SHAPES", "Edge", "Planted", "nonsense_task", "plant", "shuffled_labels"]
