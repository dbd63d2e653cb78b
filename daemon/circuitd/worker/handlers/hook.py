"""`hook`: record activations and gradients of a plan, or how they differ from a second plan.

Rows are computed in slices of bounded cost where they do not depend on each other; a gradient, and
interventions that mix rows, take the batch in one pass. With `against` both plans are recorded
whole, subtracted, and only then cut and reduced, so that a norm is the norm of the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from circuit_protocol.errors import BadShape, InvalidRequest
from circuit_protocol.replies import HookResult
from circuit_protocol.requests import GradientOf, Hook
from circuitd.engine import gpt
from circuitd.engine import interventions as engine
from circuitd.engine.plan import Gradient, LogitDifference, Objective, Plan, TwoTokenLoss
from circuitd.engine.sites import sites
from circuitd.engine.window import Window
from circuitd.worker import memory
from circuitd.worker.changes import Changes
from circuitd.worker.collected import Collected
from circuitd.worker.context import Context
from circuitd.worker.prompts import Batch, read_input, read_prompts
from circuitd.worker.recordings import Wanted, cut, is_real, positions_of, wanted, window_of
from circuitd.worker.registry import Steps
from circuitd.worker.slices import row_slices
from circuitd.worker.translate import is_row_independent, translate


@dataclass(eq=False)
class _Side:
    """One of the (at most two) plans, and the loss of its rows as far as they are known."""

    batch: Batch
    interventions: tuple[engine.Intervention, ...]
    total_loss: float = 0.0
    execution: str = "dense"

    @property
    def loss(self) -> float | None:
        """Mean over the counted targets, or over rows for answers; None when nothing is scored."""
        if self.batch.targets is not None:
            return self.total_loss / int((self.batch.targets >= 0).sum())
        return None if self.batch.answers is None else self.total_loss / self.batch.n_rows


def run(request: Hook, context: Context) -> Steps:
    """Record what is asked for. The reported loss is that of the targets, else of the answers."""
    model = context.model
    weights = model.weights
    batch = read_input(context, request.input, model.config)
    records = wanted(model.config, request.records)
    sides = [_Side(batch, translate(context, request.interventions, batch))]
    if request.against is not None:
        sides.append(_second_side(request, context, batch))
    nbytes = sum(one.nbytes(batch, weights.dtype.itemsize) for one in records)
    # Each is held once as pieces and once joined, and gradients are as large again.
    n_copies = 2 * len(sides) * (1 if request.gradient is None else 2)
    memory.require(weights.device, n_copies * nbytes, "what is to be recorded")

    is_sliced = request.gradient is None and all(is_row_independent(s.interventions) for s in sides)
    slices = [slice(0, batch.n_rows)]
    if is_sliced:
        slices = list(row_slices(weights, batch.n_rows, batch.n_positions))
    collected, changes = Collected(records), Changes()
    for rows in slices:
        runs: list[gpt.Run] = []
        for side in sides:
            runs.append(_forward(side, rows, records, request, context))
            yield context.progress("hook", rows.start, batch.n_rows, unit="rows")
        part = batch.rows(rows)
        window = window_of(weights, part)
        _collect(collected, records, runs, part, window, rows.start)
        if len(runs) == 2:
            _count_changes(changes, records, runs, part, window, rows.start)
        yield None

    with context.parcel() as parcel:
        tokens, lengths = batch.put(parcel)
        yield parcel.seal(
            HookResult(
                id=request.id,
                tokens=tokens,
                lengths=lengths,
                recorded=collected.deliver(parcel, request.deliver, request.model),
                loss=sides[0].loss,
                against_loss=sides[1].loss if len(sides) == 2 else None,
                changes=changes.ranked(request.rank),
                execution=sides[0].execution,
                compute_s=context.elapsed_s,
            )
        )


def _second_side(request: Hook, context: Context, batch: Batch) -> _Side:
    assert request.against is not None  # the caller looked
    other = batch
    if request.against.prompts is not None:
        prompts = read_prompts(context, request.against.prompts, context.model.config)
        is_alike = prompts.tokens.shape == batch.tokens.shape
        if not is_alike or bool((prompts.lengths != batch.lengths).any()):
            raise BadShape(
                "the second plan's prompts must have the first's shape and lengths",
                asked=f"{list(prompts.tokens.shape)}, lengths {prompts.lengths.tolist()[:8]}",
                found=f"{list(batch.tokens.shape)}, lengths {batch.lengths.tolist()[:8]}",
            )
        other = Batch(prompts.tokens, prompts.lengths, batch.answers, batch.targets)
    return _Side(other, translate(context, request.against.interventions, other))


def _forward(
    side: _Side, rows: slice, records: Sequence[Wanted], request: Hook, context: Context
) -> gpt.Run:
    """One pass of one side over some rows; adds their loss up."""
    weights, batch = context.model.weights, side.batch.rows(rows)
    targets = batch.targets
    if targets is not None and not bool((targets >= 0).any()):
        targets = None  # the rows that have targets are in another slice
    names = {one.site.name for one in records}
    gradient = None
    if request.gradient is not None:
        gradient = Gradient(_objective(request.gradient, batch), tuple(names))
    is_scored = batch.targets is not None or batch.answers is not None
    last_site = [site.name for site in sites(weights.config) if site.name in names][-1]
    plan = Plan(
        record=tuple(one.record if request.against is None else one.whole for one in records),
        interventions=side.interventions,
        gradient=gradient,
        logits="last" if batch.targets is None and batch.answers is not None else "none",
        targets=targets,
        lengths=batch.plan_lengths,
        stop_after=None if is_scored else last_site,
        cancelled=context.stop,
    )
    result = gpt.forward(weights, batch.tokens, plan)
    side.execution = result.execution
    if result.token_loss is not None:
        side.total_loss += float(result.token_loss.sum())
    elif result.logits is not None and batch.answers is not None:
        answered = result.logits.float().gather(1, batch.answers.to(weights.device))
        side.total_loss += float(F.softplus(answered[:, 1] - answered[:, 0]).sum())
    return result


def _objective(asked: GradientOf, batch: Batch) -> Objective:
    """What to differentiate. "loss" is the reported one: answers serve where targets lack."""
    if asked.of == "loss" and batch.targets is not None:
        return "loss"
    if batch.answers is None:
        raise InvalidRequest(
            "a gradient needs something to differentiate",
            asked=asked.of,
            hint="Give `targets`" if asked.of == "loss" else "Give `answers`, or a task",
        )
    right, wrong = batch.answers.unbind(1)
    if asked.of == "logit_difference":
        return LogitDifference(right, wrong)
    return TwoTokenLoss(right, wrong)


def _collect(
    collected: Collected,
    records: Sequence[Wanted],
    runs: Sequence[gpt.Run],
    batch: Batch,
    window: Window,
    first_row: int,
) -> None:
    """Take in what was recorded of some rows: the first plan's, or the first minus the second."""
    a, b = runs[0], runs[1] if len(runs) == 2 else None
    for number, one in enumerate(records):
        values, channels = a.records[one.record.name], a.indices.get(one.record.name)
        if b is not None:
            difference = values - b.records[one.record.name]
            values, channels = cut(one.record, difference, one.site, window)
        collected.add(number, values, channels, batch, window, first_row)
        if a.grads:
            gradient = _gradient(a, one.site.name, batch)
            if b is not None:
                gradient = gradient - _gradient(b, one.site.name, batch)
            collected.add_gradient(number, gradient, window)


def _gradient(result: gpt.Run, site: str, batch: Batch) -> torch.Tensor:
    """Gradient at a site. The engine sums row objectives; the protocol means their average."""
    gradient = result.grads[site]
    return gradient if result.objective is None else gradient / batch.n_rows


def _count_changes(
    changes: Changes,
    records: Sequence[Wanted],
    runs: Sequence[gpt.Run],
    batch: Batch,
    window: Window,
    first_row: int,
) -> None:
    """Count the differences of some rows in, each site once, where its first record looks."""
    rows = torch.arange(first_row, first_row + batch.n_rows, device=window.device)
    counted: set[str] = set()
    for one in records:
        site, record = one.site, one.record
        if site.kind == "pattern" or site.name in counted:
            continue  # a pattern has no channels to rank
        counted.add(site.name)
        difference = runs[0].records[record.name] - runs[1].records[record.name]
        difference, _ = cut(replace(record, reduce=None), difference, site, window)
        positions = positions_of(record, window)
        chosen = range(site.width) if record.channels is None else record.channels
        changes.add(
            site.name,
            difference,
            torch.tensor(list(chosen), device=window.device),
            rows,
            positions,
            is_real(positions, batch.lengths),
        )
