"""What is kept on disk of a kernel is believed only where it is of the same sources."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from circuitd.engine.sparse import jit

SOURCE = """
from circuitd.engine.sparse.jit import jit


@jit
def total(x):
    t = x[0]
    for i in range(1, x.shape[0]):
        t += x[i]
    return t
"""


def kernel(directory):
    """A kernel of a module in `directory`, as the next process would import it."""
    path = directory / "some_kernels.py"
    if not path.exists():
        path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("some_kernels", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.total


def test_a_kernel_is_loaded_again_until_any_source_changes(tmp_path, monkeypatch):
    x = np.ones(3)
    assert kernel(tmp_path)(x) == 3
    again = kernel(tmp_path)
    assert again(x) == 3
    assert again.stats.cache_hits
    monkeypatch.setattr(jit, "digest_of_kernels", lambda: "another")
    changed = kernel(tmp_path)
    assert changed(x) == 3
    assert not changed.stats.cache_hits


def test_two_processes_never_write_the_same_file(tmp_path, monkeypatch):
    for process, argument in ((1, np.ones(3)), (2, np.ones(3, np.float32))):
        monkeypatch.setattr(jit.os, "getpid", lambda process=process: process)
        kernel(tmp_path)(argument)
    written = {path.name.split("-")[-2] for path in tmp_path.rglob("*.nbc")}
    assert written == {"1", "2"}


def test_what_was_kept_of_other_sources_is_removed(tmp_path, monkeypatch):
    x = np.ones(3)
    with monkeypatch.context() as patch:
        patch.setattr(jit, "digest_of_kernels", lambda: "others of old")
        kernel(tmp_path)(x)
    (old,) = tmp_path.rglob("*.nbc")
    kernel(tmp_path)(x)
    jit.forget_others(tmp_path)
    (new,) = tmp_path.rglob("*.nbc")
    assert new.name != old.name
    again = kernel(tmp_path)
    again(x)
    assert again.stats.cache_hits
    monkeypatch.setattr(jit, "digest_of_kernels", lambda: "newer ones")
    jit.forget_others(tmp_path)
    assert not [*tmp_path.rglob("*.nb?")]


def test_a_numba_that_keeps_its_cache_in_another_way_is_an_error(tmp_path, monkeypatch):
    with pytest.raises(RuntimeError, match="keeps its cache in another way: no _unheard_of"):
        jit._replace(object(), _unheard_of="")
