"""A measured execution is kept per model, and believed only where it was measured."""

import dataclasses

import torch

from circuitd.engine.sparse.choice import Choice
from circuitd.store import executions
from circuitd.store.executions import Executions

MEASURED = Choice(((True, False, True, True),), "", 0.5, 0.25)


def test_what_was_kept_is_found_again_by_the_next_process(tmp_path):
    Executions(tmp_path / "new").keep("abc", MEASURED)
    assert Executions(tmp_path / "new").find("abc") == MEASURED
    assert Executions(tmp_path / "new").find("other") is None
    dense = dataclasses.replace(MEASURED, is_sparse=(), reason="it is small")
    Executions(tmp_path / "new").keep("abc", dense)
    assert Executions(tmp_path / "new").find("abc") == dense
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["abc.json"]


def test_other_threads_processors_and_kernels_are_measured_again(tmp_path, monkeypatch):
    kept = Executions(tmp_path)
    kept.keep("abc", MEASURED)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 96)
        assert kept.find("abc") is None
    for what in ("_processor", "digest_of_execution"):
        with monkeypatch.context() as patch:
            patch.setattr(executions, what, lambda: "another")
            assert kept.find("abc") is None
    assert kept.find("abc") == MEASURED


def test_a_damaged_file_is_measured_again_and_an_unwritable_place_is_none(tmp_path, caplog):
    kept = Executions(tmp_path)
    (tmp_path / "abc.json").write_text('{"machine": 3}')
    assert kept.find("abc") is None
    assert "is measured again" in caplog.text
    (tmp_path / "file").write_text("")
    Executions(tmp_path / "file").keep("abc", MEASURED)
    assert "is not remembered" in caplog.text
    Executions(None).keep("abc", MEASURED)
    assert Executions(None).find("abc") is None
