"""The compute loop: whose step is next. Interactive work first, then batch work, each in turns.

Everything under way is a generator; one `next()` is one bounded step. Between two steps the loop
takes in what has arrived, so interactive work overtakes batch work within a step, and a cancelled
item ends at its next one. An exception ends its own item (or batch) and nothing else.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from circuit_protocol import codec
from circuit_protocol.errors import CircuitError, InternalError
from circuit_protocol.replies import Failed
from circuit_protocol.tensors import Frame
from circuitd import work
from circuitd.engine.steps import somebody_waits
from circuitd.worker.context import Context
from circuitd.worker.errors import as_circuit_error, is_fatal, stopped
from circuitd.worker.host import Host
from circuitd.worker.inbox import Delivery, Inbox, Stop
from circuitd.worker.output import Output
from circuitd.worker.registry import Registry, Steps

_log = logging.getLogger(__name__)

Send = Callable[[work.FromWorker, Sequence[Frame]], None]


class Poisoned(Exception):
    """The device answers nothing more: this process must end, and the front starts another."""


@dataclass(slots=True, eq=False)
class _Underway:
    """One generator and the items it answers."""

    contexts: Sequence[Context]
    steps: Steps
    #: Items that still owe their final reply, by index.
    unanswered: dict[int, Context] = field(init=False)
    n_sent: dict[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self.unanswered = {context.index: context for context in self.contexts}
        self.n_sent = dict.fromkeys(self.unanswered, 0)


class Loop:
    """Takes deliveries from `inbox`, carries them out one step at a time, and sends the answers."""

    def __init__(self, inbox: Inbox, send: Send, host: Host, registry: Registry) -> None:
        self._inbox = inbox
        self._send = send
        self._host = host
        self._registry = registry
        self._interactive: deque[_Underway] = deque()
        self._batch: deque[_Underway] = deque()
        #: Loads and unloads, in the order they came: they go before everything.
        self._residency: deque[work.Load | work.Unload] = deque()

    def run(self) -> None:
        """Until the front says `Exit`. Raises Poisoned when the device is lost."""
        token = somebody_waits.set(self._inbox.has_any)
        try:
            while self.take_in():
                self.step()
        finally:
            somebody_waits.reset(token)

    @property
    def is_busy(self) -> bool:
        """Whether a step is waiting to be done."""
        return bool(self._residency or self._interactive or self._batch)

    def step(self) -> None:
        """Do one step of whatever is next, if anything is."""
        if self._residency:
            self._change_residency(self._residency.popleft())
            return
        queue = self._interactive or self._batch
        if not queue:
            return
        underway = queue.popleft()
        self._advance(underway)
        if underway.unanswered:
            queue.append(underway)

    def take_in(self) -> bool:
        """Take what has arrived, waiting only when there is nothing to do; False: time to end."""
        is_idle = not self.is_busy
        while (delivery := self._inbox.take(wait=is_idle)) is not None:
            is_idle = False
            match delivery.message:
                case work.Exit():
                    return False
                case work.Run():
                    self._accept(delivery.message, delivery)
                case work.Load() | work.Unload() as change:
                    self._residency.append(change)
        return True

    # ------------------------------------------------------------------------------ items

    def _accept(self, run: work.Run, delivery: Delivery) -> None:
        queue = self._interactive if run.priority == "interactive" else self._batch
        contexts: list[Context] = []
        start = 0
        for index, (item, stop) in enumerate(zip(run.items, delivery.stops, strict=True)):
            frames = delivery.frames[start : start + item.n_frames]
            start += item.n_frames
            try:
                request = codec.decode_request(item.header)
            except CircuitError as error:  # the front decoded it, so this is a defect: say so
                request_id = codec.peek_id(item.header) or codec.UNKNOWN_ID
                self._refuse(item, request_id, stop, error)
                continue
            contexts.append(Context(self._host, item, request, run.priority, frames, stop, index))
        for group in self._registry.group(contexts):
            queue.append(_Underway(group, self._registry.begin(group)))

    def _advance(self, underway: _Underway) -> None:
        """One step of `underway`, and the answers it gives."""
        for context in [c for c in underway.unanswered.values() if c.stop()]:
            self._fail(underway, context, stopped(context.stop.reason or "cancelled"))
        if not underway.unanswered:
            underway.steps.close()
            return
        try:
            output = next(underway.steps, _EXHAUSTED)
        except Exception as error:
            # The loop must go on for the other items, whatever a handler or the engine raised.
            if is_fatal(error):
                self._fail_all(underway, error)
                raise Poisoned(str(error)) from error
            if len(underway.contexts) > 1:
                self._split(underway)
            else:
                self._fail_all(underway, error)
            return
        if output is None:
            return
        if isinstance(output, Output):
            self._answer(underway, output)
            if not underway.unanswered:
                underway.steps.close()
            return
        self._fail_all(underway, InternalError("the handler ended without a final answer"))

    def _answer(self, underway: _Underway, output: Output) -> None:
        context = underway.unanswered.get(output.item)
        if context is None:  # cancelled meanwhile: nobody will ask for what it held
            for segment in output.segments:
                self._host.segments.delete(segment)
            return
        reply = output.reply
        seq = underway.n_sent[output.item]
        underway.n_sent[output.item] = seq + 1
        if reply.seq != seq:
            reply = msgspec.structs.replace(reply, seq=seq)
        if reply.final:
            del underway.unanswered[output.item]
            self._inbox.forget(context.item.work)
        answer = work.Answer(
            work=context.item.work,
            header=codec.encode(reply),
            n_frames=len(output.frames),
            final=reply.final,
            error=isinstance(reply, Failed),
            segments=output.segments,
        )
        self._send(answer, output.frames)
        key = context.item.model
        if reply.final and key is not None:
            nbytes = self._host.models.resized(key)
            if nbytes is not None:
                self._send(work.Resized(model=key, nbytes=nbytes), ())

    def _split(self, underway: _Underway) -> None:
        """A batch failed, and nobody knows by whose fault: run its other items one by one."""
        for context in underway.unanswered.values():
            is_interactive = context.priority == "interactive"
            queue = self._interactive if is_interactive else self._batch
            alone = _Underway([context], self._registry.begin([context]))
            alone.n_sent[context.index] = underway.n_sent[context.index]
            queue.append(alone)
        underway.unanswered.clear()

    def _fail(self, underway: _Underway, context: Context, error: CircuitError) -> None:
        failed = Failed(id=context.request.id, error=error.to_info())
        self._answer(underway, Output(failed, item=context.index))

    def _fail_all(self, underway: _Underway, error: Exception) -> None:
        for context in list(underway.unanswered.values()):
            where = f"{type(context.request).__name__} {context.request.id}"
            wire = as_circuit_error(error, where=where, reason=context.stop.reason)
            self._fail(underway, context, wire)

    def _refuse(self, item: work.Item, request_id: str, stop: Stop, error: CircuitError) -> None:
        """Answer an item that cannot even begin."""
        wire = stopped(stop.reason) if stop.reason is not None else error
        failed = Failed(id=request_id, error=wire.to_info())
        self._inbox.forget(item.work)
        self._send(work.Answer(work=item.work, header=codec.encode(failed), error=True), ())

    # ------------------------------------------------------------------------------ models

    def _change_residency(self, change: work.Load | work.Unload) -> None:
        if isinstance(change, work.Unload):
            freed_nbytes = self._host.models.unload(change.model)
            self._send(work.Unloaded(model=change.model, freed_nbytes=freed_nbytes), ())
            return
        try:
            loaded = self._host.models.load(change.model)
        except Exception as error:
            # As in `_advance`: a checkpoint that cannot be loaded harms nobody else.
            wire = as_circuit_error(error, where=f"load {change.model.path}", reason=None)
            self._send(work.LoadFailed(model=change.model, error=wire.to_info()), ())
            if is_fatal(error):
                raise Poisoned(str(error)) from error
            return
        self._send(
            work.Loaded(
                model=change.model,
                model_hash=loaded.model_hash,
                nbytes=loaded.nbytes,
                block_size=loaded.config.block_size,
                vocab_size=loaded.config.vocab_size,
                notes=loaded.notes,
                execution=loaded.execution,
            ),
            (),
        )


class _Exhausted:
    """What `next` gives for a generator that has ended."""


_EXHAUSTED: Final = _Exhausted()
