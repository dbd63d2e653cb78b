"""Passes of a shape that comes again, replayed as CUDA graphs: no launching, no gaps.

The blocks of one network take some three hundred kernels, which take longer to launch than to run
for a prompt or two. What a pass does between embedding and final norm depends on its shape alone
where the plan names no site, so it is captured the second time a shape comes.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

#: Beyond so many tokens the device is busy for longer than launching takes.
MOST_TOKENS: Final = 4096
#: Shapes that are kept; of more, the one not used for longest goes.
_MOST_SHAPES: Final = 8


@dataclass(frozen=True, eq=False)
class _Captured:
    """A graph, where it reads its tokens, where it leaves the stream, and what it reserved."""

    graph: torch.cuda.CUDAGraph
    tokens: Tensor
    stream: Tensor
    nbytes: int


class Replays:
    """The captured shapes of one network. Re-entrant: one pass at a time uses them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: None: seen once, or too large for what memory is left.
        self._shapes: OrderedDict[tuple[int, ...], _Captured | None] = OrderedDict()

    @property
    def nbytes(self) -> int:
        """Device memory reserved for what is captured."""
        return sum(c.nbytes for c in list(self._shapes.values()) if c is not None)

    def __call__(self, tokens: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """What `compute` makes of `tokens` [B, T]: computed, or replayed where it was captured.

        `compute` must do the same for equal shapes, without waiting for the device.
        """
        if tokens.numel() > MOST_TOKENS:
            return compute(tokens)
        with self._lock:
            shape = tuple(tokens.shape)
            is_known = shape in self._shapes
            captured = self._shapes.pop(shape, None)
            if is_known and captured is None:
                captured = _capture(tokens, compute)
            self._shapes[shape] = captured
            if len(self._shapes) > _MOST_SHAPES:
                self._shapes.popitem(last=False)
            if captured is None:
                return compute(tokens)
            captured.tokens.copy_(tokens)
            captured.graph.replay()
            return captured.stream.clone()  # the next replay writes to it


def captured(work: Callable[[], object]) -> Callable[[], None]:
    """`work`, which must not wait for the device, as one launch that does the same again."""
    work()  # what is compiled or loaded on first use is not captured
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    return graph.replay


def _capture(tokens: Tensor, compute: Callable[[Tensor], Tensor]) -> _Captured | None:
    """None where memory does not suffice."""
    before_nbytes = torch.cuda.memory_reserved(tokens.device)
    graph, inputs = torch.cuda.CUDAGraph(), tokens.clone()
    try:
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            stream = compute(inputs)
    except torch.OutOfMemoryError:
        return None
    nbytes = torch.cuda.memory_reserved(tokens.device) - before_nbytes
    return _Captured(graph, inputs, stream, max(0, nbytes))
