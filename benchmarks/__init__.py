"""Benchmarks of circuitd: `python -m benchmarks`. docs/benchmarks.md says what each row means."""

import os

from circuitd.server.supervisor import WAIT_SHORTLY

# As the daemon's workers have it, so that engine and peers wait for their threads in the same way.
# OpenMP reads it when torch is loaded, which the modules of this package do.
for name, value in WAIT_SHORTLY.items():
    os.environ.setdefault(name, value)
