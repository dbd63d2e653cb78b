"""Under which conditions figures were taken: machine, software, and what else was running."""

import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

#: Load average per core above which figures say more about the neighbours than about circuitd.
QUIET_LOAD = 0.3


def n_cores() -> int:
    """Cores this process may use; the daemon's worker, the engine and the peers all use so many."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_per_core() -> float:
    """Load average of the last minute, divided by the cores."""
    return os.getloadavg()[0] / n_cores()


def conditions() -> dict[str, Any]:
    """What a reader needs in order to compare figures with their own."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "commit": _commit(),
        "cpu": _cpu(),
        "cores": n_cores(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "pyzmq", "msgspec", "numpy")},
        "load_per_core": round(load_per_core(), 2),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str | None:
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or None
