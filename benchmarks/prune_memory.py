"""Memory of pruning beside the model's own: in a worker at the shipped size, and at paper scale.

In the worker it is the most that was resident during a prune, less what was before it: the kernels'
arrays, the prompts, the state of the gates, the compiled code. At paper scale a process of its own
builds the network with random weights and takes one step; what the layout of the weights adds and
what the step adds are told apart.

    python -m benchmarks.prune_memory csp_yolo2     the paper-scale part, as one JSON line
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.bench import Bench
from benchmarks.daemon import private_daemon
from benchmarks.memory import MIB
from benchmarks.paper_scale import PAPER_MODELS, paper_weights
from benchmarks.report import Goal, Table
from circuit_protocol.circuits import PruneSettings
from circuitd.circuits.gated import Gated
from circuitd.circuits.nodes import node_space
from circuitd.circuits.prompts import ScoredPrompts
from circuitd.engine.steps import finish

TASK = "bracket_counting"
PAPER_MODEL = "csp_yolo2"
#: Prompts of about the shipped tasks' length, as many as a default step draws.
N_ROWS, N_POSITIONS = 64, 64
GOAL_MIB = 1024.0


def measure(bench: Bench) -> list[Table]:
    """One row per model."""
    table = Table(
        "prune_memory",
        "Resident memory of a prune beside the model's own",
        ("weights_mib", "layout_mib", "beside_mib", "step_s"),
        goals=(Goal(bench.shipped.name, "beside_mib", GOAL_MIB),),
        notes=[
            f"{bench.shipped.name}: a prune of {TASK} with cutting and deltas, in a fresh worker; "
            "the layout is part of what stands beside.",
            f"Paper scale: {N_ROWS} rows of {N_POSITIONS} tokens, random weights of the published "
            "density; beside: the layout and one step.",
        ],
    )
    settings = PruneSettings(n_steps=20) if bench.quick else PruneSettings()
    with private_daemon(bench.data) as daemon:
        name, pid = bench.shipped.name, daemon.worker_pid
        daemon.client.models.load(name)
        before_nbytes = _status_nbytes(pid, "VmRSS")
        _forget_peak(pid)
        daemon.client.prune(name, tasks=TASK, ks=150, settings=settings, save=False)
        beside = (peak_nbytes(pid) - before_nbytes) / MIB
    table.add(name, weights_mib=bench.shipped.weights.nbytes / MIB, beside_mib=beside)
    if not bench.quick:
        bench.say(f"  a step of {PAPER_MODEL}")
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.prune_memory", PAPER_MODEL],
            check=True,
            stdout=subprocess.PIPE,
        )
        table.add(f"{PAPER_MODEL} (random weights)", **json.loads(done.stdout))
    return [table]


def at_paper_scale(name: str) -> dict[str, float]:
    """Cells of a row: one step of a network of the published size, measured in this process."""
    weights = paper_weights(PAPER_MODELS[name])
    n_nodes = node_space(weights.config).n_nodes
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(weights.config.vocab_size, (N_ROWS, N_POSITIONS), generator=draw)
    answers = torch.tensor([[0, 1]]).expand(N_ROWS, 2).contiguous()
    prompts = ScoredPrompts(tokens, torch.full((N_ROWS,), N_POSITIONS), answers)
    before_nbytes = _status_nbytes("self", "VmRSS")
    _forget_peak("self")
    gated = Gated(weights, torch.zeros(n_nodes))
    laid_out_nbytes = _status_nbytes("self", "VmRSS")
    gates = torch.ones(n_nodes)
    finish(gated.gradient(prompts, gates))  # loads the kernels
    start_s = time.perf_counter()
    finish(gated.gradient(prompts, gates))
    step_s = time.perf_counter() - start_s
    if gated.execution != "sparse":
        raise RuntimeError(f"{name} does not run on the sparse kernels: {gated.execution}")
    return {
        "weights_mib": weights.nbytes / MIB,
        "layout_mib": (laid_out_nbytes - before_nbytes) / MIB,
        "beside_mib": (peak_nbytes("self") - before_nbytes) / MIB,
        "step_s": step_s,
    }


def _forget_peak(pid: int | str) -> None:
    """Let the kernel count a process's peak from now on (Linux)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_nbytes(pid: int | str) -> int:
    """Most that a process ever had resident, or since its peak was forgotten (Linux)."""
    return _status_nbytes(pid, "VmHWM")


def _status_nbytes(pid: int | str, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return 1024 * int(value.split()[0])
    raise RuntimeError(f"this system does not tell {key}: the memory benchmark needs Linux")


if __name__ == "__main__":
    print(json.dumps(at_paper_scale(sys.argv[1])))
