"""What carries a prediction, and what it does without some nodes."""

import numpy as np

from circuit_client import iv
from circuit_client.aio import AsyncConnection
from circuit_client.iv import InterventionLike
from circuit_lsp.facts import CircuitFacts, Facts, Look
from circuit_lsp.heat import kept
from circuit_lsp.messages.documents import AblateParams, AblationEffect, Explanation
from circuit_lsp.messages.shared import Node, NodeEffect, Prediction
from circuit_lsp.predictions import activations_at, likeliest, names_of, next_logprobs
from circuit_lsp.reading import Reading
from circuit_lsp.tokens import Spot, visible
from circuit_protocol.errors import BadTokens, InvalidRequest


async def explain(
    c: AsyncConnection,
    facts: Facts,
    reading: Reading,
    spot: Spot,
    look: Look,
    *,
    versus: str | None,
    versus_id: int | None,
    n_nodes: int,
) -> Explanation:
    """Ablate each node of the circuit alone, and see what that does to the spot's first token.

    Raises InvalidRequest where the model has no circuit.
    """
    chosen = await facts.circuit_to_explain(look, reading.model.name)
    circuit = await facts.circuit(chosen, look.model)
    _check_model(circuit, reading)
    prompt, target = reading.before(spot.first), reading.tokens[spot.first]
    wrong = versus_id
    if versus is not None:
        wrong = await single_token(c, reading.model.name, versus)
    if wrong == target.id:
        raise InvalidRequest("this is the very token that stands there", asked=str(versus or wrong))
    kind = circuit.shown.circuit.ablation
    answer = await c.ablate(
        reading.model.name,
        tokens=[prompt],
        answers=None if wrong is None else [[target.id, wrong]],
        targets=None if wrong is not None else [_only_last(len(prompt), target.id)],
        every="node",
        keep=circuit.shown.circuit.nodes,
        kind="zero" if kind == "zero" else "mean",
        logit_changes=wrong is not None,
    )
    changes = None
    if wrong is not None:
        changes = answer.logit_changes[:, 0, 0] - answer.logit_changes[:, 0, 1]
    order = [circuit.graph.index[thing.site or "", thing.channel or 0] for thing in answer.things]
    strength = np.abs(answer.deltas if changes is None else changes)
    best = np.argsort(-strength, kind="stable")[:n_nodes].tolist()
    values = await activations_at(
        c, reading, spot.first - 1, circuit.graph, [order[m] for m in best], (kept(circuit),)
    )
    nodes = tuple(_effect(circuit, order[m], m, values, answer.deltas, changes) for m in best)
    shown, against = visible(target.data), None
    if wrong is not None:
        against = (await names_of(c, reading.model.name, [wrong]))[wrong]
    return Explanation(
        uri=reading.text.uri,
        version=reading.text.version,
        range=reading.text.range_at(spot.start, spot.end),
        model=reading.model.name,
        circuit=circuit.name,
        target=shown,
        versus=against,
        loss_model=answer.model_loss,
        loss_circuit=answer.base_loss,
        nodes=nodes,
        sentence=_explained(shown, against, circuit, answer.model_loss, answer.base_loss, nodes),
    )


def _effect(
    circuit: CircuitFacts,
    i: int,
    m: int,
    values: dict[int, float],
    deltas: np.ndarray,
    changes: np.ndarray | None,
) -> NodeEffect:
    """Node `i` of the circuit, which is the `m`-th that was ablated."""
    node = circuit.graph.nodes[i]
    return NodeEffect(
        node=Node(site=node.site, channel=node.channel),
        label=node.label,
        activation=values[i],
        delta=float(deltas[m]),
        logit_change=None if changes is None else float(changes[m]),
    )


