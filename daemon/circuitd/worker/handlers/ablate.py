"""`ablate`: losses under one mask or thousands, streamed as they are done, resumable as a job."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file, save_file

from circuit_protocol.errors import BadShape, InvalidRequest
from circuit_protocol.replies import AblatePart, AblateResult
from circuit_protocol.requests import Ablate
from circuitd.circuits.ablate import Mask, Scores, Sweep
from circuitd.circuits.gated import Gated
from circuitd.circuits.kernel_sweep import KernelSweep
from circuitd.circuits.nodes import node_space
from circuitd.circuits.prompts import ScoredPrompts
from circuitd.engine.sparse.lanes.layout import why_not
from circuitd.worker import memory
from circuitd.worker.context import Context
from circuitd.worker.masks import MaskPlan, read_masks
from circuitd.worker.output import Output
from circuitd.worker.prompts import Batch, read_input
from circuitd.worker.registry import Steps
from circuitd.worker.slices import rows_per_step

#: A part is sent, and a job's progress written down, at most this often.
_PART_INTERVAL_S: Final = 0.1
_CHECKPOINT_INTERVAL_S: Final = 2.0
#: Changes of logits are in memory so often at the end: joined, the change, on their way out.
_CHANGES_COPIES: Final = 3


def run(request: Ablate, context: Context) -> Steps:
    """Score the base, then the masks; the last reply has all losses."""
    weights = context.model.weights
    batch = read_input(context, request.input, context.model.config)
    plan = read_masks(context, request)
    prompts = _scored(batch, weights.device)
    if request.logit_changes and prompts.answers is None:
        raise InvalidRequest("`logit_changes` are of the answers", hint="Send `answers` or a task")
    means = _means(context, request) if "mean" in plan.kinds else None
    _require_memory(context, request, plan, prompts)
    reason = _why_passes(context, request, plan, prompts)
    step = rows_per_step(weights, batch.n_positions)

    def sweep(base: Mask) -> Sweep | KernelSweep:
        if reason is None:
            return KernelSweep(_gated(context, means), prompts, base)
        return Sweep(weights, prompts, base, means, request.seed, step, context.stop)

    yield context.progress("ablate", 0, plan.n_masks, unit="masks")
    based = sweep(plan.base)
    base_scores = yield from _last(based.base_steps())
    model_scores = base_scores
    if plan.base.codes.any():
        model_scores = yield from _last(sweep(Mask(plan.base.codes * 0)).base_steps())
    yield None

    tally = _Tally(context, _resumed(context.checkpoint_dir), request.logit_changes)
    rooted = based if plan.root is None or reason is not None else sweep(plan.root)
    started_s = time.perf_counter()
    for scores in rooted.run(plan.masks(start=tally.n_done)):
        yield None if scores is None else tally.add(scores)
        yield context.progress("ablate", tally.n_done, plan.n_masks, unit="masks")
    masks_s = time.perf_counter() - started_s
    execution = (
        rooted.execution if isinstance(rooted, KernelSweep) else f"batched passes, since {reason}"
    )
    yield _answer(context, plan, tally, base_scores, model_scores, masks_s, execution)


def _last(
    steps: Iterator[Scores | None],
) -> Generator[None, None, Scores]:
    """Run `steps`, passing on the boundaries between them; returns the scores they end in."""
    for scores in steps:
        if scores is not None:
            return scores
        yield None
    raise AssertionError("a sweep ended without scores")


def _scored(batch: Batch, device: torch.device) -> ScoredPrompts:
    if batch.answers is None and batch.targets is None:
        raise InvalidRequest(
            "an ablation needs to know what is right",
            hint="Send `answers` [rows, 2] or `targets` [rows, positions], or name a task",
        )
    answers = None if batch.answers is None else batch.answers.to(device)
    targets = None if batch.targets is None or answers is not None else batch.targets.to(device)
    return ScoredPrompts(batch.tokens.to(device), batch.lengths.to(device), answers, targets)


def _why_passes(
    context: Context, request: Ablate, plan: MaskPlan, prompts: ScoredPrompts
) -> str | None:
    """What keeps this sweep off the sparse kernels; None where they serve."""
    reasons = (
        (prompts.answers is None, "all tokens count, not the answers alone"),
        (request.logit_changes, "changes of both answers' logits are asked for"),
        ("resample" in plan.kinds, "a resampled node has no one value"),
        (len(plan.kinds) > 1, "its masks ablate in more than one way"),
    )
    found = next((reason for applies, reason in reasons if applies), None)
    return why_not(context.model.weights) if found is None else found


def _gated(context: Context, means: torch.Tensor | None) -> Gated:
    """The network with ablated nodes at `means` [n_nodes] or zero; all share one sparse layout."""
    model = context.model
    values = torch.zeros(node_space(model.config).n_nodes) if means is None else means
    return model.gated(model.stand_in).holding(values)


def _require_memory(
    context: Context, request: Ablate, plan: MaskPlan, prompts: ScoredPrompts
) -> None:
    """Raise OutOfMemory now for what would not fit while it runs; all else is streamed."""
    device, n_rows = context.model.weights.device, len(prompts)
    if "resample" in plan.kinds:
        n_values = prompts.tokens.numel() * node_space(context.model.config).n_nodes
        nbytes = 2 * n_values * context.model.weights.dtype.itemsize  # while rows change places
        memory.require(device, nbytes, f"what {n_rows} prompts have at every node")
    if request.logit_changes:
        nbytes = _CHANGES_COPIES * 2 * 4 * n_rows * plan.n_masks
        memory.require(torch.device("cpu"), nbytes, f"changes of {plan.n_masks} x {n_rows} rows")


def _means(context: Context, request: Ablate) -> torch.Tensor:
    """The values of mean-ablated nodes [n_nodes]."""
    space, weights = node_space(context.model.config), context.model.weights
    if request.means is None:
        means = torch.cat([context.model.means[site.name] for site in space.sites])
    else:
        means = context.tensor(request.means).flatten()
        if len(means) != space.n_nodes or not bool(torch.isfinite(means).all()):
            raise BadShape(
                "`means` must be one finite number per node",
                asked=f"{list(request.means.shape)}",
                found=f"a model of {space.n_nodes} nodes",
            )
    return means.to(weights.device, weights.dtype)


@dataclass
class _Tally:
    """Scores of the masks done so far; the tensors of a checkpoint."""

    context: Context
    done: dict[str, torch.Tensor]
    keeps_answers: bool
    _parts: list[Scores] = field(default_factory=list)
    _sent: int = 0
    _next_part_s: float = 0.0
    _next_checkpoint_s: float = field(
        default_factory=lambda: time.monotonic() + _CHECKPOINT_INTERVAL_S
    )

    def __post_init__(self) -> None:
        self._sent = self.n_done
        self.n_resumed = self.n_done

    @property
    def n_done(self) -> int:
        """Masks scored."""
        resumed = len(self.done["losses"]) if self.done else 0
        return resumed + sum(len(part.losses) for part in self._parts)

    def add(self, scores: Scores) -> Output | None:
        """Take in the scores of the next masks; a part to send, if one is due."""
        self._parts.append(scores)
        now = time.monotonic()
        if now >= self._next_checkpoint_s and self.context.checkpoint_dir is not None:
            self._next_checkpoint_s = now + _CHECKPOINT_INTERVAL_S
            _checkpoint(self.context.checkpoint_dir, self.joined())
        if now < self._next_part_s:
            return None
        self._next_part_s = now + _PART_INTERVAL_S
        joined, start = self.joined(), self._sent
        self._sent = len(joined["losses"])
        with self.context.parcel() as parcel:
            accuracies = joined.get("accuracies")
            return parcel.seal(
                AblatePart(
                    id=self.context.request.id,
                    final=False,
                    start=start,
                    losses=parcel.put(joined["losses"][start:]),
                    accuracies=None if accuracies is None else parcel.put(accuracies[start:]),
                )
            )

    def joined(self) -> dict[str, torch.Tensor]:
        """Everything so far: losses [M], accuracies [M], answered [M, B, 2] where kept."""
        if self._parts:
            new = {"losses": torch.cat([part.losses for part in self._parts])}
            if self._parts[0].accuracies is not None:
                parts = [part.accuracies for part in self._parts if part.accuracies is not None]
                new["accuracies"] = torch.cat(parts)
            if self.keeps_answers:
                parts = [part.answered for part in self._parts if part.answered is not None]
                new["answered"] = torch.cat(parts)
            new = {name: values.cpu() for name, values in new.items()}
            self.done = {
                name: torch.cat((self.done[name], values)) if self.done else values
                for name, values in new.items()
            }
            self._parts.clear()
        return self.done


def _checkpoint(directory: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write the scores so far, whole or not at all: a killed worker must not leave half a file."""
    unfinished = directory / "ablate.safetensors.part"
    save_file(tensors, unfinished)
    unfinished.replace(directory / "ablate.safetensors")


