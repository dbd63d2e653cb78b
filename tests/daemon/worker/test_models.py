"""Resident models: loading, describing, text, and memory that returns."""

from __future__ import annotations

import gc
import json
import weakref

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from circuit_protocol.replies import ModelConverted, ModelDescription, TaskShown, Texts, Tokens
from circuit_protocol.requests import (
    DescribeModel,
    Detokenize,
    Forward,
    PackModel,
    ShowTask,
    Tokenize,
    UnpackModel,
)
from circuitd import work
from circuitd.engine.sites import node_sites, sites
from circuitd.engine.weights import expected_shapes
from circuitd.store.model_files import MEANS_FILE
from worker_desk import CONFIG, write_model


def sent(desk, kind):
    (message,) = [m for m, _ in desk.sent if isinstance(m, kind)]
    return message


def test_loading_answers_with_hash_and_measured_size(desk, model_directory):
    key = work.ModelKey(path=str(model_directory), signature="another state")
    desk.inbox.put(work.Load(model=key))
    desk.finish()
    loaded = sent(desk, work.Loaded)
    assert loaded.model == key
    assert (loaded.block_size, loaded.vocab_size) == (48, 2048)
    assert loaded.model_hash == desk.model.model_hash
    n_numbers = sum(np.prod(shape) for shape in expected_shapes(CONFIG).values())
    assert loaded.nbytes >= 4 * n_numbers
    assert loaded.notes == ()


def test_weights_made_dense_after_loading_are_told_to_the_front_once(desk, prompts, tmp_path):
    desk.ask(PackModel(id="1", model="tiny", to=str(tmp_path / "packed")))
    desk.key = work.ModelKey(path=str(tmp_path / "packed"), signature="packed")
    desk.inbox.put(work.Load(model=desk.key))
    desk.finish()
    before_nbytes, grown_nbytes = desk.model.nbytes, 0
    for layer in desk.model.weights.layers:
        for matrix in layer.matrices:
            grown_nbytes += 0 if matrix.is_dense else matrix.dense_nbytes
            assert matrix.dense.shape == matrix.shape
    assert grown_nbytes > 0
    desk.ask(Forward(id="2", model="packed", prompts=prompts))
    assert sent(desk, work.Resized) == work.Resized(
        model=desk.key, nbytes=before_nbytes + grown_nbytes
    )
    desk.ask(Forward(id="3", model="packed", prompts=prompts))
    assert not [m for m, _ in desk.sent if isinstance(m, work.Resized)]


def test_unloading_lets_every_weight_go(desk):
    alive = weakref.ref(desk.model.weights)
    desk.inbox.put(work.Unload(model=desk.key))
    desk.finish()
    gc.collect()
    assert alive() is None
    assert sent(desk, work.Unloaded).freed_nbytes >= 0
    desk.sent.clear()
    desk.inbox.put(work.Unload(model=desk.key))
    desk.finish()
    assert sent(desk, work.Unloaded).freed_nbytes == 0


def test_memory_of_a_large_model_returns_to_the_system(tmp_path, desk):
    """64 MiB come and go, measured; half of it is what noise may hide."""
    config = type(CONFIG)(**{**CONFIG.__dict__, "d_mlp": 1 << 17, "afrac": None})
    directory = write_model(tmp_path / "models" / "large", config)
    key = work.ModelKey(path=str(directory), signature="1")
    nbytes = desk.host.models.load(key).nbytes
    assert nbytes >= 64 << 20
    assert desk.host.models.unload(key) > nbytes // 2


def test_a_checkpoint_that_cannot_be_loaded_is_answered_and_leaves_nothing(desk, tmp_path):
    directory = write_model(tmp_path / "models" / "damaged")
    weights = directory / "final_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    key = work.ModelKey(path=str(directory), signature="1")
    desk.inbox.put(work.Load(model=key))
    desk.finish()
    failed = sent(desk, work.LoadFailed)
    assert failed.error.code == "checkpoint_error"
    assert desk.host.models.find(key) is None


@pytest.mark.parametrize("fault", ["missing", "shape", "nan", "garbage"])
def test_means_that_do_not_fit_the_model_are_refused(desk, tmp_path, fault):
    directory = write_model(tmp_path / "models" / "odd")
    path = directory / MEANS_FILE
    means = load_file(path)
    if fault == "missing":
        del means["0.attn.q"]
    elif fault == "shape":
        means["0.attn.q"] = torch.zeros(3)
    elif fault == "nan":
        means["0.attn.q"][0] = torch.nan
    path.unlink()
    if fault == "garbage":
        path.write_bytes(b"no safetensors")
    else:
        save_file(means, path)
    desk.inbox.put(work.Load(model=work.ModelKey(path=str(directory), signature="1")))
    desk.finish()
    assert sent(desk, work.LoadFailed).error.code == "checkpoint_error"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_halves_the_weights(desk, model_directory, dtype):
    key = work.ModelKey(path=str(model_directory), signature="1", dtype=dtype)
    model = desk.host.models.load(key)
    assert model.weights.dtype == getattr(torch, dtype)
    whole = desk.model.weights  # sparse ones are held as their nonzeros
    dense_nbytes = sum(m.dense_nbytes for layer in whole.layers for m in layer.matrices)
    assert model.weights.nbytes * 2 == whole.other_nbytes + dense_nbytes
    assert model.means["0.attn.q"].dtype == model.weights.dtype


