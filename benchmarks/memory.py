"""Memory of a process: resident (rss), and its proportional share of shared pages (pss)."""

import re
from dataclasses import dataclass
from pathlib import Path

import psutil

MIB = 1 << 20


@dataclass(frozen=True)
class Memory:
    """Bytes. `pss_nbytes` divides a shared page among those who share it, so it may be summed."""

    rss_nbytes: int
    pss_nbytes: int

    @property
    def rss_mib(self) -> float:
        """Resident set, MiB."""
        return self.rss_nbytes / MIB

    @property
    def pss_mib(self) -> float:
        """Proportional set, MiB."""
        return self.pss_nbytes / MIB


def memory_of(pid: int) -> Memory:
    """Measured now. Where the system does not tell pss, rss stands for it."""
    rss_nbytes = psutil.Process(pid).memory_info().rss
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return Memory(rss_nbytes, rss_nbytes)
    found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
    return Memory(rss_nbytes, int(found[1]) * 1024 if found else rss_nbytes)