def _resumed(directory: Path | None) -> dict[str, torch.Tensor]:
    path = None if directory is None else directory / "ablate.safetensors"
    return load_file(path) if path is not None and path.is_file() else {}


def _answer(
    context: Context,
    plan: MaskPlan,
    tally: _Tally,
    base: Scores,
    model: Scores,
    masks_s: float,
    execution: str,
) -> Output:
    joined = tally.joined() or {"losses": torch.zeros(0)}
    losses, accuracies = joined["losses"], joined.get("accuracies")
    with context.parcel() as parcel:
        changes = None
        if "answered" in joined:
            assert base.answered is not None
            changes = parcel.deliver(
                joined["answered"] - base.answered.cpu(), "auto", "changes of answer logits"
            )
        return parcel.seal(
            AblateResult(
                id=context.request.id,
                model_loss=float(model.losses[0]),
                model_accuracy=None if model.accuracies is None else float(model.accuracies[0]),
                base_loss=float(base.losses[0]),
                base_accuracy=None if base.accuracies is None else float(base.accuracies[0]),
                losses=parcel.put(losses),
                deltas=parcel.put(losses - float(base.losses[0])),
                accuracies=None if accuracies is None else parcel.put(accuracies),
                logit_changes=changes,
                things=plan.things,
                masks_per_s=(tally.n_done - tally.n_resumed) / max(masks_s, 1e-9),
                execution=execution,
                compute_s=context.elapsed_s,
            )
        )
