"""Write truth.json: which nodes a compiled program's task needs, found by trying, node by node.

    PYTHONPATH=tests .venv/bin/python tests/data/compiled/find_truth.py

Runs the independent network of tests/reference_gpt.py in float64, and no pruner. Under each kind of
ablation a node is needed if ablating it alone lifts the task's loss above the target. That these
nodes are the one minimal circuit is checked twice: with all others ablated they reach the target,
and whoever takes nodes away one by one, in whatever order, for as long as the target is reached,
ends with exactly them. Takes some minutes.
"""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

import reference_gpt
from circuitd.circuits.nodes import node_space
from compiled import DATA, KINDS, PROGRAMS, TARGET_LOSS, Compiled, compiled

Floats = NDArray[np.float64]
#: Draws of which prompt's values replace which, for resampling.
N_DRAWS = 4
N_ORDERS = 2


class Trial:
    """The task's loss with any nodes ablated one way."""

    def __init__(self, program: Compiled, kind: str) -> None:
        self.program, self.kind, self.batch = program, kind, program.tasks["train"]
        self.space = node_space(program.config)
        self.means = {site: x.mean((0, 1)) for site, x in self._record(program.inputs.numpy())}
        self.clean = dict(self._record(self.batch.tokens))
        rng = np.random.default_rng(0)
        n_draws = N_DRAWS if kind == "resample" else 1
        self.sources = [self._derangement(rng) for _ in range(n_draws)]

    def loss(self, ablated: NDArray[np.bool_]) -> float:
        """Mean two-token loss per side with the nodes `ablated` [n_nodes]."""
        return float(np.mean([self._loss(ablated, source) for source in self.sources]))

    def _loss(self, ablated: NDArray[np.bool_], source: NDArray[np.int64]) -> float:
        def hook(site: str, x: Floats) -> Floats:
            if site not in self.space.offsets or not ablated[self.space.span(site)].any():
                return x
            return np.where(ablated[self.space.span(site)], self._fill(site, source), x)

        config, state = self.program.config, self.program.state
        logits = reference_gpt.run(config, state, self.batch.tokens, hook)
        rows = np.arange(len(logits))
        last = logits[rows, self.batch.lengths - 1]
        margin = last[rows, self.batch.right] - last[rows, self.batch.wrong]
        return float(np.logaddexp(0, -margin).mean())

    def _fill(self, site: str, source: NDArray[np.int64]) -> Floats | float:
        if self.kind == "zero":
            return 0.0
        if self.kind == "mean":
            return self.means[site]
        lengths, positions = self.batch.lengths, np.arange(self.batch.tokens.shape[1])
        at = positions + (lengths[source] - lengths)[:, None]  # the ends of the prompts meet
        return self.clean[site][source[:, None], at.clip(0, positions[-1])]

    def _derangement(self, rng: np.random.Generator) -> NDArray[np.int64]:
        order = rng.permutation(len(self.batch.tokens))
        return order[(np.argsort(order) + 1) % len(order)]

    def _record(self, tokens: NDArray[np.int64]) -> list[tuple[str, Floats]]:
        found: list[tuple[str, Floats]] = []

        def hook(site: str, x: Floats) -> Floats:
            found.append((site, x))
            return x

        reference_gpt.run(self.program.config, self.program.state, tokens, hook)
        return found


def find(program: Compiled, kind: str) -> dict[str, object]:
    """The needed nodes, and the losses that prove them."""
    trial = Trial(program, kind)
    n_nodes = trial.space.n_nodes
    whole = trial.loss(np.zeros(n_nodes, dtype=bool))
    alone = np.array([trial.loss(np.arange(n_nodes) == node) for node in range(n_nodes)])
    needed = alone > TARGET_LOSS
    circuit = trial.loss(~needed)
    assert whole <= TARGET_LOSS, whole
    assert circuit <= TARGET_LOSS, circuit
    for order in range(N_ORDERS):
        ablated = np.zeros(n_nodes, dtype=bool)
        for node in np.random.default_rng(order).permutation(n_nodes):
            ablated[node] = True
            ablated[node] = trial.loss(ablated) <= TARGET_LOSS
        assert (ablated == ~needed).all(), trial.space.describe(int((ablated == needed).argmax()))
    return {
        "whole_loss": round(whole, 4),
        "circuit_loss": round(circuit, 4),
        "least_loss_without_a_needed_node": round(float(alone[needed].min()), 4),
        "most_loss_without_another_node": round(float(alone[~needed].max()), 4),
        "nodes": by_site(program, needed),
    }