@pytest.mark.parametrize("is_resident", [True, False])
def test_a_description_counts_what_is_on_disk(desk, model_directory, is_resident):
    if not is_resident:
        desk.host.models.unload(desk.key)
    answered = desk.ask(DescribeModel(id="1", model="tiny"))
    reply = answered.reply
    assert isinstance(reply, ModelDescription)
    state = load_file(model_directory / "final_model.safetensors")
    assert {m.name: m.nonzeros for m in reply.matrices} == {
        name: int(torch.count_nonzero(tensor)) for name, tensor in state.items()
    }
    assert reply.n_parameters == sum(tensor.numel() for tensor in state.values())
    in_blocks = [t for n, t in state.items() if ".h." in n and t.ndim == 2]
    density = sum(int(torch.count_nonzero(t)) for t in in_blocks) / sum(
        t.numel() for t in in_blocks
    )
    assert reply.block_density == pytest.approx(density)
    assert json.loads(reply.config_json) == CONFIG.to_json()
    assert [s.site for s in reply.sites] == [s.name for s in sites(CONFIG)]
    assert reply.n_nodes == 2 * (7 * 32 + 64) + 32 == sum(s.width for s in node_sites(CONFIG))
    assert (desk.host.models.find(desk.key) is not None) == is_resident


def test_tokens_have_bytes_and_byte_offsets(desk):
    text = "é = 'naïve'\n"
    answered = desk.ask(Tokenize(id="1", model="m", texts=(text, "")))
    assert isinstance(answered.reply, Tokens)
    row, empty = answered.reply.rows
    assert empty == ()
    assert b"".join(t.data for t in row) == text.encode()
    for token in row:
        assert text.encode()[token.offset :].startswith(token.data)
    back = desk.ask(Detokenize(id="1", model="m", tokens=(tuple(t.id for t in row), ())))
    assert isinstance(back.reply, Texts)
    assert [piece.text for piece in back.reply.rows] == [text, ""]


def test_a_split_code_point_is_exact_in_its_bytes(desk):
    row = desk.ask(Tokenize(id="1", model="m", texts=("ế",))).reply.rows[0]
    assert len(row) > 1
    reply = desk.ask(Detokenize(id="1", model="m", tokens=((row[0].id,),))).reply
    assert reply.rows[0].data == row[0].data
    assert reply.rows[0].text == "\ufffd"


def test_the_special_token_is_text_unless_allowed(desk):
    texts = ("<|endoftext|>",)
    plain = desk.ask(Tokenize(id="1", model="m", texts=texts)).reply.rows[0]
    special = desk.ask(Tokenize(id="1", model="m", texts=texts, allow_special=True)).reply.rows[0]
    assert len(plain) > 1
    assert [t.id for t in special] == [2047]


def test_ids_outside_the_vocabulary_have_no_text(desk):
    request = Detokenize(id="1", model="m", tokens=((1, 2), (3, 2048)))
    error = desk.fail(request).error
    assert (error.code, error.asked) == ("bad_tokens", "2048 in row 1")


def test_a_task_is_shown_as_text(desk):
    answered = desk.ask(ShowTask(id="1", task="single_double_quote", n=3, split="held_out", seed=2))
    assert isinstance(answered.reply, TaskShown)
    assert len(answered.reply.pairs) == 3
    assert answered.reply.task.source == "built-in"
    for pair in answered.reply.pairs:
        assert pair.prompts[0] != pair.prompts[1]
        assert pair.targets[0] != pair.targets[1]


def test_work_for_a_model_that_is_not_loaded_is_a_defect_of_the_front(desk):
    desk.host.models.unload(desk.key)
    error = desk.fail(Tokenize(id="1", model="m", texts=("x",))).error
    assert (error.code, error.blame) == ("internal_error", "daemon")


def test_a_model_is_packed_and_unpacked_beside_others(desk, tmp_path):
    there = tmp_path / "packed"
    packed = desk.ask(PackModel(id="1", model="tiny", to=str(there))).reply
    assert isinstance(packed, ModelConverted)
    assert (packed.path, packed.model_hash) == (str(there), desk.model.model_hash)
    assert packed.nbytes_after == (there / "final_model.safetensors").stat().st_size
    again = desk.fail(UnpackModel(id="2", model="tiny", to=str(there)))
    assert again.error.code == "invalid_request"
    plain = desk.ask(UnpackModel(id="3", model="tiny", to=str(there), overwrite=True)).reply
    assert plain.model_hash == packed.model_hash
