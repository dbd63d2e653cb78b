"""Room for one block of prompts of a compiled circuit, so that its kernels allocate nothing."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from circuitd.engine.sparse.aligned import room
from circuitd.engine.sparse.attention import n_keys_of
from circuitd.engine.sparse.compiled import plan as p
from circuitd.engine.sparse.vectors import LANES

Array = np.ndarray[Any, Any]

#: Lanes that a part is worked out for at once: its rows then stay in the second-level cache.
N_AT_ONCE: Final = 128
#: Candidates whose rivals are counted together.
N_COUNTED: Final = 4


class Work(NamedTuple):
    """Room for one block of prompts. Rows have room for whole vectors: kernels also compute, on
    whatever is there, the lanes that fill up the last one.
    """

    stream: Array  # [n, lanes]
    stream_last: Array  # [n, prompts]
    inputs: Array  # [most of a half block, lanes]
    inputs_last: Array
    queries: Array  # [most candidates, lanes]
    keys: Array
    values: Array
    outputs: Array
    seen: Array  # [most sources of ATTN_OUT, lanes]
    shares: Array  # [most heads of a layer, lanes]
    rows: Array  # [most rows of a part, N_AT_ONCE]
    rivals: Array  # [n + d_pos, lanes]
    floats: Array  # [3, lanes]
    counts: Array  # int32 [N_COUNTED, lanes]
    open: Array  # int64 [most candidates]
    starts: Array  # int32 [lanes]: where each lane's prompt begins
    scores: Array  # [keys of a tile, LANES]
    pairs: Array  # [2, most open keys of a head + 1, lanes]
    prefix: Array  # [most open values of a head, lanes]


def make_work(plan: p.Plan, n_lanes: int, n_rows: int) -> Work:
    """Room for a block of `n_rows` prompts with `n_lanes` tokens in all."""
    shape, rows, heads = plan.shape, plan.rows, plan.heads
    n_lanes, n_rows = (-(-n // LANES) * LANES for n in (n_lanes, n_rows))
    lanes = n_lanes if shape.turn else n_rows

    def most(start: Array, of: slice = slice(None)) -> int:
        return max(np.diff(start)[of].tolist(), default=0)

    def candidates(part: int) -> int:
        return most(rows.candidate_start, slice(part, None, p.N_PARTS))

    n, n_in = len(plan.stream.channels), most(plan.inputs.start)
    n_pairs = most(heads.pair_start)
    n_values = max((heads.last_value - heads.first_value).tolist(), default=0)
    n_outputs = max(candidates(p.ATTN_OUT), candidates(p.MLP_OUT))
    attends = bool(n_pairs) and shape.turn > 0
    n_sources = candidates(p.V) + most(heads.start)
    return Work(
        stream=room(n, lanes), stream_last=room(n, n_rows), inputs=room(n_in, lanes),
        inputs_last=room(n_in, n_rows), queries=room(candidates(p.Q), lanes),
        keys=room(candidates(p.K), lanes),
        values=room(max(candidates(p.V), candidates(p.HIDDEN)), lanes),
        outputs=room(n_outputs, lanes), seen=room(n_sources, lanes),
        shares=room(most(heads.start), lanes), rows=room(most(rows.row_start), N_AT_ONCE),
        rivals=room(n + shape.d_pos, lanes),
        floats=room(3, lanes), counts=room(N_COUNTED, lanes, dtype=np.int32),
        open=np.zeros(most(rows.candidate_start), np.int64),
        starts=room(lanes, dtype=np.int32),
        scores=room(n_keys_of(shape.longest, lanes) if attends else 0, LANES),
        pairs=room(2, n_pairs + 1, lanes), prefix=room(n_values, lanes),
    )  # fmt: skip
