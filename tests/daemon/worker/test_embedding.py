"""`models.embedding` against the tensors in the file."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file

from circuit_protocol.inspection import EmbeddingColumn, EmbeddingColumnShown
from worker_desk import CONFIG, Desk


@pytest.mark.parametrize(
    ("of", "name"),
    [("embedding", "transformer.wte.weight"), ("unembedding", "lm_head.weight")],
)
def test_a_column_is_that_of_the_file(desk: Desk, model_directory, of, name) -> None:
    column = load_file(model_directory / "final_model.safetensors")[name][:, 7]
    answered = desk.ask(EmbeddingColumn(id="1", model="tiny", channel=7, of=of, n=3, n_bins=10))
    shown = answered.reply
    assert isinstance(shown, EmbeddingColumnShown)
    order = np.argsort(-column, kind="stable")
    assert [t.id for t in shown.top] == order[:3].tolist()
    assert [t.weight for t in shown.top] == pytest.approx(column[order[:3]].tolist())
    assert [t.id for t in shown.bottom] == np.argsort(column, kind="stable")[:3].tolist()
    tokenizer = desk.model.tokenizer
    assert shown.top[0].data == tokenizer.token_bytes(shown.top[0].id)
    assert (shown.n_tokens, shown.n_nonzero) == (2048, np.count_nonzero(column))
    assert shown.counts == tuple(np.histogram(column, 10)[0].tolist())
    assert len(shown.edges) == 11
    assert shown.mean == pytest.approx(column.mean(dtype=np.float64))


def test_positions_come_with_the_embedding_and_not_with_the_unembedding(
    desk: Desk, model_directory
) -> None:
    wpe = load_file(model_directory / "final_model.safetensors")["transformer.wpe.weight"]
    answered = desk.ask(EmbeddingColumn(id="1", model="tiny", channel=7))
    assert isinstance(answered.reply, EmbeddingColumnShown)
    assert desk.array(answered.reply.positions, answered) == pytest.approx(wpe[:, 7])
    answered = desk.ask(EmbeddingColumn(id="1", model="tiny", channel=7, of="unembedding"))
    assert isinstance(answered.reply, EmbeddingColumnShown)
    assert answered.reply.positions is None


def test_a_channel_that_is_not_there_is_refused_with_how_many_there_are(desk: Desk) -> None:
    error = desk.fail(EmbeddingColumn(id="1", model="tiny", channel=CONFIG.d_model)).error
    assert error.code == "invalid_request"
    assert error.found == "32 channels"
