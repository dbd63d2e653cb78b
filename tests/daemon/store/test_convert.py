"""Packing and unpacking keep every bit and the model's hash, and leave nothing half-written."""

import contextlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from circuit_protocol.errors import CheckpointError, InvalidRequest, StorageFull
from circuitd.engine.gpt import forward
from circuitd.store import convert as module
from circuitd.store.checkpoint import load_checkpoint
from circuitd.store.convert import convert, destination_of
from small_models import TINY, configs, random_state, tokens_for

WEIGHTS = "final_model.safetensors"
SPARSE = {n: torch.where(t.abs() < 0.6, 0.0, t) for n, t in random_state(TINY).items()}


def model(directory, config=TINY, state=SPARSE):
    directory.mkdir(parents=True)
    (directory / "beeg_config.json").write_text(json.dumps(config.to_json()))
    torch.save(state, directory / "final_model.pt")
    return directory


def finish(steps):
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return end.value


def bits(directory):
    with safe_open(directory / WEIGHTS, framework="pt") as file:
        return {n: file.get_tensor(n).flatten().view(torch.uint8).tolist() for n in file.keys()}  # noqa: SIM118


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(config=configs(), kept=st.floats(0, 1), seed=st.integers(0, 99))
def test_every_bit_and_the_hash_come_back(tmp_path_factory, config, kept, seed):
    root = tmp_path_factory.mktemp("models")
    generator = torch.Generator().manual_seed(seed)
    state = random_state(config, seed)
    for name, tensor in state.items():
        zero = torch.tensor(0.0 if seed % 2 else -0.0)
        state[name] = torch.where(
            torch.rand(tensor.shape, generator=generator) < kept, tensor, zero
        )
    if config.tied_unembed:
        state["lm_head.weight"] = state["transformer.wte.weight"]
    source = model(root / "source", config, state)
    packed = finish(convert(source, root / "packed", "packed"))
    plain = finish(convert(root / "packed", root / "plain", "plain"))
    whole = load_checkpoint(source)
    assert packed.model_hash == plain.model_hash == whole.model_hash
    assert load_checkpoint(root / "packed").model_hash == whole.model_hash
    assert load_checkpoint(root / "plain").model_hash == whole.model_hash
    assert bits(root / "plain") == {
        name: tensor.flatten().view(torch.uint8).tolist() for name, tensor in state.items()
    }
    tokens = tokens_for(config, 2, 5)
    ours = forward(load_checkpoint(root / "packed").weights, tokens).logits
    assert torch.equal(ours, forward(whole.weights, tokens).logits)


def test_a_packed_model_is_held_as_its_nonzeros_until_it_runs_dense(tmp_path):
    config = TINY
    state = {n: torch.where(t.abs() < 1.0, 0.0, t) for n, t in random_state(config).items()}
    source = model(tmp_path / "source", config, state)
    finish(convert(source, tmp_path / "packed", "packed"))
    weights = load_checkpoint(tmp_path / "packed").weights
    matrices = [matrix for layer in weights.layers for matrix in layer.matrices]
    assert not any(matrix.is_dense for matrix in matrices)
    before_nbytes = weights.nbytes
    forward(weights, tokens_for(config, 1, 4))
    assert weights.nbytes == before_nbytes + sum(matrix.dense_nbytes for matrix in matrices)


def test_what_lies_beside_the_weights_goes_along(tmp_path):
    source = model(tmp_path / "source")
    save_file({"x": torch.ones(3)}, source / "means.safetensors")
    (source / "README.md").write_text("a card")
    (source / "optimiser.pt").write_text("not of the model")
    finish(convert(source, tmp_path / "packed", "packed"))
    names = {path.name for path in (tmp_path / "packed").iterdir()}
    assert names == {"beeg_config.json", WEIGHTS, "means.safetensors", "README.md"}
    assert load_checkpoint(source).model_hash == load_checkpoint(tmp_path / "packed").model_hash


