"""Recordings collected slice by slice of a batch's rows, and joined into what a reply carries."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from circuit_protocol.replies import Recorded
from circuitd.engine.window import Window
from circuitd.worker.output import Deliver, Parcel, deliveries
from circuitd.worker.prompts import Batch
from circuitd.worker.recordings import Entries, Wanted, cut, entries, join


class Collected:
    """What one request records, one piece per `Wanted` and slice."""

    def __init__(self, records: Sequence[Wanted]) -> None:
        self._records = records
        self._values: list[list[torch.Tensor]] = [[] for _ in records]
        self._largest: list[list[Entries]] = [[] for _ in records]
        #: Cut like the values; for top_k whole, because its entries are chosen at the end.
        self._gradients: list[list[torch.Tensor]] = [[] for _ in records]

    def add(
        self,
        number: int,
        values: torch.Tensor,
        channels: torch.Tensor | None,
        batch: Batch,
        window: Window,
        first_row: int,
    ) -> None:
        """Take in record `number` of the rows from `first_row` on, as the engine cut it.

        `channels` are the engine's indices of a top_k record.
        """
        one = self._records[number]
        if channels is None:
            self._values[number].append(values)
            return
        found = entries(one.record, values, channels, batch.lengths, window, first_row)
        self._largest[number].append(found.largest(one.asked.top_k))

    def add_gradient(self, number: int, gradient: torch.Tensor, window: Window) -> None:
        """Take in the gradient at the whole site of record `number`, for all rows at once."""
        one = self._records[number]
        if one.asked.reduce != "top_k":
            gradient, _ = cut(one.record, gradient, one.site, window)
        self._gradients[number].append(gradient)

    def deliver(self, parcel: Parcel, how: Deliver, model: str) -> tuple[Recorded, ...]:
        """All of it, for a reply; pieces are let go as they are joined."""
        n = len(self._records)
        gradients = [  # of a top_k only its entries are sent, which are few
            [] if one.asked.reduce == "top_k" else pieces
            for one, pieces in zip(self._records, self._gradients, strict=True)
        ]
        ways = deliveries(how, [_nbytes(pieces) for pieces in self._values + gradients])
        return tuple(
            self._deliver(i, parcel, value_how, gradient_how, model)
            for i, value_how, gradient_how in zip(range(n), ways[:n], ways[n:], strict=True)
        )

    def _deliver(
        self,
        number: int,
        parcel: Parcel,
        value_how: Deliver,
        gradient_how: Deliver,
        model: str,
    ) -> Recorded:
        one = self._records[number]
        name = f"{one.site.name} of {model}"
        gradients, self._gradients[number] = self._gradients[number], []
        if one.asked.reduce == "top_k":
            largest = join(self._largest[number]).largest(one.asked.top_k)
            gradient = None
            if gradients:
                gradient = parcel.put(gradients[0][tuple(largest.where.unbind(1))])
            return Recorded(
                site=one.site.name,
                value=parcel.put(largest.values),
                gradient=gradient,
                indices=parcel.put(largest.where.int()),
            )
        values, self._values[number] = self._values[number], []
        return Recorded(
            site=one.site.name,
            value=parcel.deliver(joined(values), value_how, name),
            gradient=parcel.deliver(joined(gradients), gradient_how, f"gradient at {name}")
            if gradients
            else None,
        )


def _nbytes(pieces: Sequence[torch.Tensor]) -> int:
    return sum(piece.nbytes for piece in pieces)


def joined(pieces: Sequence[torch.Tensor]) -> torch.Tensor:
    """Slices of rows as one tensor, without a copy if there is one."""
    return pieces[0] if len(pieces) == 1 else torch.cat(list(pieces))
