"""How the tests are run side by side: `make test` has a worker process for each of two cores.

Files stay whole, since much of what they share takes longer to make than to use. Those that wait
for editors, browsers and daemons begin first: others compute meanwhile, and none is left over.
"""

import gc
import os

import pytest

#: Files and folders that take long, the longest first.
_FIRST = ("editors/test_vscode", "whole", "editors")


def pytest_configure(config: pytest.Config) -> None:
    """Where processes share the cores, none has threads that spin for each other's turn; and what a
    test starts in a terminal believes the terminal, not the size that a worker process is told.
    """
    if getattr(config.option, "numprocesses", None):
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if hasattr(config, "workerinput"):
        for name in ("COLUMNS", "LINES"):
            os.environ.pop(name, None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long first; all else in the order it was found in."""

    def rank(item: pytest.Item) -> int:
        return next((i for i, name in enumerate(_FIRST) if f"tests/{name}" in item.nodeid), 99)

    items.sort(key=rank)


def pytest_collection_finish() -> None:
    """What has been imported by now stays: no later collection of garbage need look at it.

    Loading a model collects, twice, and hundreds of tests load one.
    """
    gc.collect()
    gc.freeze()
