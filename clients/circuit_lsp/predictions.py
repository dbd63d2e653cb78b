"""One token of a document: how likely it was, what else was, and which nodes are at work there."""

import asyncio

import numpy as np

from circuit_client.aio import AsyncConnection
from circuit_client.graph import Graph, strongest_first
from circuit_client.iv import InterventionLike
from circuit_lsp.facts import CircuitFacts, Facts, Look
from circuit_lsp.heat import kept
from circuit_lsp.messages.documents import TokenDetail, TokenScore
from circuit_lsp.messages.shared import Node, NodeEffect, Prediction
from circuit_lsp.reading import Reading
from circuit_lsp.tokens import Spot, visible
from circuit_protocol.requests import Record

#: Nodes of a circuit that are looked at for one hover: the strongest.
_MOST_NODES = 64


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities of the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


async def names_of(c: AsyncConnection, model: str, ids: list[int]) -> dict[int, str]:
    """The visible text of each token id."""
    distinct = sorted(set(ids))
    if not distinct:
        return {}
    pieces = await c.detokenize([[i] for i in distinct], model)
    return {
        i: visible(piece.data or piece.text.encode())
        for i, piece in zip(distinct, pieces, strict=True)
    }


def likeliest(logprobs: np.ndarray, n: int) -> list[int]:
    """The `n` likeliest token ids, in order."""
    return np.argsort(-logprobs, kind="stable")[:n].tolist()


async def next_logprobs(
    c: AsyncConnection,
    model: str,
    rows: list[np.ndarray],
    interventions: tuple[InterventionLike, ...] = (),
) -> np.ndarray:
    """Log-probabilities of what follows each row, [B, V]."""
    answer = await c.forward(model, tokens=rows, logits="last", interventions=interventions)
    return log_softmax(answer.logits[:, 0].astype(np.float64))


async def token_detail(
    c: AsyncConnection,
    facts: Facts,
    reading: Reading,
    spot: Spot,
    look: Look,
    *,
    n_predictions: int,
    n_nodes: int,
) -> TokenDetail:
    """What is known about a spot."""
    circuit = await facts.circuit_if_there(look)
    scores, nodes = await asyncio.gather(
        _scores(c, reading, spot, look, n_predictions),
        _active_nodes(c, reading, spot, look, circuit, n_nodes),
    )
    return TokenDetail(
        uri=reading.text.uri,
        version=reading.text.version,
        range=reading.text.range_at(spot.start, spot.end),
        model=reading.model.name,
        tokens=scores,
        circuit=None if circuit is None else circuit.name,
        nodes=nodes,
    )


async def _scores(
    c: AsyncConnection, reading: Reading, spot: Spot, look: Look, n: int
) -> tuple[TokenScore, ...]:
    model = reading.model.name
    places = [i for i in range(spot.first, spot.last + 1) if i > 0]
    rows = [reading.before(i) for i in places]
    logprobs = await next_logprobs(c, model, rows, look.interventions) if rows else np.zeros((0, 0))
    by_place = dict(zip(places, logprobs, strict=True))
    top = {i: likeliest(row, n) for i, row in by_place.items()}
    names = await names_of(c, model, [id_ for ids in top.values() for id_ in ids])
    found: list[TokenScore] = []
    for i in range(spot.first, spot.last + 1):
        token, row = reading.tokens[i], by_place.get(i)
        mine = None if row is None else float(row[token.id])
        found.append(
            TokenScore(
                id=token.id,
                text=visible(token.data),
                probability=None if mine is None else float(np.exp(mine)),
                rank=None if row is None else 1 + int((row > row[token.id]).sum()),
                loss=None if mine is None else -mine,
                predictions=()
                if row is None
                else tuple(
                    Prediction(id=t, text=names[t], probability=float(np.exp(row[t])))
                    for t in top[i]
                ),
            )
        )
    return tuple(found)


async def _active_nodes(
    c: AsyncConnection,
    reading: Reading,
    spot: Spot,
    look: Look,
    circuit: CircuitFacts | None,
    n: int,
) -> tuple[NodeEffect, ...]:
    """Nodes of the circuit whose value at the spot is not zero, by what they matter to its task."""
    if circuit is None or n == 0 or circuit.shown.circuit.model != reading.model.name:
        return ()
    graph = circuit.graph
    chosen = strongest_first(graph, range(len(graph.nodes)))[:_MOST_NODES]
    values = await activations_at(c, reading, spot.last, graph, chosen, (kept(circuit),))
    active = [i for i in chosen if values[i] != 0.0]
    if not graph.has_deltas:
        active.sort(key=lambda i: -abs(values[i]))
    return tuple(
        NodeEffect(
            node=Node(site=graph.nodes[i].site, channel=graph.nodes[i].channel),
            label=graph.nodes[i].label,
            activation=values[i],
            delta=graph.nodes[i].delta,
        )
        for i in active[:n]
    )


async def activations_at(
    c: AsyncConnection,
    reading: Reading,
    token: int,
    graph: Graph,
    nodes: list[int],
    interventions: tuple[InterventionLike, ...],
) -> dict[int, float]:
    """The values of some nodes of `graph` at one token, by their index."""
    by_site: dict[str, list[int]] = {}
    for i in nodes:
        by_site.setdefault(graph.nodes[i].site, []).append(i)
    if not by_site:
        return {}
    prompt = reading.ids[max(0, token + 1 - reading.model.block_size) : token + 1]
    answer = await c.hook(
        reading.model.name,
        sites=[
            Record(
                site=site,
                channels=tuple(graph.nodes[i].channel for i in indices),
                positions=(len(prompt) - 1,),
            )
            for site, indices in by_site.items()
        ],
        tokens=[prompt],
        interventions=interventions,
    )
    found: dict[int, float] = {}
    for site, indices in by_site.items():
        values = answer[site][0, 0]
        found |= {i: float(v) for i, v in zip(indices, values, strict=True)}
    return found
