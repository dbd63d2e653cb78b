"""Frozen norm: whether the circuit works through its nodes, or through the norms' scale.

Ablating a node changes the length of the stream, and with it the scale of every later norm: a
path that no edge shows. Here each norm's scale is held at what it is in the whole model.
"""

from __future__ import annotations

import numpy as np
import torch

from circuit_protocol.circuits import Control
from circuitd.circuits.ablate import CODES, Mask
from circuitd.circuits.problem import Outcome
from circuitd.circuits.prompts import ScoredPrompts
from circuitd.circuits.samples import Surroundings, in_circuit
from circuitd.circuits.scoring import answer_logits
from circuitd.circuits.verify.bootstrap import bounds
from circuitd.circuits.verify.thresholds import RETAINED, at_least, retained
from circuitd.circuits.verify.trial import Controlling, Shares, Trial
from circuitd.engine.gpt import forward
from circuitd.engine.interventions import Freeze
from circuitd.engine.plan import Plan, Record
from circuitd.engine.sites import sites

ROWS_PER_PASS = 16


def frozen_norm(trial: Trial) -> Controlling:
    """The circuit's loss with all norms' scales frozen at the whole model's on the same prompts."""
    ablation = trial.problem.ablation
    if ablation == "resample":
        return Control(
            name="frozen_norm",
            passed=None,
            sentence="Not tried: resampled nodes come with the scales of other prompts.",
        )
    few, gated = trial.few(), trial.problem.gated
    codes = np.where(trial.kept, 0, CODES[ablation]).astype(np.uint8)
    device = gated.weights.device
    ablated = gated.ablated.to(device, gated.weights.dtype)
    around = in_circuit(gated.weights, Mask(codes, trial.cut_edges), ablated)
    frozen = trial.calibrated((yield from _frozen(trial, few, around)))
    free = yield from trial.circuit_on(few)
    whole = yield from trial.whole_on(few)
    share = trial.bootstrap.retained("retained, scales frozen", whole, frozen)
    passed = at_least(*bounds(share), RETAINED)
    verdict = {
        True: "the circuit does not live on them",
        False: "the circuit lives on them",
        None: "these pairs do not tell whether the circuit lives on them",
    }[passed]
    if retained(free.loss, whole.loss) < RETAINED:
        passed, verdict = None, "there is nothing for them to carry"
    return Control(
        name="frozen_norm",
        passed=passed,
        sentence=f"With the norms' scales frozen at the whole model's the loss is "
        f"{frozen.loss:.3f}, free {free.loss:.3f}: {verdict}.",
        measurements=(
            trial.bootstrap.loss("loss, scales frozen", frozen),
            trial.bootstrap.loss("loss, scales free", free),
            share,
        ),
    )


def _frozen(trial: Trial, prompts: ScoredPrompts, around: Surroundings) -> Shares[Outcome]:
    weights = trial.problem.gated.weights
    scales = [site.name for site in sites(weights.config) if site.kind == "norm_scale"]
    interventions, cuts = around
    differences = torch.empty(len(prompts))
    for rows in prompts.passes(ROWS_PER_PASS):
        part = prompts.rows(rows)
        assert part.answers is not None  # circuits are found for tasks
        clean = Plan(
            record=tuple(Record(name) for name in scales), logits="none", lengths=part.lengths
        )
        with torch.inference_mode():
            records = forward(weights, part.tokens, clean).records
            plan = Plan(
                interventions=(*interventions, *(Freeze(name, records[name]) for name in scales)),
                cuts=cuts,
                logits="last",
                lengths=part.lengths,
            )
            logits = forward(weights, part.tokens, plan).logits
        assert logits is not None  # the plan asked for the last position's
        answered = answer_logits(logits, part.answers)
        differences[rows] = (answered[:, 0] - answered[:, 1]).cpu()
        yield None
    return Outcome(differences)
