"""A network's weights while a circuit is being written into them.

The stream has an anchor channel, equal for every token and so large that the RMS of the stream is
nearly its own: the gain of each norm then undoes the norm to a percent, and what other channels
hold hardly reaches the circuit through the norm's scale. Every stage of the circuit writes into a
channel of its own, which nothing else writes to with effect; that is why distractors have none.
"""

from __future__ import annotations

import math

import numpy as np

from circuitd.engine.config import GPTConfig
from circuitd.engine.weights import expected_shapes
from planted.network import Edge

#: The anchor over sqrt(d_model): the rest of the stream adds about 1 % to the RMS.
ANCHOR_RMS = 4.0
#: Stream channels that are zero for every token and written by nobody.
N_SILENT = 2

_MATRICES = {
    "attn.q": "attn.c_attn",
    "attn.k": "attn.c_attn",
    "attn.v": "attn.c_attn",
    "attn.resid_delta": "attn.c_proj",
    "mlp.post_act": "mlp.c_fc",
    "mlp.resid_delta": "mlp.c_proj",
}


class Blueprint:
    """Zero weights of `config`, an anchor, and books on which channels and nodes are taken."""

    def __init__(self, config: GPTConfig, rng: np.random.Generator) -> None:
        self.config = config
        self.rng = rng
        self.state = {
            name: np.zeros(shape, dtype=np.float32)
            for name, shape in expected_shapes(config).items()
        }
        self.nodes: dict[str, set[int]] = {}
        self.edges: set[Edge] = set()
        self.causal_edges: set[Edge] = set()
        #: Those of the nodes that hold the same in every prompt of the task.
        self.same_in_all_prompts: set[tuple[str, int]] = set()
        #: Heads that belong to the circuit, by layer.
        self.heads: dict[int, set[int]] = {}
        #: The sign of the last stage's output where the product of all compared signals is 1.
        self.sign = 1
        free = rng.permutation(config.d_model).tolist()
        self.anchor: int = free.pop()
        self.silent: list[int] = [free.pop() for _ in range(N_SILENT)]
        self._free: list[int] = free
        #: Stream channels that the circuit reads or writes.
        self.taken: set[int] = set()
        self.state["transformer.wte.weight"][:, self.anchor] = ANCHOR_RMS * math.sqrt(
            config.d_model
        )
        for name, gain in self.state.items():
            if ".ln_1." in name or ".ln_2." in name or ".ln_f." in name:
                gain[:] = ANCHOR_RMS
                gain[self.anchor] = 1 / math.sqrt(config.d_model)  # a channel like any other

    def channel(self) -> int:
        """A stream channel for the circuit's use alone."""
        channel = self._free.pop()
        self.taken.add(channel)
        return channel

    def embed(self, feature: np.ndarray) -> int:
        """A channel that holds `feature` [vocab_size] of the token at the position."""
        channel = self.channel()
        self.state["transformer.wte.weight"][:, channel] = feature
        return channel

    def node(self, site: str, channel: int) -> None:
        """Count a node as one of the circuit's."""
        self.nodes.setdefault(site, set()).add(channel)

    def connect(
        self, source: str, source_channel: int, target: str, target_channel: int, weight: float,
        *, causal: bool = True,
    ) -> None:  # fmt: skip
        """Plant a weight between two nodes of the circuit."""
        matrix, row = self.entry(target, target_channel)
        matrix[row, source_channel] = weight
        self.node(source, source_channel)
        self.node(target, target_channel)
        edge = Edge(source, source_channel, target, target_channel)
        self.edges.add(edge)
        if causal:
            self.causal_edges.add(edge)

    def entry(self, target: str, channel: int) -> tuple[np.ndarray, int]:
        """The matrix that computes `target`, and the row of its channel."""
        layer, _, kind = target.partition(".")
        part = "qkv".index(kind[-1]) if kind in ("attn.q", "attn.k", "attn.v") else 0
        name = f"transformer.h.{layer}.{_MATRICES[kind]}.weight"
        return self.state[name], part * self.config.d_attn + channel

    def bias(self, target: str) -> np.ndarray:
        """The bias of `target` [width], a view."""
        layer, _, kind = target.partition(".")
        whole = self.state[f"transformer.h.{layer}.{_MATRICES[kind]}.bias"]
        if kind not in ("attn.q", "attn.k", "attn.v"):
            return whole
        first = "qkv".index(kind[-1]) * self.config.d_attn
        return whole[first : first + self.config.d_attn]

    def answer(self, channel: int, answers: tuple[int, int], margin: float) -> None:
        """Read the answer off a channel: +1 gives the first of `answers` a logit `margin` above
        the second's, -1 one below.
        """
        head = self.state["lm_head.weight"]
        head[answers[0], channel] = margin / 2
        head[answers[1], channel] = -margin / 2
        self.node("final_resid", channel)
