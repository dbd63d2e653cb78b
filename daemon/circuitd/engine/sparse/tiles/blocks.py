"""The blocks of the network on tiles: the same function as `engine.gpt.blocks`, read beside it.

What happens to a tile is queued, and the queue is carried out tile by tile, on all threads, when
somebody must see every tile at once: attention, a dense product, or a site that the plan names. So
a tile goes through half a layer in one go while it is in the cache, and a plan that looks at a site
costs one stop there. Each tile has its own results, so they do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from circuitd.engine.attention import attend as attend_densely
from circuitd.engine.config import GPTConfig
from circuitd.engine.plan import Plan
from circuitd.engine.sparse.aligned import room
from circuitd.engine.sparse.attention import n_keys_of
from circuitd.engine.sparse.functions import activate
from circuitd.engine.sparse.rows import Rows
from circuitd.engine.sparse.select import keep_largest
from circuitd.engine.sparse.threads import Threads
from circuitd.engine.sparse.tiles import kernels
from circuitd.engine.sparse.tiles.attention import attend_heads
from circuitd.engine.sparse.tiles.kernels import Kept, Room, make_room
from circuitd.engine.sparse.tiles.matrices import LayerArrays, Matrix, NormArrays, SparseWeights
from circuitd.engine.sparse.tiles.tiles import Tiles
from circuitd.engine.sparse.vectors import LANES
from circuitd.engine.taps import Taps

Array = np.ndarray[Any, Any]


class SparseBlocks:
    """The blocks of one network, for passes that build no graph. Re-entrant: activations belong to
    a pass.
    """

    def __init__(self, weights: SparseWeights, n_threads: int | None = None) -> None:
        self.weights = weights
        self.threads = Threads(n_threads)
        self.alone = Threads(1)

    @staticmethod
    def why_not(plan: Plan) -> str | None:
        """What keeps a pass with this plan from running here; None when nothing does."""
        if plan.is_differentiable:
            return "a gradient is wanted"
        return "edges are cut" if plan.cuts else None

    def __call__(
        self,
        tokens: Tensor,
        lengths: tuple[int, ...] | None,
        taps: Taps,
        first: int = 0,
        resid: Tensor | None = None,
    ) -> Tensor:
        """The stream before the final norm [B, T, d] of `tokens` [B, T]; zero at padding.

        Starts at layer `first`, on `resid` [B or 1, T, d] where that is given.
        """
        tiles = Tiles.pack(tokens, lengths)
        running = _Pass(self, tiles, taps, first, resid)
        for i in range(first, self.weights.config.n_layer):
            taps.check_cancelled()
            running.layer(i)
        return running.stream()


#: Channels of all tiles and of one layer, below which waking a second thread takes longer than what
#: it would do.
_MIN_SHARED: Final = 16_000

_Step = Callable[[int, Room], None]
_Place = Callable[[int, Room], Array]


class _Pass:
    """One batch on its way through the blocks."""

    def __init__(
        self, blocks: SparseBlocks, tiles: Tiles, taps: Taps, first: int, resid: Tensor | None
    ) -> None:
        self._blocks, self._tiles, self._taps = blocks, tiles, taps
        self._config = config = blocks.weights.config
        self._queue: list[_Step] = []
        self._rooms: dict[int, Room] = {}  # by thread
        self._kept = kept_by(config)
        n_channels = 2 * (config.d_in + config.d_model) + 3 * config.d_attn + config.d_mlp
        is_shared = tiles.n_tiles * n_channels >= _MIN_SHARED
        self._threads = blocks.threads if is_shared else blocks.alone
        self._n_keys = n_keys_of(max(tiles.lengths), tiles.n_tiles * LANES)
        #: Values that all tiles keep until the next stop; the others live in a room.
        self._whole: dict[str, Array] = {}
        self._x = self._new(config.d_model)
        self._qkv = self._new(3 * config.d_attn)
        self._y = self._new(config.d_attn)
        self._mean = self._new(1)
        self._scale = self._new(1)
        if resid is None:
            self._queue.append(self._embed)
        else:
            tiles.fill(resid, self._x)

    def stream(self) -> Tensor:
        """The stream as it is now [B, T, d]."""
        self._settle()
        return self._tiles.spread(self._x)

    def layer(self, i: int) -> None:
        """Block `i`."""
        layer = self._blocks.weights.layers[i]
        self._look(f"{i}.resid_in", self._x)
        self._read_attention(i, layer)
        self._attend(i, layer)
        self._look(f"{i}.attn.y", self._y)
        kept = self._kept
        site = f"{i}.attn.resid_delta"
        self._write("y", layer.attn_proj, site, kept.attn_out, kept.resid_post_attn)

        self._look(f"{i}.resid_mid", self._x)
        self._read_mlp(i, layer)
        site = f"{i}.mlp.resid_delta"
        self._write("post_act", layer.mlp_proj, site, kept.mlp_out, kept.resid_post_mlp)

    # ------------------------------------------------------------------ what is queued for a tile

    def _embed(self, tile: int, _: Room) -> None:
        weights, tiles = self._blocks.weights, self._tiles
        kernels.embed(
            tiles.tokens[tile], tiles.positions[tile], weights.wte, weights.wpe, self._x[tile]
        )

    def _read_attention(self, i: int, layer: LayerArrays) -> None:
        """From the stream to q, k and v, each after its AbsTopK."""
        kept, tiles, matrix = self._kept, self._tiles, layer.c_attn
        norm_site, site = f"{i}.attn.norm_scale", f"{i}.attn.act_in"
        if (rows := self._plain(matrix, norm_site, site)) is not None:
            self._queue.append(
                lambda t, room: kernels.read_attention(
                    self._x[t], tiles.positions[t], layer.ln_1, layer.attn_pos, rows, matrix.bias,
                    kept, room, self._qkv[t],
                )
            )  # fmt: skip
            return
        self._keep_whole("attn_in", site, matrix)
        self._norm(layer.ln_1, norm_site, "attn_in", layer.attn_pos, kept.attn_in)
        self._look_at("attn_in", site)
        self._multiply("attn_in", matrix, "qkv")
        self._queue.append(
            lambda t, room: kernels.keep_largest_parts(self._qkv[t], kept, room.selection)
        )

    def _read_mlp(self, i: int, layer: LayerArrays) -> None:
        """From the stream to the MLP's neurons, after their AbsTopK."""
        kept, tiles, matrix = self._kept, self._tiles, layer.c_fc
        is_gelu = self._config.activation_type == "gelu"
        norm_site, in_site, site = (
            f"{i}.mlp.norm_scale", f"{i}.mlp.act_in", f"{i}.mlp.post_act"
        )  # fmt: skip
        self._keep_whole("post_act", site, matrix, layer.mlp_proj)
        place = self._place("post_act")
        if (rows := self._plain(matrix, norm_site, in_site)) is not None:
            self._queue.append(
                lambda t, room: kernels.read_mlp(
                    self._x[t], tiles.positions[t], layer.ln_2, layer.mlp_pos, rows, matrix.bias,
                    is_gelu, kept, room, place(t, room),
                )
            )  # fmt: skip
        else:
            self._keep_whole("mlp_in", in_site, matrix)
            self._norm(layer.ln_2, norm_site, "mlp_in", layer.mlp_pos, kept.mlp_in)
            self._look_at("mlp_in", in_site)
            self._multiply("mlp_in", matrix, "post_act")
            self._queue.append(lambda t, room: activate(place(t, room), is_gelu))
            self._queue.append(
                lambda t, room: keep_largest(place(t, room), kept.mlp_neuron, room.selection)
            )
        self._look_at("post_act", site)

    def _write(
        self, source: str, matrix: Matrix, site: str, n_kept: int, n_kept_after: int
    ) -> None:
        """What a half block writes: its projection, after AbsTopK, added to the stream."""
        is_relu = self._config.residual_activation_type == "relu"
        if (rows := self._plain(matrix, site)) is not None:
            read = self._place(source)
            self._queue.append(
                lambda t, room: kernels.write(
                    read(t, room), rows, matrix.bias, n_kept, is_relu, n_kept_after, room,
                    self._x[t],
                )
            )  # fmt: skip
            return
        self._keep_whole("delta", site, matrix)
        place = self._place("delta")
        self._multiply(source, matrix, "delta")
        self._queue.append(lambda t, room: keep_largest(place(t, room), n_kept, room.selection))
        self._look_at("delta", site)
        self._queue.append(
            lambda t, room: kernels.add(
                self._x[t], place(t, room), is_relu, n_kept_after, room.selection
            )
        )

    def _plain(self, matrix: Matrix, *sites: str) -> Rows | None:
        """The rows of `matrix` if nothing stops a tile between `sites` and its product: neither the
        plan, at one of them, nor a dense product.
        """
        return None if any(map(self._taps.wants, sites)) else matrix.rows

    def _norm(self, norm: NormArrays, site: str, out: str, table: Array, n_kept: int) -> None:
        """The normed stream with its positional channels, after AbsTopK, in `out`."""
        place = self._place(out)
        self._queue.append(
            lambda t, _: kernels.measure(self._x[t], norm, self._mean[t], self._scale[t])
        )
        self._look(site, self._scale)
        self._queue.append(
            lambda t, room: kernels.normalise(
                self._x[t], self._tiles.positions[t], norm, table, n_kept, self._mean[t],
                self._scale[t], room.selection, place(t, room),
            )
        )  # fmt: skip

    def _multiply(self, source: str, matrix: Matrix, target: str) -> None:
        """`target` = bias + matrix times `source`."""
        rows = matrix.rows
        if rows is None:
            self._settle()
            h = self._tiles.spread(self._whole_value(source))
            product = F.linear(h, matrix.weight.dense, torch.from_numpy(matrix.bias))
            self._tiles.fill(product, self._whole_value(target))
            return

        read, write = self._place(source), self._place(target)

        def multiply(t: int, room: Room) -> None:
            kernels.multiply(read(t, room), rows, matrix.bias, write(t, room))

        self._queue.append(multiply)

    # ----------------------------------------------------------------- what sees all tiles at once

    def _attend(self, i: int, layer: LayerArrays) -> None:
        """`y` from q, k and v."""
        d = self._config.d_attn
        for part, name in ((1, "k"), (0, "q"), (2, "v")):
            self._look(f"{i}.attn.{name}", self._qkv[:, part * d : (part + 1) * d])
        self._settle()
        if self._taps.wants(f"{i}.attn.pattern"):
            self._attend_visibly(i, layer)
            return
        self._queue.append(
            lambda t, room: attend_heads(
                self._qkv, t, self._tiles.starts[t], self._config.d_head, layer.sinks, room.scores,
                self._y[t],
            )
        )  # fmt: skip
        self._settle()  # q, k and v are written again by whoever goes on

    def _attend_visibly(self, i: int, layer: LayerArrays) -> None:
        """The same by the dense network's attention, since the plan looks at the pattern."""
        tiles, config = self._tiles, self._config
        shape = (tiles.n_rows, tiles.n_positions, 3, config.n_head, config.d_head)
        q, k, v = tiles.spread(self._qkv).view(shape).permute(2, 0, 3, 1, 4)
        sinks = torch.from_numpy(layer.sinks) if len(layer.sinks) else None
        site = f"{i}.attn.pattern"
        y = attend_densely(q, k, v, sinks, lambda pattern: self._taps(site, pattern))
        tiles.fill(y.transpose(1, 2).flatten(2), self._y)

    def _look(self, site: str, value: Array) -> None:
        """Let the plan see, and change, `value` [tiles, C, LANES] of every tile."""
        if not self._taps.wants(site):
            return
        self._settle()
        computed = self._tiles.spread(value)
        left = self._taps(site, computed)
        if left is not computed:
            self._tiles.fill(left, value)

    def _look_at(self, kind: str, site: str) -> None:
        if self._taps.wants(site):
            self._look(site, self._whole_value(kind))

    def _settle(self) -> None:
        """Carry out the queue, tile by tile."""
        steps, self._queue = self._queue, []
        if not steps:
            return

        def run(tile: int, thread: int) -> None:
            if thread not in self._rooms:
                self._rooms[thread] = make_room(self._config, self._n_keys)
            for step in steps:
                step(tile, self._rooms[thread])

        self._threads.share(run, self._tiles.n_tiles)

    # ------------------------------------------------------------------------ where values live

    def _new(self, width: int) -> Array:
        return room(self._tiles.n_tiles, width, LANES)

    def _keep_whole(self, kind: str, site: str, *matrices: Matrix) -> None:
        """Decide where `kind` lives until it is written next: among all tiles if somebody stops to
        look at it or to multiply it densely, else in the room of whoever computes the tile.
        """
        needed = self._taps.wants(site) or any(matrix.rows is None for matrix in matrices)
        if needed and kind not in self._whole:
            self._whole[kind] = self._new(self._width(kind))
        elif not needed:
            self._whole.pop(kind, None)

    def _width(self, kind: str) -> int:
        config = self._config
        widths = {"post_act": config.d_mlp, "delta": config.d_model}
        return widths.get(kind, config.d_in)

    def _place(self, kind: str) -> _Place:
        """Where the steps queued from now on find `kind`."""
        whole = {"qkv": self._qkv, "y": self._y}.get(kind, self._whole.get(kind))
        if whole is not None:
            return lambda t, _: whole[t]
        return lambda _, room: getattr(room, kind)

    def _whole_value(self, kind: str) -> Array:
        if kind == "qkv":
            return self._qkv
        return self._y if kind == "y" else self._whole[kind]


def kept_by(config: GPTConfig) -> Kept:
    """How many entries AbsTopK keeps at each place of the network."""
    of = config.n_kept
    return Kept(
        of("attn_in"), of("attn_q"), of("attn_k"), of("attn_v"), of("attn_out"),
        of("resid_post_attn"), of("mlp_in"), of("mlp_neuron"), of("mlp_out"), of("resid_post_mlp"),
    )  # fmt: skip
