"""What is asked about a text of the user's own, and what the answers say: values without a screen.

Three questions for each edit: the model's losses and predictions, the same with only the circuit
left (as it is switched), and what the circuit's nodes do at every token. A fourth, when asked for:
why one token and not another, which ablates each node of the circuit alone at that place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from circuit_client import iv
from circuit_client.answers import AblateAnswer, ForwardAnswer, HookAnswer
from circuit_client.call import Call
from circuit_client.iv import InterventionLike
from circuit_client.switching import Switched, kept
from circuit_client.verbs.ablate import ablate
from circuit_client.verbs.forward import forward
from circuit_client.verbs.hook import hook
from circuit_protocol.requests import Record
from circuit_tui.loaded import Loaded

#: Predictions shown for each token.
N_PREDICTIONS: Final = 12
#: Longer texts are refused before they are sent: no model here reads a tenth of it.
MAX_CHARACTERS: Final = 50_000


@dataclass(frozen=True, eq=False)
class Tried:
    """A text as it was run: tokens [T], the loss of each (NaN at the first), what comes next.

    `next_ids` and `next_probabilities` [T, k] are the likeliest tokens after each.
    """

    tokens: tuple[int, ...]
    losses: NDArray[np.float32]
    next_ids: NDArray[np.int64]
    next_probabilities: NDArray[np.float32]

    @property
    def mean_loss(self) -> float:
        """Mean over the tokens that have a loss, in nats."""
        return float(np.nanmean(self.losses)) if len(self.losses) > 1 else float("nan")


def try_call(
    model: str | None, text: str, interventions: Sequence[InterventionLike] = ()
) -> Call[Any, ForwardAnswer]:
    """The question for losses and predictions."""
    return forward(
        model,
        text=text,
        targets="next",
        logits="none",
        top_k=N_PREDICTIONS,
        interventions=interventions,
    )


def read_tried(answer: ForwardAnswer) -> Tried:
    """What `try_call` was answered."""
    n = int(answer.lengths[0])
    losses = np.full(n, np.nan, np.float32)
    losses[1:] = answer.token_loss[0, : n - 1]
    top = answer.top_k
    return Tried(
        tuple(answer.tokens[0, :n].tolist()),
        losses,
        np.asarray(top.ids[0, :n], np.int64),
        np.exp(np.asarray(top.logprobs[0, :n], np.float32)),
    )


def circuit_alone(loaded: Loaded, switched: Switched) -> tuple[InterventionLike, ...]:
    """What leaves of the model only the circuit, as it is switched now."""
    circuit = loaded.shown.circuit
    fill = "zero" if circuit.ablation == "zero" else "mean"
    return (iv.keep(kept(switched, circuit.nodes, loaded.d_head), fill=fill),)


def active_call(loaded: Loaded, switched: Switched, text: str) -> Call[Any, HookAnswer]:
    """The question for the values of the circuit's nodes, in the circuit alone."""
    records = [
        Record(site=group.site, channels=group.channels) for group in loaded.shown.circuit.nodes
    ]
    return hook(
        loaded.shown.circuit.model,
        sites=records,
        text=text,
        interventions=circuit_alone(loaded, switched),
    )


def read_active(loaded: Loaded, answer: HookAnswer) -> NDArray[np.float32]:
    """Values [T, n_nodes] in the order of the circuit's graph."""
    n = int(answer.lengths[0])
    values = np.zeros((n, len(loaded.graph.nodes)), np.float32)
    for group in loaded.shown.circuit.nodes:
        found = np.asarray(answer.recorded[group.site][0, :n], np.float32)
        for i, channel in enumerate(group.channels or ()):
            values[:, loaded.graph.index[group.site, channel]] = found[:, i]
    return values


@dataclass(frozen=True, slots=True)
class Reason:
    """What one node adds to the logit of one token over another's; negative: it takes away."""

    node: int
    added: float
    #: What ablating it does to each of the two logits.
    right_change: float
    wrong_change: float


@dataclass(frozen=True, slots=True)
class Why:
    """Why `right` and not `wrong` after `position`: the strongest reasons first.

    Probabilities are between the two tokens alone, in the model and in the circuit.
    """

    position: int
    right: int
    wrong: int
    model_probability: float
    circuit_probability: float
    reasons: tuple[Reason, ...]


def why_call(
    loaded: Loaded, tokens: Sequence[int], right: int, wrong: int
) -> Call[Any, AblateAnswer]:
    """The question why `right` follows `tokens` in the circuit, and not `wrong`."""
    circuit = loaded.shown.circuit
    return ablate(
        circuit.model,
        tokens=[list(tokens)],
        answers=[[right, wrong]],
        every="node",
        keep=circuit.nodes,
        kind="zero" if circuit.ablation == "zero" else "mean",
        logit_changes=True,
    )


def read_why(loaded: Loaded, answer: AblateAnswer, position: int, right: int, wrong: int) -> Why:
    """What `why_call` was answered: without a node the logits' difference falls by what it adds."""
    reasons = []
    for thing, (a, b) in zip(answer.things, answer.logit_changes[:, 0].tolist(), strict=True):
        node = loaded.graph.index[thing.site or "", thing.channel or 0]
        reasons.append(Reason(node, -(a - b), a, b))
    reasons.sort(key=lambda reason: -abs(reason.added))
    return Why(
        position,
        right,
        wrong,
        float(np.exp(-answer.model_loss)),
        float(np.exp(-answer.base_loss)),
        tuple(reasons),
    )
