"""`models.embedding` of a model whose positions are concatenated and not added."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from circuit_protocol.inspection import EmbeddingColumn, EmbeddingColumnShown
from circuitd import work
from circuitd.store.circuits import CircuitStore
from circuitd.store.segments import SegmentDir
from circuitd.tasks.registry import TaskRegistry
from circuitd.worker.handlers import all_handlers
from circuitd.worker.host import Host
from circuitd.worker.models import Models
from worker_desk import CONFIG, DATA, Desk, make_desk, write_model


@pytest.fixture
def concatenating(tokenizers, tmp_path: Path) -> Desk:
    (tmp_path / "tinypython").symlink_to(DATA / "tinypython")
    directory = write_model(tmp_path / "models" / "cat", replace(CONFIG, d_pos_emb=8))
    held = tmp_path / "segments"
    held.mkdir(mode=0o700)
    host = Host(
        Models(torch.device("cpu"), tokenizers),
        SegmentDir(held),
        TaskRegistry(),
        CircuitStore(tmp_path / "circuits"),
    )
    key = work.ModelKey(path=str(directory), signature="1")
    host.models.load(key)
    return make_desk(host, key, all_handlers())


def test_a_positional_channel_has_positions_and_no_tokens(concatenating: Desk) -> None:
    channel = CONFIG.d_model + 3
    answered = concatenating.ask(EmbeddingColumn(id="1", model="cat", channel=channel))
    shown = answered.reply
    assert isinstance(shown, EmbeddingColumnShown)
    assert (shown.n_tokens, shown.top, shown.counts, shown.mean) == (0, (), (), None)
    read = concatenating.model.weights.layers[0].attn_pos
    assert read is not None
    assert np.array_equal(concatenating.array(shown.positions, answered), read[:, 3].numpy())


def test_a_channel_of_the_stream_has_tokens_and_no_positions(concatenating: Desk) -> None:
    shown = concatenating.ask(EmbeddingColumn(id="1", model="cat", channel=3)).reply
    assert isinstance(shown, EmbeddingColumnShown)
    assert shown.n_tokens == 2048
    assert shown.positions is None


def test_what_is_beyond_the_positions_or_not_read_by_logits_is_refused(concatenating: Desk) -> None:
    beyond = EmbeddingColumn(id="1", model="cat", channel=CONFIG.d_model + 8)
    assert "8 positional ones" in (concatenating.fail(beyond).error.found or "")
    unread = EmbeddingColumn(id="1", model="cat", channel=CONFIG.d_model, of="unembedding")
    assert concatenating.fail(unread).error.code == "invalid_request"
