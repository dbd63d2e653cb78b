"""What a handler has in hand for one request: its model, its tensors, its progress.

A handler is a generator `run(request, context)`: each `next()` does one bounded step (tens of
milliseconds) and yields an `Output` to send, or None where there is only a step boundary. The loop
numbers the replies, ends the item with the first final one, and turns exceptions into errors.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch

from circuit_protocol.errors import InternalError, NotFound
from circuit_protocol.interventions import Values
from circuit_protocol.replies import Progress, Reply
from circuit_protocol.requests import AnyRequest
from circuit_protocol.tensors import Frame, Handle, unpack
from circuitd import work
from circuitd.worker.host import Host
from circuitd.worker.inbox import Stop
from circuitd.worker.models import ResidentModel
from circuitd.worker.output import Output, Parcel
from circuitd.worker.wire_tensors import to_torch

#: The protocol allows ten progress replies a second.
PROGRESS_INTERVAL_S: Final = 0.1


@dataclass(slots=True)
class Context:
    """One work item while it is carried out."""

    host: Host
    item: work.Item
    request: AnyRequest
    priority: Literal["interactive", "batch"] = "interactive"
    frames: Sequence[Frame] = ()
    #: Asked by the engine between layers: give it to plans as `cancelled`.
    stop: Stop = field(default_factory=Stop)
    #: Which item of its `Run` this is.
    index: int = 0
    started_s: float = field(default_factory=lambda: time.perf_counter())
    _next_progress_s: float = 0.0

    @property
    def model(self) -> ResidentModel:
        """The resident model this request runs on. Raises InternalError if the front named none."""
        if self.item.model is None:
            raise InternalError("a request that needs a model came without one")
        return self.host.models.get(self.item.model)

    @property
    def checkpoint_dir(self) -> Path | None:
        """Where a job keeps what it needs to resume; None when the request is no job."""
        return None if self.item.checkpoint_dir is None else Path(self.item.checkpoint_dir)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the item was taken up."""
        return time.perf_counter() - self.started_s

    def segment(self, handle: str) -> work.Segment:
        """The held tensor called `handle`. Raises NotFound unless the front resolved it."""
        for segment in self.item.segments:
            if segment.handle == handle:
                return segment
        raise NotFound("no held tensor has this handle", asked=handle)

    def array(self, values: Values) -> np.ndarray:
        """The numbers of a tensor that came along or is held, as a read-only view.

        BF16 comes as uint16 bit patterns. Raises NotFound for an unknown handle, MalformedMessage
        for a tensor whose bytes do not fill its shape.
        """
        if isinstance(values, Handle):
            return self.host.segments.read(self.segment(values.handle))
        return unpack(values, self.frames)

    def tensor(self, values: Values) -> torch.Tensor:
        """The same numbers as a torch tensor on the CPU, copied, in their own dtype."""
        is_held = isinstance(values, Handle)
        dtype = self.segment(values.handle).dtype if is_held else values.dtype
        return to_torch(self.array(values), dtype)

    def parcel(self) -> Parcel:
        """An empty parcel, to collect the tensors of one reply in a `with` statement."""
        return Parcel(self.host.segments, self.index, may_hold=self.checkpoint_dir is None)

    def output(self, reply: Reply) -> Output:
        """A reply without tensors."""
        return Output(reply, item=self.index)

    def progress(
        self,
        stage: str,
        done: float = 0.0,
        total: float | None = None,
        *,
        unit: str = "",
        loss: float | None = None,
        k: int | None = None,
    ) -> Output | None:
        """A progress reply to yield; None (a mere step boundary) if the last one was just now."""
        now = time.perf_counter()
        if now < self._next_progress_s:
            return None
        self._next_progress_s = now + PROGRESS_INTERVAL_S
        eta_s = None
        if total is not None and done > 0:
            eta_s = self.elapsed_s / done * max(0.0, total - done)
        return self.output(
            Progress(
                id=self.request.id,
                final=False,
                stage=stage,
                done=done,
                total=total,
                unit=unit,
                eta_s=eta_s,
                loss=loss,
                k=k,
            )
        )