def test_what_is_there_is_not_overwritten_unless_asked_and_a_model(tmp_path):
    source, there = model(tmp_path / "source"), model(tmp_path / "there")
    with pytest.raises(InvalidRequest, match="already"):
        finish(convert(source, there, "packed"))
    finish(convert(source, there, "packed", overwrite=True))
    assert {path.name for path in there.iterdir()} == {"beeg_config.json", WEIGHTS}
    with pytest.raises(InvalidRequest, match="in its place"):
        finish(convert(source, source, "packed", overwrite=True))
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("keep me")
    with pytest.raises(InvalidRequest, match="no model"):
        finish(convert(source, tmp_path / "letters", "packed", overwrite=True))
    assert (tmp_path / "letters" / "dear.txt").read_text() == "keep me"
    with pytest.raises(InvalidRequest, match="a file"):
        finish(convert(source, there / WEIGHTS, "packed", overwrite=True))


@pytest.mark.parametrize("n_steps", [0, 1, 8, 40, 70])
def test_a_conversion_that_is_given_up_leaves_nothing(tmp_path, n_steps):
    steps = convert(model(tmp_path / "source"), tmp_path / "packed", "packed")
    for _ in range(n_steps):
        next(steps)
    steps.close()
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_conversion_without_room_or_that_wrote_something_else_leaves_nothing(
    tmp_path, monkeypatch
):
    source = model(tmp_path / "source")
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage)
        with pytest.raises(StorageFull, match="no room"):
            finish(convert(source, tmp_path / "packed", "packed"))
    with monkeypatch.context() as patch:
        patch.setattr(module, "content_hash", lambda state: "something else")
        with pytest.raises(CheckpointError, match="not what was read"):
            finish(convert(source, tmp_path / "packed", "packed"))
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_model_that_cannot_be_replaced_stays(tmp_path, monkeypatch):
    source, there = model(tmp_path / "source"), model(tmp_path / "there")
    before = load_checkpoint(there).model_hash
    rename = Path.rename

    def refused(self, target):
        if Path(target) == there and (self / WEIGHTS).exists():  # the new one, in its new form
            raise OSError("the disk has become read-only")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(OSError, match="read-only"):
        finish(convert(source, there, "packed", overwrite=True))
    assert load_checkpoint(there).model_hash == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["source", "there"]


def test_damage_anywhere_in_a_packed_file_is_refused(tmp_path):
    finish(convert(model(tmp_path / "source"), tmp_path / "packed", "packed"))
    path = tmp_path / "packed" / WEIGHTS
    whole = path.read_bytes()
    expected = load_checkpoint(tmp_path / "packed").model_hash
    n_header = 8 + int.from_bytes(whole[:8], "little")

    def flip(at):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x04]) + whole[at + 1 :])

    for at in range(n_header, len(whole), 61):
        flip(at)
        with pytest.raises(CheckpointError, match="checksum"):
            load_checkpoint(tmp_path / "packed")
    for at in range(0, n_header, 7):
        flip(at)
        with contextlib.suppress(CheckpointError):  # else it was padding, or says nothing
            assert load_checkpoint(tmp_path / "packed").model_hash == expected
    for kept in (0, 7, n_header - 1, n_header, len(whole) - 1):
        path.write_bytes(whole[:kept])
        with pytest.raises(CheckpointError):
            load_checkpoint(tmp_path / "packed")


def test_a_name_is_a_model_of_the_users_tree(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert destination_of("mine") == tmp_path / "circuitd" / "models" / "mine"
    assert destination_of(str(tmp_path / "x")) == tmp_path / "x"


def test_a_damaged_packed_file_is_refused_by_its_name_and_checksum(tmp_path):
    finish(convert(model(tmp_path / "source"), tmp_path / "packed", "packed"))
    path = tmp_path / "packed" / WEIGHTS
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # within the tensors: they end the file
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="another checksum") as caught:
        load_checkpoint(tmp_path / "packed")
    assert caught.value.asked == str(path)
