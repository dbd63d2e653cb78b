"""`forward`: logits, losses and top predictions of prompts; several requests as one ragged batch.

Requests without interventions that wait together are stacked row by row, computed in slices of
bounded cost, and split again: what each gets equals what it would have got alone. A request with
interventions runs on its own, since rows and means of a batch are its own affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from circuit_protocol.replies import ForwardResult, TopK
from circuit_protocol.requests import Forward
from circuitd.engine import gpt
from circuitd.engine import interventions as engine
from circuitd.engine.plan import Plan
from circuitd.worker import memory
from circuitd.worker.collected import joined
from circuitd.worker.context import Context
from circuitd.worker.output import Output
from circuitd.worker.prompts import Batch, read_prompts, read_targets
from circuitd.worker.registry import Steps
from circuitd.worker.slices import row_slices
from circuitd.worker.translate import is_row_independent, translate


@dataclass(eq=False)
class _Asked:
    """One forward request: its batch, and the results of its rows as far as they are known."""

    context: Context
    request: Forward
    batch: Batch
    interventions: tuple[engine.Intervention, ...]
    logits: list[torch.Tensor] = field(default_factory=list)
    token_loss: list[torch.Tensor] = field(default_factory=list)
    top_ids: list[torch.Tensor] = field(default_factory=list)
    top_logprobs: list[torch.Tensor] = field(default_factory=list)
    n_done: int = 0
    execution: str = "dense"

    @property
    def needs(self) -> str:
        """Which logits must be computed: of all positions, of the last ones, or none."""
        if self.request.logits == "none" and self.request.top_k:
            return "all"
        return self.request.logits


def run(contexts: Sequence[Context]) -> Steps:
    """Carry out forwards on one model. With several, what one raises is found out by the loop,
    which then runs each alone.
    """
    asked = [_read(context) for context in contexts]
    plain = [one for one in asked if not one.interventions]
    if plain:
        yield from _run_together(plain)
    for one in asked:
        if one.interventions:
            yield from _run_alone(one)


def _read(context: Context) -> _Asked:
    request = context.request
    assert isinstance(request, Forward)  # the registry gives this handler nothing else
    config = context.model.config
    batch = read_prompts(context, request.prompts, config)
    if request.targets is not None:
        targets = read_targets(context, request.targets, batch, config)
        batch = Batch(batch.tokens, batch.lengths, targets=targets)
    weights = context.model.weights
    n_positions = {"all": batch.n_positions, "last": 1, "none": 0}[request.logits]
    n_logits = batch.n_rows * n_positions * config.vocab_size
    memory.require(weights.device, 2 * n_logits * weights.dtype.itemsize, "the logits")
    return _Asked(context, request, batch, translate(context, request.interventions, batch))


def _run_alone(asked: _Asked) -> Steps:
    weights, batch = asked.context.model.weights, asked.batch
    if is_row_independent(asked.interventions):
        slices = list(row_slices(weights, batch.n_rows, batch.n_positions))
    else:
        slices = [slice(0, batch.n_rows)]
    for rows in slices:
        yield from _compute([(asked, rows)])


def _run_together(asked: list[_Asked]) -> Steps:
    """Cut the rows of all requests, in their order, into slices and compute each as one batch."""
    weights = asked[0].context.model.weights
    n_positions = max(one.batch.n_positions for one in asked)
    rows = [(one, row) for one in asked for row in range(one.batch.n_rows)]
    for cut in row_slices(weights, len(rows), n_positions):
        parts: list[tuple[_Asked, slice]] = []
        for one, row in rows[cut]:
            if parts and parts[-1][0] is one:
                parts[-1] = (one, slice(parts[-1][1].start, row + 1))
            else:
                parts.append((one, slice(row, row + 1)))
        yield from _compute([part for part in parts if not part[0].context.stop()])


def _compute(parts: list[tuple[_Asked, slice]]) -> Steps:
    """One pass over some rows of some requests; answers those that are complete then."""
    if not parts:
        return
    contexts = [one.context for one, _ in parts]
    merged = _merge([one.batch.rows(rows) for one, rows in parts])
    needs = {one.needs for one, _ in parts}
    targets = merged.targets
    if targets is not None and not bool((targets >= 0).any()):
        targets = None  # the rows that have targets are in another slice
    plan = Plan(
        interventions=parts[0][0].interventions,
        logits="all" if "all" in needs else "last" if "last" in needs else "none",
        targets=targets,
        lengths=merged.plan_lengths,
        cancelled=lambda: all(context.stop() for context in contexts),
    )
    result = gpt.forward(contexts[0].model.weights, merged.tokens, plan)
    start = 0
    for one, rows in parts:
        stop = start + rows.stop - rows.start
        _take(one, rows, result, slice(start, stop))
        start = stop
        if one.n_done == one.batch.n_rows:
            yield _answer(one)
    yield None


def _merge(batches: Sequence[Batch]) -> Batch:
    """Stack the rows of several batches, padded to the longest."""
    if len(batches) == 1:
        return batches[0]
    n_positions = max(int(batch.lengths.max()) for batch in batches)

    def padded(values: torch.Tensor, fill: int) -> torch.Tensor:
        values = values[:, :n_positions]
        return F.pad(values, (0, n_positions - values.shape[1]), value=fill)

    targets = None
    if any(batch.targets is not None for batch in batches):
        targets = torch.cat(
            [
                padded(torch.full_like(b.tokens, -1) if b.targets is None else b.targets, -1)
                for b in batches
            ]
        )
    return Batch(
        torch.cat([padded(batch.tokens, 0) for batch in batches]),
        torch.cat([batch.lengths for batch in batches]),
        targets=targets,
    )


def _take(one: _Asked, rows: slice, result: gpt.Run, at: slice) -> None:
    """Keep what request `one` asked for of its `rows`, which are rows `at` of the pass."""
    request, batch = one.request, one.batch
    one.n_done += rows.stop - rows.start
    one.execution = result.execution
    if batch.targets is not None:
        if result.token_loss is None:
            token_loss = torch.zeros(rows.stop - rows.start, batch.n_positions)
        else:
            token_loss = _fit(result.token_loss[at], batch.n_positions)
        one.token_loss.append(token_loss)
    if result.logits is None or one.needs == "none":
        return
    logits = result.logits[at]
    if request.logits == "last":
        if logits.ndim == 3:
            last = batch.lengths[rows].to(logits.device) - 1
            logits = logits[torch.arange(logits.shape[0], device=logits.device), last]
        logits = logits[:, None]
    else:
        logits = _fit(logits, batch.n_positions)
    if request.top_k:
        k = min(request.top_k, logits.shape[-1])
        best = logits.float().log_softmax(-1).topk(k)
        one.top_ids.append(best.indices.int())
        one.top_logprobs.append(best.values)
    if request.logits != "none":
        one.logits.append(logits)


def _fit(values: torch.Tensor, n_positions: int) -> torch.Tensor:
    """`values` [B, T', …] cut or zero-padded to `n_positions` positions."""
    missing = n_positions - values.shape[1]
    if missing <= 0:
        return values[:, :n_positions]
    return F.pad(values, (0, 0) * (values.ndim - 2) + (0, missing))


def _answer(one: _Asked) -> Output:
    request, context, batch = one.request, one.context, one.batch
    with context.parcel() as parcel:
        tokens, lengths = batch.put(parcel)
        loss = token_loss = top_k = logits = None
        if batch.targets is not None:
            losses, counts = joined(one.token_loss), batch.targets >= 0
            counts = counts.to(losses.device)
            loss = float(losses.sum() / counts.sum())
            if request.token_loss:
                token_loss = parcel.put(torch.where(counts, losses, torch.nan))
        if request.top_k:
            top_k = TopK(
                ids=parcel.put(joined(one.top_ids)),
                logprobs=parcel.put(joined(one.top_logprobs)),
            )
        if request.logits != "none":
            logits = parcel.deliver(
                joined(one.logits), request.deliver, f"logits of {request.model}"
            )
        return parcel.seal(
            ForwardResult(
                id=request.id,
                tokens=tokens,
                lengths=lengths,
                logits=logits,
                loss=loss,
                token_loss=token_loss,
                top_k=top_k,
                execution=one.execution,
                compute_s=context.elapsed_s,
            )
        )
