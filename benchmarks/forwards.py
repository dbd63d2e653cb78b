"""Forward passes at csp_yolo2's shape: chosen execution against dense, over tokens, batch, density.

Both run in this process on the same weights and give all logits. AbsTopK is not continuous: where
two magnitudes differ by less than rounding, each execution keeps another one, and the token's
logits differ visibly. So the error is given as the median over positions, and the share of
positions beyond 1e-4 stands beside it.
"""

import torch

from benchmarks.bench import Bench
from benchmarks.paper_scale import CSP_YOLO2, paper_weights
from benchmarks.report import Goal, Table
from benchmarks.timing import local, take_turns
from circuitd.engine.gpt import Run, forward
from circuitd.engine.sparse.choice import apply, choose
from circuitd.engine.weights import Weights

#: Rows and tokens of each.
BATCHES = ((1, 16), (1, 64), (1, 256), (8, 256))
#: Share of nonzeros in the block matrices.
DENSITIES = (1e-4, 1 / 1024, 1e-2, 1e-1)
_COLUMNS = ("dense_ms", "chosen_ms", "faster_times", "median_error", "beyond_1e-4", "execution")


def measure(bench: Bench) -> list[Table]:
    """One table over batches at the published density, one over densities."""
    over_batches = Table(
        "forward",
        f"Forward at {CSP_YOLO2.name}'s shape, all logits, {CSP_YOLO2.density:.2%} nonzero",
        _COLUMNS,
        goals=tuple(Goal(_row(*shape), "faster_times", 12, "at least") for shape in BATCHES[-2:]),
        notes=[
            "Errors are relative to a position's logits; AbsTopK decides near-ties by rounding."
        ],
    )
    over_densities = Table(
        "forward_density",
        f"The same over density, {_row(1, 64)}: the choice is made for each matrix",
        _COLUMNS,
    )
    for density in DENSITIES:
        bench.say(f"  density {density:.4f}")
        weights = paper_weights(CSP_YOLO2, density=density)
        choice = choose(weights)
        chosen = apply(weights, choice)
        _add(over_densities, f"{density:.4f}", weights, chosen, (1, 64), bench.rounds(3))
        over_densities.rows[f"{density:.4f}"]["execution"] = choice.summary
        if density == CSP_YOLO2.density:
            for shape in BATCHES:
                rounds = bench.rounds(4) if shape[0] == 1 else 2
                _add(over_batches, _row(*shape), weights, chosen, shape, rounds)
        del weights, chosen
    return [over_batches, over_densities]


def _row(n_rows: int, n_tokens: int) -> str:
    return f"{n_rows} x {n_tokens} tokens"


def _add(
    table: Table, row: str, dense: Weights, chosen: Weights, shape: tuple[int, int], rounds: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(dense.config.vocab_size, shape, generator=generator)
    last: dict[str, Run] = {}

    def run(way: str, weights: Weights) -> None:
        last[way] = forward(weights, tokens)

    timings = take_turns(
        {
            "dense": local(lambda: run("dense", dense)),
            "chosen": local(lambda: run("chosen", chosen)),
        },
        rounds=rounds,
        burst=1,
        lead_in=int(shape[0] == 1),  # a pass of a batch takes many seconds
    )
    expected, found = last["dense"].logits, last["chosen"].logits
    assert expected is not None  # the plan asks for all logits
    assert found is not None
    errors = (found - expected).norm(dim=-1) / expected.norm(dim=-1)
    table.add(
        row,
        dense_ms=timings["dense"].call_ms,
        chosen_ms=timings["chosen"].call_ms,
        faster_times=timings["dense"].times(timings["chosen"]),
        median_error=f"{float(errors.median()):.1e}",
        **{"beyond_1e-4": f"{float((errors > 1e-4).float().mean()):.1%}"},
        execution=last["chosen"].execution,
    )