def by_site(program: Compiled, mask: NDArray[np.bool_]) -> dict[str, list[int]]:
    """Channels by site; sites without any are left out."""
    space = node_space(program.config)
    chosen = {site.name: np.flatnonzero(mask[space.span(site.name)]) for site in space.sites}
    return {site: channels.tolist() for site, channels in chosen.items() if channels.size}


def written_nodes(program: Compiled) -> NDArray[np.bool_]:
    """Nodes that the program uses: those with weights both into them and out of them."""
    config, state, space = program.config, program.state, node_space(program.config)
    used = np.zeros(space.n_nodes, dtype=bool)

    def reads(name: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        nonzero = state[f"{name}.weight"].numpy() != 0
        return nonzero.any(1), nonzero.any(0)  # rows that read, columns that are read

    for layer in range(config.n_layer):
        h = f"transformer.h.{layer}"
        rows, columns = reads(f"{h}.attn.c_attn")
        q, k, v = np.split(rows, 3)
        delta, carried = reads(f"{h}.attn.c_proj")
        used[space.span(f"{layer}.attn.act_in")] = columns
        used[space.span(f"{layer}.attn.q")] = used[space.span(f"{layer}.attn.k")] = q & k
        used[space.span(f"{layer}.attn.v")] = v & carried
        used[space.span(f"{layer}.attn.resid_delta")] = delta
        neurons, columns = reads(f"{h}.mlp.c_fc")
        delta, carried = reads(f"{h}.mlp.c_proj")
        used[space.span(f"{layer}.mlp.act_in")] = columns
        used[space.span(f"{layer}.mlp.post_act")] = neurons & carried
        used[space.span(f"{layer}.mlp.resid_delta")] = delta
    used[space.span("final_resid")] = (state["lm_head.weight"].numpy() != 0).any(0)
    return used


def meanings(program: Compiled, mask: NDArray[np.bool_]) -> dict[str, str]:
    """What each node holds, in the program's own names."""
    state, labels = program.state, np.array(program.channels)
    found: dict[str, str] = {}
    for site, channels in by_site(program, mask).items():
        layer, _, kind = site.partition(".")
        h = f"transformer.h.{layer}"
        for channel in channels:
            if kind in ("attn.q", "attn.k", "attn.v"):
                width = program.config.d_attn
                part = state[f"{h}.attn.c_attn.weight"].split(width)["qkv".index(kind[-1])]
                keys = state[f"{h}.attn.c_attn.weight"].split(width)[1]
                source = (keys if kind == "attn.q" else part)[channel].numpy()
                name = "asks for " * (kind == "attn.q") + " ".join(labels[source != 0])
            elif kind == "mlp.post_act":
                written = state[f"{h}.mlp.c_proj.weight"][:, channel].numpy()
                name = "to " + " ".join(labels[written != 0])
            else:
                name = str(labels[channel])
            found[f"{site} {channel}"] = name
    return found


if __name__ == "__main__":
    for each in PROGRAMS:
        loaded = compiled(each)
        written = written_nodes(loaded)
        truth: dict[str, object] = {kind: find(loaded, kind) for kind in KINDS}
        truth |= {"program": by_site(loaded, written), "meanings": meanings(loaded, written)}
        (DATA / each / "truth.json").write_text(json.dumps(truth, indent=1) + "\n")
