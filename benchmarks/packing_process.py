"""A process that loads one model and prints the bytes that this added to what is resident.

    python -m benchmarks.packing_process torch|ours|kernels DIRECTORY

`torch` is `torch.load` of the published file, `ours` what the daemon's worker does, `kernels` that
and the nonzeros laid out for the sparse kernels.
"""

import ctypes
import gc
import sys
from pathlib import Path

import psutil
import torch

from circuitd.engine.sparse.lanes.layout import lay_out
from circuitd.store.checkpoint import load_checkpoint
from circuitd.store.roots import artefact_roots, find_model


def main() -> None:
    """Load, let go of what loading needed, measure."""
    way, directory = sys.argv[1], Path(sys.argv[2])
    # So that code and buffers which any model needs are not counted.
    lay_out(load_checkpoint(find_model("csd-py-sparse", artefact_roots())).weights)
    before_nbytes = _resident_nbytes()
    if way == "torch":
        held: object = torch.load(directory / "final_model.pt", weights_only=True)
    else:
        weights = load_checkpoint(directory).weights
        held = (weights, lay_out(weights)) if way == "kernels" else weights
    print(_resident_nbytes() - before_nbytes)
    del held


def _resident_nbytes() -> int:
    gc.collect()
    if sys.platform == "linux":
        getattr(ctypes.CDLL(None), "malloc_trim", int)(0)
    return psutil.Process().memory_info().rss


if __name__ == "__main__":
    main()
