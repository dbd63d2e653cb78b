"""Packed models: file, time to load and resident memory of csp_yolo2's shape, against torch.load.

Both read from the page cache. The packed file is checked by its checksum while it is loaded; what
is published has none. Nearly all of the packed file are the embeddings, which are dense here: the
worst case, as no density is published.
"""

import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.bench import Bench
from benchmarks.memory import MIB
from benchmarks.paper_scale import CSP_YOLO2, write_paper_model
from benchmarks.report import Goal, Table
from benchmarks.timing import local, take_turns
from circuitd.engine.sparse.lanes.layout import lay_out
from circuitd.store.checkpoint import load_checkpoint
from circuitd.store.convert import convert

PUBLISHED = "torch.load of the published file"
OURS = "published file, loaded by the worker"
PACKED = "packed, loaded by the worker"
KERNELS = "packed, and laid out for the kernels"


def measure(bench: Bench) -> list[Table]:
    """One row per way of loading."""
    published = write_paper_model(CSP_YOLO2, bench.scratch / "paper")
    packed = bench.scratch / "packed" / CSP_YOLO2.name
    for _ in convert(published, packed, "packed"):
        pass
    timings = take_turns(
        {
            PUBLISHED: local(lambda: torch.load(published / "final_model.pt", weights_only=True)),
            OURS: local(lambda: load_checkpoint(published)),
            PACKED: local(lambda: load_checkpoint(packed)),
            KERNELS: local(lambda: lay_out(load_checkpoint(packed).weights)),
        },
        rounds=bench.rounds(3),
        burst=1,
    )
    resident = {
        PUBLISHED: _resident_nbytes("torch", published),
        OURS: _resident_nbytes("ours", published),
        PACKED: _resident_nbytes("ours", packed),
        KERNELS: _resident_nbytes("kernels", packed),
    }
    whole_nbytes = (published / "final_model.pt").stat().st_size
    packed_nbytes = (packed / "final_model.safetensors").stat().st_size
    table = Table(
        "packing",
        f"Loading {CSP_YOLO2.name}'s shape ({CSP_YOLO2.density:.2%} of the blocks nonzero)",
        (
            *("file_mib", "file_smaller_times", "load_ms", "faster_times"),
            *("resident_mib", "resident_smaller_times"),
        ),
        goals=(
            Goal(PACKED, "file_smaller_times", 30, "at least"),
            Goal(PACKED, "faster_times", 20, "at least"),
            Goal(KERNELS, "resident_smaller_times", 20, "at least"),
        ),
        notes=[
            "From the page cache. Loaded by the worker: every byte checked, the content hashed, "
            "matrices held as their nonzeros. Embeddings, unembedding and bigram table are dense.",
        ],
    )
    for way, timing in timings.items():
        nbytes = packed_nbytes if way in (PACKED, KERNELS) else whole_nbytes
        table.add(
            way,
            file_mib=nbytes / MIB,
            file_smaller_times=whole_nbytes / nbytes,
            load_ms=timing.call_ms,
            faster_times=timings[PUBLISHED].times(timing),
            resident_mib=resident[way] / MIB,
            resident_smaller_times=resident[PUBLISHED] / resident[way],
        )
    return [table]


def _resident_nbytes(way: str, directory: Path) -> int:
    command = [sys.executable, "-m", "benchmarks.packing_process", way, str(directory)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
