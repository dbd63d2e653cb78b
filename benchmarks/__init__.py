"""Benchmarks of circuitd: `python -m benchmarks`. docs/benchmarks.md says what each row means."""

import os

# As the daemon's workers have it, so that engine and peers wait for their threads in the same way.
# OpenMP reads it when torch is loaded, which the modules of this package do.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
