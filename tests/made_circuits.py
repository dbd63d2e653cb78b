"""Circuits made by hand: the paper's of 12 nodes and 9 edges, and random ones of any size."""

import random
from itertools import pairwise
from typing import Any

import msgspec

from circuit_protocol.circuit_replies import CircuitShown
from circuit_protocol.circuits import (
    Card,
    Circuit,
    CircuitDetails,
    CircuitSummary,
    Control,
    EdgeGroup,
    Interval,
    LayerDelta,
    Measured,
    Measurement,
    NodeDeltas,
    Provenance,
    PruneSettings,
    PruneStep,
    VerifySettings,
    circuit_id,
)
from circuit_protocol.interventions import SiteChannels

#: The six matrices whose nonzeros are edges.
MATRICES = [
    ("attn.act_in", "attn.q"),
    ("attn.act_in", "attn.k"),
    ("attn.act_in", "attn.v"),
    ("attn.v", "attn.resid_delta"),
    ("mlp.act_in", "mlp.post_act"),
    ("mlp.post_act", "mlp.resid_delta"),
]
KINDS = ("attn.act_in", "attn.q", "attn.k", "attn.v", "attn.resid_delta",
         "mlp.act_in", "mlp.post_act", "mlp.resid_delta")  # fmt: skip
#: The paper's circuit for closing a quote (FACTS: 12 nodes, 9 edges), of heads 8 wide.
QUOTE = {
    "0.mlp.act_in": (205, 207),
    "0.mlp.post_act": (863, 2790),
    "0.mlp.resid_delta": (460, 985),
    "10.attn.act_in": (460, 985),
    "10.attn.q": (657,),
    "10.attn.k": (657,),
    "10.attn.v": (656,),
    "10.attn.resid_delta": (83,),
}
QUOTE_EDGES = [
    ("0.mlp.act_in", 205, "0.mlp.post_act", 863, 0.5, 0.31),
    ("0.mlp.act_in", 205, "0.mlp.post_act", 2790, -0.75, 0.02),
    ("0.mlp.act_in", 207, "0.mlp.post_act", 2790, 1.25, 0.4),
    ("0.mlp.post_act", 863, "0.mlp.resid_delta", 460, 0.25, 0.35),
    ("0.mlp.post_act", 2790, "0.mlp.resid_delta", 985, -2.0, 0.45),
    ("10.attn.act_in", 985, "10.attn.q", 657, 0.1, 0.0),
    ("10.attn.act_in", 460, "10.attn.k", 657, 0.9, 0.5),
    ("10.attn.act_in", 985, "10.attn.v", 656, -1.5, 0.6),
    ("10.attn.v", 656, "10.attn.resid_delta", 83, 3.0, -0.01),
]


def quote_circuit(**changes: Any) -> CircuitShown:
    """The paper's circuit, measured."""
    return shown_of(QUOTE, QUOTE_EDGES, task="single_double_quote", **changes)


def random_circuit(n_nodes: int, *, n_layer: int = 4, seed: int = 0) -> CircuitShown:
    """A circuit of `n_nodes` random nodes of a model of `n_layer` layers, 16 heads of 16."""
    draw = random.Random(seed)
    widths = {"attn.q": 256, "attn.k": 256, "attn.v": 256, "mlp.post_act": 1024}
    sites = [f"{layer}.{kind}" for layer in range(n_layer) for kind in KINDS] + ["final_resid"]
    places = [(s, c) for s in sites for c in range(widths.get(s.partition(".")[2], 256))]
    # Few residual channels, so that writers and readers meet as they do in real circuits.
    favourites = draw.sample(range(256), 24)
    chosen: set[tuple[str, int]] = set()
    while len(chosen) < n_nodes:
        site, channel = draw.choice(places)
        if site.endswith(("act_in", "resid_delta", "final_resid")):
            channel = draw.choice(favourites)
        chosen.add((site, channel))
        if len(chosen) >= len(sites) * 24:
            break
    nodes = {s: tuple(sorted(c for t, c in chosen if t == s)) for s in sites}
    edges = []
    for layer in range(n_layer):
        for source, target in MATRICES:
            for a in nodes[f"{layer}.{source}"]:
                for b in nodes[f"{layer}.{target}"]:
                    if draw.random() < 0.15:
                        edge = (draw.gauss(0, 0.5), draw.expovariate(30) - 0.005)
                        edges.append((f"{layer}.{source}", a, f"{layer}.{target}", b, *edge))
    return shown_of({s: c for s, c in nodes.items() if c}, edges, seed=seed)


