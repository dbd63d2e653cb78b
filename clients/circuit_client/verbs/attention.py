"""`circuits.attention`: attention patterns with only a circuit's nodes kept, built on `hook`."""

from collections.abc import Iterable, Sequence
from typing import Unpack

from circuit_client import iv
from circuit_client.call import Call, Received
from circuit_client.circuit_answers import AttentionAnswer
from circuit_client.prompts import NodesLike, TokensLike, pack_nodes
from circuit_client.verbs.hook import hook
from circuit_client.verbs.options import ModelOptions
from circuit_protocol.circuit_replies import CircuitDerived, CircuitShown
from circuit_protocol.circuits import Circuit
from circuit_protocol.errors import InvalidRequest
from circuit_protocol.interventions import NodeSet
from circuit_protocol.replies import HookResult, Progress
from circuit_protocol.requests import Record, Split

#: A circuit with its nodes at hand (an id alone would not do), or nodes.
KeptLike = Circuit | CircuitShown | CircuitDerived | NodesLike


def attention(
    circuit: KeptLike,
    layer: int,
    heads: Iterable[int] | None = None,
    model: str | None = None,
    *,
    task: str | None = None,
    n: int = 16,
    split: Split = "train",
    seed: int = 0,
    tokens: TokensLike | None = None,
    text: str | Sequence[str] | None = None,
    **options: Unpack[ModelOptions],
) -> Call[Progress, AttentionAnswer]:
    """Attention patterns of one layer while only the circuit is kept: `answer[head]` [B, T, keys].

    Without `heads`, `answer.heads` are those of which the circuit keeps a query, key or value. The
    prompts are `text`, `tokens`, or `n` pairs of a task, by default the circuit's own. Edges a
    circuit cuts are not cut here. Raises InvalidRequest for a resample-ablated circuit: such nodes
    have no one value to be held at.
    """
    value = _circuit_of(circuit)
    fill = "mean" if value is None else value.ablation
    if fill == "resample":
        raise InvalidRequest(
            "the patterns of a resample-ablated circuit depend on what is drawn",
            hint="Give its nodes instead of the circuit: they are kept among means",
        )
    if task is None and tokens is None and text is None and value is not None:
        task = value.task
    nodes: NodeSet = value.nodes if value is not None else pack_nodes(circuit)  # pyright: ignore[reportArgumentType]  # no circuit, so nodes
    chosen = None if heads is None else tuple(int(h) for h in heads)
    call = hook(
        model if model is not None or value is None else value.model,
        # The queries at one position tell how wide a head is, and so which heads are retained.
        sites=[
            Record(site=f"{layer}.attn.pattern"),
            Record(site=f"{layer}.attn.q", positions=(-1,)),
        ],
        tokens=tokens,
        text=text,
        task=task,
        n=n,
        split=split,
        seed=seed,
        interventions=iv.keep(nodes, fill=fill),
        **options,
    )

    def read(received: Received) -> AttentionAnswer:
        return AttentionAnswer(
            received.expect(HookResult), received, layer=layer, heads=chosen, nodes=nodes
        )

    return Call(call.request, read, call.read_event, call.frames, progress=call.progress)


def _circuit_of(circuit: KeptLike) -> Circuit | None:
    match circuit:
        case Circuit():
            return circuit
        case CircuitShown() | CircuitDerived():
            return circuit.circuit
        case _:
            return None