def _explained(
    target: str,
    versus: str | None,
    circuit: CircuitFacts,
    model_loss: float,
    circuit_loss: float,
    nodes: tuple[NodeEffect, ...],
) -> str:
    what = f"`{target}`" if versus is None else f"Of `{target}` and `{versus}`, `{target}`"
    parts = [
        f"{what} has {np.exp(-model_loss):.1%} in the model and {np.exp(-circuit_loss):.1%} with "
        f"only the {len(circuit.graph.nodes)} nodes of the circuit of {circuit.shown.circuit.task}."
    ]
    if nodes and (nodes[0].delta or 0.0) != 0.0:
        first = nodes[0]
        parts.append(
            f"It depends most on {first.node.site}[{first.node.channel}]: "
            f"{first.delta:+.3f} nats without it."
        )
    else:
        parts.append("No node of the circuit matters to it alone.")
    return " ".join(parts)


async def ablate(
    c: AsyncConnection, facts: Facts, reading: Reading, spot: Spot, look: Look, params: AblateParams
) -> AblationEffect:
    """The spot's first token with and without some nodes, in one pass of two rows."""
    prompt, target = reading.before(spot.first), reading.tokens[spot.first]
    interventions: list[InterventionLike] = list(look.interventions)
    circuit = None
    if params.circuit is not None:
        circuit = await facts.circuit(params.circuit, look.model)
        _check_model(circuit, reading)
        interventions.append(kept(circuit))
    by_site: dict[str, list[int]] = {}
    for node in params.nodes:
        by_site.setdefault(node.site, []).append(node.channel)
    make = iv.zero if params.kind == "zero" else iv.mean
    without = [make(site, channels=some, rows=[1]) for site, some in by_site.items()]
    if circuit is not None and not without:
        raise InvalidRequest("name the nodes to ablate", hint="A circuit alone changes both sides")
    logprobs = await next_logprobs(
        c, reading.model.name, [prompt, prompt], (*interventions, *without)
    )
    top = [likeliest(row, params.n_predictions) for row in logprobs]
    names = await names_of(c, reading.model.name, [*top[0], *top[1]])
    before, after = (
        tuple(Prediction(id=t, text=names[t], probability=float(np.exp(row[t]))) for t in ids)
        for row, ids in zip(logprobs, top, strict=True)
    )
    loss = -logprobs[:, target.id]
    shown = visible(target.data)
    named = ", ".join(f"{n.site}[{n.channel}]" for n in params.nodes) or "nothing"
    first = f", and `{after[0].text}` comes first" if after[0].id != before[0].id else ""
    return AblationEffect(
        uri=reading.text.uri,
        version=reading.text.version,
        range=reading.text.range_at(spot.start, spot.end),
        model=reading.model.name,
        target=shown,
        nodes=params.nodes,
        loss_before=float(loss[0]),
        loss_after=float(loss[1]),
        probability_before=float(np.exp(-loss[0])),
        probability_after=float(np.exp(-loss[1])),
        before=before,
        after=after,
        sentence=f"Without {named}: `{shown}` from {np.exp(-loss[0]):.1%} to "
        f"{np.exp(-loss[1]):.1%}{first}.",
    )


async def single_token(c: AsyncConnection, model: str, text: str) -> int:
    """The one token that `text` is. Raises BadTokens where it is several, or none."""
    (tokens,) = await c.tokenize(text, model) if text else ((),)
    if len(tokens) != 1:
        raise BadTokens(
            "an answer is a single token",
            asked=text,
            found=f"{len(tokens)} tokens" + "".join(f" `{visible(t.data)}`" for t in tokens),
        )
    return tokens[0].id


def _only_last(length: int, target: int) -> np.ndarray:
    targets = np.full(length, -1, dtype=np.int64)
    targets[-1] = target
    return targets


def _check_model(circuit: CircuitFacts, reading: Reading) -> None:
    theirs = circuit.shown.circuit.model
    if theirs != reading.model.name:
        raise InvalidRequest(
            "the circuit is another model's",
            asked=reading.model.name,
            found=theirs,
            hint="Read the document with that model, or select another circuit",
        )