def shown_of(
    nodes: dict[str, tuple[int, ...]],
    edges: list[tuple[str, int, str, int, float, float]],
    *,
    task: str = "bracket_counting",
    seed: int = 0,
    measured: bool = True,
    card: Card | None = None,
    model: str = "csd-py-sparse",
) -> CircuitShown:
    """A circuit as `circuits.show` answers it."""
    draw = random.Random(seed)
    k = sum(map(len, nodes.values()))
    numbers = Measured(
        k=k,
        n_edges=len(edges),
        loss=0.149,
        accuracy=0.975,
        model_loss=0.012,
        model_accuracy=0.999,
        held_out_loss=0.171,
        held_out_accuracy=0.962,
        model_held_out_loss=0.015,
        n_pairs=256,
        n_held_out_pairs=256,
    )
    found = Provenance(
        origin="learned",
        version="0.1.0",
        created_at_s=1_795_000_000.0,
        seconds=41.5,
        seed=seed,
        target_loss=0.15,
        settings=PruneSettings(greedy=True),
    )
    circuit = Circuit(
        model=model,
        model_hash="ab" * 32,
        task=task,
        ablation="mean",
        nodes=tuple(SiteChannels(site=s, channels=c) for s, c in nodes.items()),
        measured=numbers,
        found=found,
    )
    groups: dict[tuple[str, str], list[tuple[int, int, float, float]]] = {}
    for source, a, target, b, weight, delta in edges:
        groups.setdefault((source, target), []).append((a, b, weight, delta))
    details = CircuitDetails(
        edges=tuple(
            EdgeGroup(
                source=source,
                target=target,
                source_channels=tuple(e[0] for e in group),
                target_channels=tuple(e[1] for e in group),
                weights=tuple(e[2] for e in group),
                deltas=tuple(e[3] for e in group),
            )
            for (source, target), group in groups.items()
        ),
        nodes=tuple(
            NodeDeltas(site=s, channels=c, deltas=tuple(draw.expovariate(8) - 0.02 for _ in c))
            for s, c in nodes.items()
        ),
        layers=_layers(nodes, draw),
        curve=tuple(
            PruneStep(step=step, loss=0.7 * 0.97**i + 0.1, k=k + 5000 // (i + 1))
            for i, step in enumerate(range(0, 400, 8))
        ),
        n_pairs=32,
        seconds=0.8,
    )
    summary = CircuitSummary(
        id=circuit_id(circuit),
        model=model,
        task=task,
        sweep="learned-mean-0",
        label=str(k),
        ablation="mean",
        origin="learned",
        measured=numbers,
        seed=seed,
        target_loss=0.15,
        created_at_s=found.created_at_s,
        verdict=None if card is None else card.verdict,
    )
    return CircuitShown(
        id="x",
        summary=summary,
        circuit=circuit,
        details=details if measured else None,
        card=card,
    )


def _layers(nodes: dict[str, tuple[int, ...]], draw: random.Random) -> tuple[LayerDelta, ...]:
    counts: dict[tuple[int, str], int] = {}
    for site, channels in nodes.items():
        layer, dot, kind = site.partition(".")
        if dot:
            place = int(layer), kind.partition(".")[0]
            counts[place] = counts.get(place, 0) + len(channels)
    return tuple(
        LayerDelta(layer=layer, half=half, n_nodes=n, delta=draw.random())  # pyright: ignore
        for (layer, half), n in counts.items()
    )


def circuit_card(verdict: Any = "not supported") -> Card:
    """A card with a control that passed, one that failed and one that could not decide."""
    return Card(
        circuit="0123456789abcdef",
        verdict=verdict,
        reasons=(
            "The circuit keeps its loss on held-out templates.",
            "Pruning shuffled labels needs 130 nodes, no more than this circuit's 150.",
        ),
        depends_on=("ablation kind",) if verdict == "depends" else (),
        controls=(
            Control(
                name="held_out",
                passed=True,
                sentence="Held-out loss 0.171 stays near 0.149.",
                measurements=(
                    Measurement(
                        name="held-out loss",
                        value=0.171,
                        interval=Interval(low=0.150, high=0.193),
                    ),
                    Measurement(name="held-out accuracy", value=0.962, unit="share"),
                ),
            ),
            Control(
                name="shuffled_labels",
                passed=False,
                sentence="Nonsense labels are fitted with fewer nodes.",
                measurements=(Measurement(name="nodes needed", value=130, unit="nodes"),),
            ),
            Control(name="seeds", passed=None, sentence="Only one seed was run."),
        ),
        settings=VerifySettings(n_pairs=64),
        version="0.1.0",
        created_at_s=1_795_000_100.0,
        seconds=12.0,
    )


def summaries(n: int) -> tuple[CircuitSummary, ...]:
    """A sweep of one task: `n` circuits, each smaller and worse than the one before."""
    first = random_circuit(12).summary
    ks = [4 * 2**i for i in range(n)]
    found = [
        msgspec.structs.replace(
            first,
            id=f"{i:016x}",
            label=str(k),
            measured=msgspec.structs.replace(
                first.measured, k=k, n_edges=2 * k, loss=0.6 / (i + 1), accuracy=1 - 0.3 / (i + 1)
            ),
        )
        for i, k in enumerate(ks)
    ]
    assert all(a.measured.loss > b.measured.loss for a, b in pairwise(found))
    return tuple(found)
