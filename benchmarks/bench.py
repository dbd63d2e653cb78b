"""What every benchmark is given: the networks, daemons that are started when first asked for."""

import sys
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.daemon import Daemon, Transport, home, private_daemon
from benchmarks.networks import Network, dense_network, shipped_network


class Bench:
    """The resources of one run; leaving its `with` block ends all daemons and removes all files."""

    def __init__(self, *, quick: bool = False, full: bool = False) -> None:
        """`quick` only sees that all works; `full` also takes the cases that need minutes each."""
        self.quick, self.full = quick, full
        self._stack = ExitStack()
        self._daemons: dict[Transport, Daemon] = {}

    def rounds(self, full: int) -> int:
        """`full`, or in a quick run just enough to see that everything works."""
        return max(2, full // 10) if self.quick else full

    def burst(self, full: int) -> int:
        """Calls a subject makes in its turn: `full`, or few in a quick run."""
        return min(3, full) if self.quick else full

    def say(self, text: str) -> None:
        """Tell how far the run is, on standard error."""
        print(text, file=sys.stderr, flush=True)

    @cached_property
    def scratch(self) -> Path:
        """A directory for files of this run."""
        return self._stack.enter_context(home()).directory

    @cached_property
    def data(self) -> Path:
        """An artefact tree with the dense network, which daemons search beside their own."""
        return self.dense.directory.parents[1]

    @cached_property
    def shipped(self) -> Network:
        """The sparse model that comes with circuitd."""
        return shipped_network()

    @cached_property
    def dense(self) -> Network:
        """A dense GPT-2 of the same size."""
        return dense_network(self.shipped.config, self.scratch / "data")

    @property
    def daemon(self) -> Daemon:
        """The daemon over its local socket."""
        return self.daemon_over("ipc")

    def daemon_over(self, transport: Transport) -> Daemon:
        """A daemon that is reached over `transport`; each has one of its own."""
        if transport not in self._daemons:
            self.say(f"  starting a daemon ({transport})")
            daemon = self._stack.enter_context(private_daemon(self.data, transport))
            self._daemons[transport] = daemon
        return self._daemons[transport]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()
