"""A client that asks the front at even intervals, in a process of its own, without torch.

    python -m benchmarks.even_client ENDPOINT SECONDS     seconds of each answer, as one JSON line

Requests are due at fixed times. One that is sent late because the one before it took long counts
from when it was due, so that a busy front is not asked less, and looks no better for it.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from circuit_client import connect

INTERVAL_S = 0.005


def ask_evenly(endpoint: str, seconds: float) -> Callable[[], np.ndarray]:
    """Start asking; the returned function waits for the end and gives the latencies [n] in s."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.even_client", endpoint, str(seconds)],
        stdout=subprocess.PIPE,
    )

    def answered() -> np.ndarray:
        out, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(f"a client of the front ended with {process.returncode}")
        return np.array(json.loads(out))

    return answered


def main(endpoint: str, seconds: str) -> None:
    """Ask, and print the latencies."""
    latencies_s: list[float] = []
    with connect(endpoint, start=False) as client:
        client.hello()
        due_s = time.perf_counter()
        end_s = due_s + float(seconds)
        while due_s < end_s:
            time.sleep(max(0.0, due_s - time.perf_counter()))
            client.hello()
            latencies_s.append(time.perf_counter() - due_s)
            due_s += INTERVAL_S
    print(json.dumps(latencies_s))


if __name__ == "__main__":
    main(*sys.argv[1:])
