"""What switching parts off does, as questions to the daemon and as values.

Two questions for each press. The first is the loss and accuracy over the circuit's own pairs; it
runs on the compiled circuit, so hundreds of prompts are answered in the time of a key press. The
second runs one pair of prompts and brings both answers' logits and the loss of every token.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from circuit_client import iv
from circuit_client.answers import AblateAnswer, ForwardAnswer, TaskTokens
from circuit_client.call import Call
from circuit_client.switching import (
    NodeId,
    Switched,
    kept,
    node_set,
    off_edges,
    off_nodes,
)
from circuit_client.verbs.ablate import ablate
from circuit_client.verbs.circuits import edit
from circuit_client.verbs.forward import forward
from circuit_protocol.circuit_replies import CircuitDerived
from circuit_protocol.requests import AblateEdges, AblateNodes, Ablation
from circuit_tui.loaded import Loaded

#: Pairs that a switching of another kind than the circuit's own is measured on.
_FEW_PAIRS: Final = 8


@dataclass(frozen=True, slots=True)
class Score:
    """How well a circuit does its task: nats per side, share answered right."""

    loss: float
    accuracy: float | None
    n_pairs: int = 0


@dataclass(frozen=True, slots=True)
class Side:
    """One prompt of the pair: its tokens, the loss of each, the logits of right and wrong."""

    tokens: tuple[int, ...]
    #: NaN where a token has none: at the first.
    losses: tuple[float, ...]
    right: int
    wrong: int
    right_logit: float
    wrong_logit: float
    #: The likeliest next tokens, with their probabilities.
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Effect:
    """The circuit as it was found, and as it is switched now; None: not known yet."""

    found: Score | None = None
    now: Score | None = None
    sides_found: tuple[Side, ...] = ()
    sides_now: tuple[Side, ...] = ()
    #: Why what is switched cannot be measured, and why there is no example to show it on.
    refused: str | None = None
    no_example: str | None = None


def found_score(loaded: Loaded) -> Score:
    """The circuit's own score, as stored with it."""
    m = loaded.shown.circuit.measured
    return Score(m.loss, m.accuracy, m.n_pairs)


def score_call(loaded: Loaded, switched: Switched) -> Call[Any, Any]:
    """The question for loss and accuracy; `read_score` reads what it answers."""
    circuit = loaded.shown.circuit
    off = off_nodes(switched, circuit.nodes, loaded.d_head)
    if switched.kind in (None, circuit.ablation):
        return edit(
            loaded.shown,
            drop=node_set(off),
            add=node_set(switched.added - off),
            drop_edges=off_edges(switched),
            held_out=False,  # not shown here, and half of the wait
        )
    parts: list[Ablation] = [AblateNodes(nodes=node_set(off), kind=switched.kind)] if off else []
    if edges := off_edges(switched):
        parts.append(AblateEdges(edges=edges, kind=switched.kind))
    return ablate(
        circuit.model,
        task=circuit.task,
        n=_FEW_PAIRS,
        masks=[parts],
        keep=node_set({*_nodes(loaded), *switched.added}),
        kind=circuit.ablation,
    )


def read_score(answer: CircuitDerived | AblateAnswer) -> Score:
    """The score out of an answer to `score_call`."""
    if isinstance(answer, CircuitDerived):
        m = answer.circuit.measured
        return Score(m.loss, m.accuracy, m.n_pairs)
    accuracies = answer.accuracies
    return Score(
        float(answer.losses[0]), None if accuracies is None else float(accuracies[0]), _FEW_PAIRS
    )


def sides_call(loaded: Loaded, switched: Switched, pair: TaskTokens) -> Call[Any, ForwardAnswer]:
    """The question for the logits and token losses of one pair."""
    circuit = loaded.shown.circuit
    op = {"zero": iv.zero, "mean": iv.mean, "resample": iv.resample}
    fill = "zero" if circuit.ablation == "zero" else "mean"
    kind = switched.kind
    if kind in (None, fill):
        interventions = [iv.keep(kept(switched, circuit.nodes, loaded.d_head), fill=fill)]
    else:
        nodes = node_set({*_nodes(loaded), *switched.added})
        off = node_set(off_nodes(switched, circuit.nodes, loaded.d_head))
        interventions = [iv.keep(nodes, fill=fill)]
        interventions += [op[kind or "mean"](s.site, channels=s.channels or ()) for s in off]
    return forward(
        circuit.model,
        tokens=pair.tokens,
        lengths=[int(n) for n in pair.lengths],
        targets="next",
        logits="last",
        top_k=3,
        interventions=interventions,
    )


def read_sides(answer: ForwardAnswer, pair: TaskTokens) -> tuple[Side, ...]:
    """Both prompts of a pair, from the answer to `sides_call`."""
    sides: list[Side] = []
    for i, n in enumerate(int(n) for n in answer.lengths):
        right, wrong = (int(t) for t in pair.answers[i])
        logits = answer.logits[i, -1]
        top = answer.top_k
        at = n - 1 if top.ids.shape[1] > 1 else 0
        losses = np.concatenate([[np.nan], answer.token_loss[i, : n - 1]])
        sides.append(
            Side(
                tokens=tuple(answer.tokens[i, :n].tolist()),
                losses=tuple(float(x) for x in losses),
                right=right,
                wrong=wrong,
                right_logit=float(logits[right]),
                wrong_logit=float(logits[wrong]),
                top=tuple(
                    (int(t), float(np.exp(p)))
                    for t, p in zip(top.ids[i, at], top.logprobs[i, at], strict=True)
                ),
            )
        )
    return tuple(sides)


def changes(side: Side, found: Side) -> tuple[float, ...]:
    """What the switching added to the loss of each token, in nats."""
    return tuple(a - b for a, b in zip(side.losses, found.losses, strict=True))


def _nodes(loaded: Loaded) -> set[NodeId]:
    return {NodeId(g.site, c) for g in loaded.shown.circuit.nodes for c in g.channels or ()}
