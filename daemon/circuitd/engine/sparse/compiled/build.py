"""From a node set to its plan: what is frozen is folded into constants, what varies is listed.

Nothing here runs over lanes: the static part of the stream is worked out per letter, frozen heads
per position, frozen rows once. Open nodes that nothing reads (an act_in whose layer writes nothing)
get no slot.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from circuitd.engine.sparse.compiled import plan as p
from circuitd.engine.sparse.compiled.pieces import (
    HeadLists,
    Part,
    edges_out_of,
    flat,
    fold_values,
    joined,
)
from circuitd.engine.sparse.compiled.prompts import LaidPrompts
from circuitd.engine.sparse.compiled.windows import windows_of
from circuitd.engine.sparse.functions import activate
from circuitd.engine.sparse.lanes.layout import Network, Sizes
from circuitd.engine.sparse.lanes.network import fold
from circuitd.engine.sparse.vectors import LANES
from circuitd.engine.steps import Steps

Array = np.ndarray[Any, Any]

_F: Final = np.float32
#: Letters whose streams are worked on at once, one step: some milliseconds at paper scale.
_N_LETTERS: Final = 64


def compile_circuit(
    net: Network, sizes: Sizes, kept: Array, ablated: Array, prompts: LaidPrompts
) -> Steps[p.Plan]:
    """The plan of the circuit `kept` (BOOL [n_nodes]), everything else at `ablated` [n_nodes]."""
    return (yield from _Compiler(net, sizes, kept, ablated, prompts).plan())


class _Compiler:
    """One compilation. Nodes of a layer are in the order act_in, k, q, v, attn out, act_in,
    post_act, MLP out.
    """

    def __init__(
        self, net: Network, sizes: Sizes, kept: Array, ablated: Array, prompts: LaidPrompts
    ) -> None:
        self.net, self.s, self.prompts = net, sizes, prompts
        self.kept, self.ablated = kept, ablated
        widths = (
            ("attn_in", sizes.d_in), (p.K, sizes.d_attn), (p.Q, sizes.d_attn), (p.V, sizes.d_attn),
            (p.ATTN_OUT, sizes.d_model), ("mlp_in", sizes.d_in), (p.HIDDEN, sizes.d_mlp),
            (p.MLP_OUT, sizes.d_model),
        )  # fmt: skip
        at = np.concatenate([[0], np.cumsum([width for _, width in widths])]).tolist()
        self.at = {site: offset for (site, _), offset in zip(widths, at, strict=False)}
        self.width = dict(widths)
        self.per_layer = at[-1]
        folded = np.empty((sizes.n_layer, 3 * sizes.d_attn + sizes.d_mlp + sizes.d_model), _F)
        fold(net, sizes, kept.astype(_F), ablated, folded)
        self.folded = folded
        self.live = self._live()
        self.nodes = np.flatnonzero(self.live)
        self.slot_of = np.full(len(kept), -1, np.int64)
        self.slot_of[self.nodes] = np.arange(len(self.nodes))

    # -------------------------------------------------------------------- nodes by site

    def first(self, layer: int, site: str | int) -> int:
        """The first node of a site."""
        return layer * self.per_layer + self.at[site]

    def span(self, layer: int, site: str | int) -> slice:
        """The nodes of a site."""
        first = self.first(layer, site)
        return slice(first, first + self.width[site])

    def open(self, layer: int, site: str | int) -> Array:
        """Channels of a site's live nodes."""
        return np.flatnonzero(self.live[self.span(layer, site)])

    def _live(self) -> Array:
        """The kept nodes that something reads."""
        live: Array = self.kept.copy()
        for layer in range(self.s.n_layer):
            if not live[self.span(layer, p.ATTN_OUT)].any():
                for part in (p.Q, p.K, p.V):
                    live[self.span(layer, part)] = False
            reaches = np.repeat(self._head_matters(layer, live), self.s.d_attn // self.s.n_head)
            live[self.span(layer, p.Q)][~reaches] = False
            live[self.span(layer, p.K)][~reaches] = False
            if not any(live[self.span(layer, part)].any() for part in (p.Q, p.K, p.V)):
                live[self.span(layer, "attn_in")] = False
            if not live[self.span(layer, p.MLP_OUT)].any():
                live[self.span(layer, p.HIDDEN)] = False
            if not live[self.span(layer, p.HIDDEN)].any():
                live[self.span(layer, "mlp_in")] = False
        return live

    def _head_matters(self, layer: int, live: Array) -> Array:
        """BOOL [n_head]: whether a head's pattern can be told from its output. Of values that are
        all frozen only their share is seen, which varies where a sink takes the rest.
        """
        heads = (self.s.n_head, -1)
        open_values: Array = np.logical_or.reduce(live[self.span(layer, p.V)].reshape(heads), 1)
        if not self.net.sinks.shape[1]:
            return open_values
        frozen = self.ablated[self.span(layer, p.V)].reshape(heads)
        return open_values | (frozen != 0).any(1)

    # -------------------------------------------------------------------- the whole

    def plan(self) -> Steps[p.Plan]:
        """Put it all together, a half block to a step."""
        s, net = self.s, self.net
        turn = self._turn()
        stream, constants = self._stream(turn)
        inputs = yield from self._inputs(stream, constants, turn)
        parts: list[Part] = []
        heads = HeadLists()
        for layer in range(s.n_layer):
            parts += self._attention(layer, heads, turn)
            yield None
            parts += self._mlp(layer)
            yield None
        shape = p.Shape(
            s.n_layer, s.d_model, s.d_in - s.d_model, s.d_attn // s.n_head, s.d_mlp, s.is_gelu,
            bool(net.sinks.shape[1]), s.norm_eps, s.attn_in if s.attn_in < s.d_in else 0,
            s.mlp_in if s.mlp_in < s.d_in else 0, turn, self.prompts.longest,
        )  # fmt: skip
        return p.Plan(
            shape=shape, nodes=self.nodes, fills=self.ablated[self.nodes],
            positions=net.positions, stream=stream, inputs=inputs, rows=flat(parts),
            heads=heads.flat(), ending=self._ending(stream, constants[-1]),
        )  # fmt: skip

    def _turn(self) -> int:
        """After the last attention that reads keys or values of other tokens."""
        for layer in reversed(range(self.s.n_layer)):
            if len(self.open(layer, p.K)) or len(self.open(layer, p.V)):
                return 2 * layer + 1
        return 0

    def _stream(self, turn: int) -> tuple[p.Stream, Array]:
        """The varying channels, and the closed nodes' sum before each half block [2 L + 1, d]."""
        s = self.s
        halves, d = 2 * s.n_layer, s.d_model
        constants = np.zeros((halves + 1, d), _F)
        place = np.full(d, -1, np.int64)
        n_varying = np.zeros(halves + 1, np.int64)
        added = np.zeros((halves, d), _F)
        writers = np.full((halves, d), -1, np.int64)
        order: list[int] = []
        for half in range(halves):
            site = p.MLP_OUT if half % 2 else p.ATTN_OUT
            span, channels = self.span(half // 2, site), self.open(half // 2, site)
            added[half] = self.ablated[span]
            added[half, channels] = 0
            writers[half, channels] = np.arange(len(channels))
            new = channels[place[channels] < 0]
            place[new] = len(order) + np.arange(len(new))
            order += new.tolist()
            n_varying[half + 1] = len(order)
            constants[half + 1] = constants[half] + added[half]
        channels = np.array(order, np.int64)
        stream = p.Stream(
            channels=channels,
            n_varying=n_varying,
            embeddings=np.ascontiguousarray(self.prompts.embeddings[:, channels].T),
            fills=np.ascontiguousarray(added[:, channels]),
            writers=np.ascontiguousarray(writers[:, channels]),
            gains=np.ascontiguousarray(self.net.gains[:halves][:, channels]),
            squares=np.zeros((halves, len(self.prompts.embeddings)), _F),
        )
        return stream, constants

    def _inputs(self, stream: p.Stream, constants: Array, turn: int) -> Steps[p.Inputs]:
        """act_in of every half block; fills `stream.squares` where there is any."""
        s, d = self.s, self.s.d_model
        letters = self.prompts.embeddings
        start, window_at = [0], []
        slots, channels, varying, gains = [], [], [], []
        static, windows, n_keys = [], [], 0
        place = np.full(s.d_in, -1, np.int64)
        for half in range(2 * s.n_layer):
            site = "mlp_in" if half % 2 else "attn_in"
            own = self.open(half // 2, site)
            n_varying = int(stream.n_varying[half])
            place[stream.channels[:n_varying]] = np.arange(n_varying)
            start.append(start[-1] + len(own))
            window_at.append(n_keys)
            if not len(own):
                continue
            gain = np.ones(s.d_in, _F)
            gain[:d] = self.net.gains[half]
            slots.append(self.slot_of[self.first(half // 2, site) + own])
            channels.append(own)
            varying.append(place[own])
            gains.append(gain[own])
            n_letters = self.prompts.n_last if half >= turn else len(letters)
            here = np.zeros((len(own), len(letters)), _F)
            in_stream = own < d
            of_own = letters[:n_letters, own[in_stream]] + constants[half, own[in_stream]]
            here[in_stream, :n_letters] = of_own.T
            static.append(here)
            squares, found = yield from self._static(half, n_letters, constants[half], stream)
            stream.squares[half, :n_letters] = squares
            windows.append(found)
            n_keys += len(found)
        return p.Inputs(
            start=np.array(start), slot=joined(slots), channel=joined(channels),
            varying=joined(varying), gain=joined(gains, _F),
            static=np.concatenate(static) if static else np.zeros((0, len(letters)), _F),
            window_at=np.array(window_at), windows=joined(windows),
        )  # fmt: skip

    def _static(
        self, half: int, n_letters: int, constants: Array, stream: p.Stream
    ) -> Steps[tuple[Array, Array]]:
        """Of the channels that do not vary at a half block, for each of the first letters: their
        sum of squares, and the window of their magnitudes after the gain, flat.
        """
        s, d = self.s, self.s.d_model
        known = self.prompts.of_first_half
        if half == 0 and n_letters in known:
            return known[n_letters]
        k = s.mlp_in if half % 2 else s.attn_in
        varying = stream.channels[: stream.n_varying[half]]
        squares, windows = np.empty(n_letters, _F), []
        for first in range(0, n_letters, _N_LETTERS):
            some = slice(first, min(first + _N_LETTERS, n_letters))
            values = self.prompts.embeddings[some] + constants
            values[:, varying] = 0
            np.einsum("lc,lc->l", values, values, out=squares[some])
            if k < s.d_in:
                values *= self.net.gains[half]
                windows.append(windows_of(values, k, len(varying) + s.d_in - d).ravel())
            yield None
        found = squares, joined(windows)
        if half == 0:
            known[n_letters] = found
        return found

    # -------------------------------------------------------------------- parts

    def _attention(self, layer: int, heads: HeadLists, turn: int) -> list[Part]:
        s, net = self.s, self.net
        inputs = self.open(layer, "attn_in")
        source, row, weight = edges_out_of(net, layer, 0, inputs)
        parts = []
        for part in (p.Q, p.K, p.V):
            base = part * s.d_attn
            own = (row >= base) & (row < base + s.d_attn)
            kept = (s.attn_q, s.attn_k, s.attn_v)[part]
            constants = self.folded[layer, base : base + s.d_attn]
            edges = (source[own], row[own] - base, weight[own])
            parts.append(self._part(layer, part, edges, len(inputs), constants, constants, kept))
        parts.append(self._attn_out(layer, heads, turn))
        return parts

    def _mlp(self, layer: int) -> list[Part]:
        s, net = self.s, self.net
        qkv = 3 * s.d_attn
        inputs, hidden = self.open(layer, "mlp_in"), self.open(layer, p.HIDDEN)
        before = self.folded[layer, qkv : qkv + s.d_mlp]
        after = before
        if len(hidden):
            after = np.repeat(before[:, None], LANES, axis=1)
            activate(after, s.is_gelu)
            after = np.ascontiguousarray(after[:, 0])
        out = self.folded[layer, qkv + s.d_mlp :]
        edges = edges_out_of(net, layer, 2, inputs)
        to_out = edges_out_of(net, layer, 3, hidden)
        return [
            self._part(layer, p.HIDDEN, edges, len(inputs), before, after, s.mlp_neuron),
            self._part(layer, p.MLP_OUT, to_out, len(hidden), out, out, s.mlp_out),
        ]

    def _part(
        self,
        layer: int,
        part: int,
        edges: tuple[Array, Array, Array],
        n_sources: int,
        before: Array,
        after: Array,
        kept: int,
    ) -> Part:
        """`edges`: source, row and weight of each, sources ascending. `before` and `after` the
        activation, the values [width] of rows that no source reaches.
        """
        channels = self.open(layer, part)
        if not len(channels):
            return Part(edges_of=np.zeros(n_sources + 1, np.int64))
        made = self._wired(layer, part, edges, n_sources)
        made.bias, made.values = before[made.rows], after[channels]
        if kept < len(after):
            made.kept = kept
            still = after.copy()
            still[made.rows] = 0
            made.windows = windows_of(still[None], kept, len(made.rows)).ravel()
        return made

    def _wired(
        self, layer: int, part: int, edges: tuple[Array, Array, Array], n_sources: int
    ) -> Part:
        """A part's rows, edges and candidates."""
        source, row, weight = edges
        channels = self.open(layer, part)
        place = np.full(self.width[part], -1, np.int64)
        place[row] = 0
        rows = np.flatnonzero(place == 0)
        place[rows] = np.arange(len(rows))
        return Part(
            rows=rows,
            edges_of=np.searchsorted(source, np.arange(n_sources + 1)),
            edge_to=place[row],
            edge_weight=weight,
            channels=channels,
            slots=self.slot_of[self.first(layer, part) + channels],
            varying=place[channels],
            ranks=np.searchsorted(rows, channels),
        )

    def _attn_out(self, layer: int, heads: HeadLists, turn: int) -> Part:
        """The output projection: open values, shares of heads that vary, all else by position."""
        s, net = self.s, self.net
        values, channels = self.open(layer, p.V), self.open(layer, p.ATTN_OUT)
        varying_heads = self._heads(layer, heads, len(values))
        n_sources = len(values) + int((varying_heads >= 0).sum())
        if not len(channels):
            return Part(edges_of=np.zeros(n_sources + 1, np.int64))
        longest, d = self.prompts.longest, s.d_model
        still = np.repeat(net.attn_proj_bias[layer][:, None], longest, axis=1)
        shares = np.zeros((d, n_sources - len(values)), _F)
        fills = self.ablated[self.span(layer, p.V)].copy()
        fills[values] = 0
        fold_values(
            net.column_start[layer, 1], net.columns, net.targets, net.values, fills,
            s.d_attn // s.n_head, varying_heads, self._frozen_shares(layer), still, shares,
        )  # fmt: skip
        source, row, weight = edges_out_of(net, layer, 1, values)
        head, to = np.nonzero(shares.T)
        edges = (
            np.concatenate([source, len(values) + head]),
            np.concatenate([row, to]),
            np.concatenate([weight, shares[to, head]]),
        )
        made = self._wired(layer, p.ATTN_OUT, edges, n_sources)
        made.bias, made.values = np.zeros(len(made.rows), _F), np.zeros(len(channels), _F)
        made.by_position = np.concatenate([still[made.rows], still[channels]])
        if s.attn_out < d:
            made.kept = s.attn_out
            windows = np.zeros((longest, len(made.rows) + 1), np.int64)
            asked = np.arange(longest)
            if 2 * layer >= turn - 1:  # only last tokens ask
                asked = np.unique(self.prompts.lanes.last_positions)
            still[made.rows] = 0
            of_asked = np.ascontiguousarray(still[:, asked].T)
            windows[asked] = windows_of(of_asked, s.attn_out, len(made.rows))
            made.windows = windows.ravel()
        return made

    def _heads(self, layer: int, heads: HeadLists, n_values: int) -> Array:
        """List the heads whose output varies; for all heads int64 [n_head] the number of their
        share among those that vary, or -1.
        """
        s, d_head = self.s, self.s.d_attn // self.s.n_head
        queries, keys, values = (self.open(layer, part) for part in (p.Q, p.K, p.V))
        of_query, of_key = queries // d_head, keys // d_head
        numbers = np.full(s.n_head, -1, np.int64)
        if self.net.sinks.shape[1]:
            frozen = self.ablated[self.span(layer, p.V)].copy()
            frozen[values] = 0
            counts = (frozen.reshape(s.n_head, -1) != 0).any(1)
            # Cut edges of open values ask for the share as well, but not as a source.
            varying = np.unique(np.concatenate([of_query, of_key]))
            varying = varying[counts[varying]]
            numbers[varying] = np.arange(len(varying))
        q_fills = self.ablated[self.span(layer, p.Q)]
        k_fills = self.ablated[self.span(layer, p.K)]
        for head in np.unique(np.concatenate([of_query, of_key, values // d_head])).tolist():
            own = slice(head * d_head, (head + 1) * d_head)
            q_at = {int(c): i for i, c in enumerate(queries) if c // d_head == head}
            k_at = {int(c): i for i, c in enumerate(keys) if c // d_head == head}
            closed = [c for c in range(own.start, own.stop) if c not in q_at and c not in k_at]
            heads.base.append(float(q_fills[closed] @ k_fills[closed]))
            heads.sink.append(float(self.net.sinks[layer, head]) if self.net.sinks.size else 0.0)
            heads.source.append(-1 if numbers[head] < 0 else n_values + int(numbers[head]))
            first, last = np.searchsorted(values, [own.start, own.stop]).tolist()
            heads.first_value.append(first)
            heads.last_value.append(last)
            heads.lone += [(i, float(k_fills[c])) for c, i in q_at.items() if c not in k_at]
            heads.lone_start.append(len(heads.lone))
            heads.pair += [(i, q_at.get(c, -1), float(q_fills[c])) for c, i in k_at.items()]
            heads.pair_start.append(len(heads.pair))
        heads.start.append(len(heads.base))
        return numbers

    def _frozen_shares(self, layer: int) -> Array:
        """What each head gives to all tokens together, by position, if it is frozen
        [n_head, longest]: all, less the sink's share.
        """
        s = self.s
        longest = self.prompts.longest
        if not self.net.sinks.shape[1]:
            return np.ones((s.n_head, longest), _F)
        heads = (s.n_head, -1)
        q = self.ablated[self.span(layer, p.Q)].reshape(heads).astype(np.float64)
        k = self.ablated[self.span(layer, p.K)].reshape(heads)
        score = (q * k).sum(1) / np.sqrt(q.shape[1])
        seen = np.log(np.arange(1, longest + 1))
        logit = self.net.sinks[layer][:, None] - score[:, None] - seen
        return (1 / (1 + np.exp(logit))).astype(_F)

    # -------------------------------------------------------------------- the end

    def _ending(self, stream: p.Stream, constants: Array) -> p.Ending:
        s, net, prompts = self.s, self.net, self.prompts
        span = slice(s.n_layer * self.per_layer, s.n_layer * self.per_layer + s.d_model)
        own = np.flatnonzero(self.live[span])
        closed = self.ablated[span].copy()
        closed[own] = 0
        place = np.full(s.d_model, -1, np.int64)
        place[stream.channels] = np.arange(len(stream.channels))
        right, wrong = prompts.answers.T
        # Task answers are few tokens; prompts are many.
        pairs, which = np.unique(prompts.answers, axis=0, return_inverse=True)
        toward = (net.lm_head[pairs[:, 0]] - net.lm_head[pairs[:, 1]]) * net.gains[-1]
        bias = net.logits_bias[right] - net.logits_bias[wrong]
        if net.bigrams.size:
            last = prompts.last_tokens
            bias = bias + (net.bigrams[last, right] - net.bigrams[last, wrong])
        which = which.ravel()
        return p.Ending(
            slot=self.slot_of[span.start + own],
            varying=place[own],
            static=np.ascontiguousarray(
                (prompts.embeddings[: prompts.n_last, own] + constants[own]).T
            ),
            weight=np.ascontiguousarray(toward[:, own][which].T),
            rest=(toward @ closed)[which],
            square=float(np.sum(closed.astype(np.float64) ** 2)),
            bias=np.ascontiguousarray(bias, _F),
        )
