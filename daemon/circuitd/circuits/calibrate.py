"""Calibrate the two answers' logits of a circuit: a scale and a bias of one class.

One published variant fits a scale and a shift with 16 steps of L-BFGS. A shift of both logits
cannot change their softmax, so the shift here is of the first side's answer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from circuit_protocol.circuits import Calibration

N_STEPS = 16


def fit(differences: Tensor) -> Calibration:
    """The calibration that minimises the mean loss of `differences` [2n] (right minus wrong logit;
    rows i and i + n are the two sides of a pair).
    """
    fixed = differences.double()
    parameters = torch.tensor([0.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([parameters], max_iter=N_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        log_scale, bias = parameters
        loss = torch.nn.functional.softplus(-_applied(fixed, log_scale.exp(), bias)).mean()
        loss.backward()
        return loss

    with torch.enable_grad(), torch.inference_mode(False):
        optimiser.step(closure)
    log_scale, bias = parameters.detach()
    return Calibration(scale=float(log_scale.exp()), bias=float(bias))


def apply(differences: Tensor, calibration: Calibration) -> Tensor:
    """Calibrated differences [2n]."""
    return _applied(differences, calibration.scale, calibration.bias)


def _applied(differences: Tensor, scale: Tensor | float, bias: Tensor | float) -> Tensor:
    side = torch.ones_like(differences)
    side[len(differences) // 2 :] = -1  # the bias favours the first side's answer
    return scale * differences + bias * side
