"""Model directories load in every published form; damaged and hostile ones are refused by name."""

import json
import os
import shutil
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
import torch
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import save_file

from circuit_protocol.errors import CheckpointError, InvalidRequest, NotFound, Unavailable
from circuitd.engine.gpt import forward
from circuitd.store import remote
from circuitd.store.checkpoint import load_checkpoint
from circuitd.store.model_files import model_files, model_hash
from circuitd.store.packed import pack
from circuitd.store.remote import FetchOptions, fetch_file, fetch_model
from circuitd.store.roots import artefact_roots, find_model, list_models
from small_models import GOLDEN, TINY, random_state, tokens_for

STATE = random_state(TINY)
QUICK = FetchOptions(offline=False, attempts=2, retry_wait_s=0.0, chunk_nbytes=1000)


def write_model(directory, form="pt", config=None, state=None):
    directory.mkdir(parents=True, exist_ok=True)
    mapping = TINY.to_json() if config is None else config
    (directory / "beeg_config.json").write_text(json.dumps(mapping))
    state = STATE if state is None else state
    if form == "pt":
        torch.save(state, directory / "final_model.pt")
    elif form == "safetensors":
        save_file(state, directory / "final_model.safetensors")
    else:
        sparse = {name: tensor.numpy() for name, tensor in state.items()}
        tensors, metadata = pack(sparse)
        save_numpy(tensors, directory / "final_model.safetensors", metadata)
    return directory


@pytest.mark.parametrize("form", ["pt", "safetensors", "packed"])
def test_every_form_gives_the_same_network(tmp_path, form):
    state = {name: torch.where(tensor.abs() < 0.5, 0.0, tensor) for name, tensor in STATE.items()}
    expected = load_checkpoint(write_model(tmp_path / "pt", "pt", state=state))
    loaded = load_checkpoint(write_model(tmp_path / form, form, state=state))
    tokens = tokens_for(TINY, 2, 6)
    assert torch.equal(
        forward(loaded.weights, tokens).logits, forward(expected.weights, tokens).logits
    )
    assert loaded.config == TINY
    assert loaded.notes == ()


def test_released_directory_loads():
    loaded = load_checkpoint(GOLDEN / "released_keys")
    assert loaded.config.d_pos_emb == 16
    assert loaded.notes == ()


def test_unknown_keys_become_notes(tmp_path):
    loaded = load_checkpoint(write_model(tmp_path, config={**TINY.to_json(), "sinks": True}))
    assert "'sinks'" in loaded.notes[0]


def test_the_hash_follows_the_content(tmp_path):
    first, second = write_model(tmp_path / "a"), write_model(tmp_path / "b")
    shutil.copy(first / "final_model.pt", second / "final_model.pt")
    before = load_checkpoint(first).model_hash
    assert before == load_checkpoint(second).model_hash
    signature = model_files(first).signature
    torch.save(random_state(TINY, seed=1), first / "final_model.pt")
    assert model_files(first).signature != signature
    assert load_checkpoint(first).model_hash != before


def test_the_hash_is_that_of_the_content_whatever_the_form(tmp_path):
    state = {name: torch.where(tensor.abs() < 0.5, -0.0, tensor) for name, tensor in STATE.items()}
    state["transformer.h.0.mlp.c_fc.weight"] = torch.zeros(12, 8)
    state["transformer.h.0.mlp.c_fc.weight"][3, 4] = -0.0
    forms = ("pt", "safetensors", "packed")
    hashes = {load_checkpoint(write_model(tmp_path / f, f, state=state)).model_hash for f in forms}
    assert len(hashes) == 1
    state["transformer.h.0.mlp.c_fc.weight"][3, 4] = 0.0
    assert load_checkpoint(write_model(tmp_path / "pt", state=state)).model_hash not in hashes


class Malicious:
    def __reduce__(self):
        return (os.mkdir, ("pickle-was-executed",))


def test_a_pickle_that_would_execute_is_refused_and_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    directory = write_model(tmp_path / "m", state={**STATE, "extra": Malicious()})
    with pytest.raises(CheckpointError, match="nothing of it was run") as raised:
        load_checkpoint(directory)
    assert "mkdir" in str(raised.value)
    assert not (tmp_path / "pickle-was-executed").exists()


@pytest.mark.parametrize("form", ["pt", "safetensors", "packed"])
@pytest.mark.parametrize("kept", [0, 1, 7, 500, 0.5, 0.95])
def test_half_written_weights_are_refused(tmp_path, form, kept):
    directory = write_model(tmp_path, form)
    path = model_files(directory).weights.path
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if kept < 1 else kept])
    with pytest.raises(CheckpointError) as raised:
        load_checkpoint(directory)
    assert raised.value.asked
    assert raised.value.hint


def test_what_is_missing_or_foreign_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="not a model directory"):
        load_checkpoint(tmp_path / "nothing")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CheckpointError, match=r"lacks beeg_config\.json"):
        load_checkpoint(empty)
    directory = write_model(tmp_path / "m")
    for text in ("{", "[]", '{"n_layer": 0}', "[" * 100_000):
        (directory / "beeg_config.json").write_text(text)
        with pytest.raises(CheckpointError):
            load_checkpoint(directory)
    fewer = {name: tensor for name, tensor in STATE.items() if "ln_f" not in name}
    with pytest.raises(CheckpointError, match=r"missing transformer\.ln_f\.weight"):
        load_checkpoint(write_model(tmp_path / "fewer", state=fewer))
    with pytest.raises(CheckpointError, match="'model' is dict"):
        load_checkpoint(write_model(tmp_path / "nested", state={"model": STATE}))
    torch.save([1, 2] * 20_000, directory / "final_model.pt")
    (directory / "beeg_config.json").write_text(json.dumps(TINY.to_json()))
    with pytest.raises(CheckpointError, match="no state dict"):
        load_checkpoint(directory)


def test_sizes_are_checked_before_anything_is_allocated(tmp_path):
    directory = write_model(tmp_path / "m", config={**TINY.to_json(), "d_mlp": 10**12})
    with pytest.raises(CheckpointError, match="too large"):
        load_checkpoint(directory)
    huge = {**STATE, "lm_head.weight": torch.zeros(1).expand(10**9, 10**6)}
    with pytest.raises(CheckpointError, match=r"lm_head\.weight is"):
        load_checkpoint(write_model(tmp_path / "expanded", state=huge))
    packed = write_model(tmp_path / "packed", "packed")
    claimed = {"transformer.wte.weight": [10**8, 10**8]}
    save_numpy(
        {"x": STATE["lm_head.weight"].numpy()},
        packed / "final_model.safetensors",
        {"format": "circuitd-packed-1", "shapes": json.dumps(claimed)},
    )
    with pytest.raises(CheckpointError, match=r"transformer\.wte\.weight is"):
        load_checkpoint(packed)
    deflated = tmp_path / "deflated"
    write_model(deflated)
    with zipfile.ZipFile(deflated / "final_model.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", os.urandom(20_000))
    with pytest.raises(CheckpointError, match="compressed"):
        load_checkpoint(deflated)


def test_names_are_found_in_roots_in_order(tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    write_model(first / "models" / "tiny")
    write_model(second / "models" / "tiny")
    write_model(second / "models" / "other")
    monkeypatch.setenv("CIRCUITD_DATA", str(second))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    roots = artefact_roots([first])
    assert roots[:2] == (first.resolve(), second.resolve())
    mine = roots[:2]
    assert [entry.name for entry in list_models(mine)] == ["tiny", "other"]
    assert find_model("tiny", mine) == first.resolve() / "models" / "tiny"
    assert find_model(str(second / "models" / "other"), ()) == second / "models" / "other"
    with pytest.raises(NotFound) as raised:
        find_model("othr", mine)
    assert raised.value.nearest == ("other",)
    with pytest.raises(NotFound):
        find_model("./nowhere", mine)


class RangeServer(ThreadingHTTPServer):
    """Serves one directory's files with ranges; drops the line after `budget` bytes."""

    daemon_threads = True

    def __init__(self, directory):
        super().__init__(("127.0.0.1", 0), RangeHandler)
        self.directory, self.budget, self.served = directory, None, []

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}/models/tiny"


class RangeHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        path = self.server.directory / self.path.rpartition("/")[2]
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        wanted = self.headers.get("Range")
        start, end = 0, len(data)
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last) + 1 if last else len(data), len(data))
        self.send_response(206 if wanted else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end - start))
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        self.end_headers()
        if not with_body:
            return
        part = data[start:end]
        if path.name.startswith("final") and self.server.budget is not None:
            part, self.server.budget = part[: self.server.budget], self.server.budget - len(part)
            self.server.budget = max(self.server.budget, 0)
        if path.name.startswith("final") and wanted:
            self.server.served.append((start, len(part)))
        self.wfile.write(part)
        if len(part) < end - start:
            self.close_connection = True

    def log_message(self, format, *args):
        pass


@pytest.fixture
def server(tmp_path):
    write_model(tmp_path / "origin", "safetensors")
    with RangeServer(tmp_path / "origin") as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_an_interrupted_download_goes_on_where_it_stopped(server, tmp_path):
    cache = tmp_path / "cache"
    server.budget = 2500
    with pytest.raises(Unavailable, match="what came so far is kept") as raised:
        fetch_model(server.address, cache, options=QUICK)
    assert "2000 bytes" in str(raised.value)  # the last whole chunk
    server.budget, server.served = None, []
    progress = []
    directory = fetch_model(
        server.address, cache, options=QUICK, progress=lambda *state: progress.append(state)
    )
    assert server.served[0][0] == 2000
    original = (server.directory / "final_model.safetensors").read_bytes()
    assert (directory / "final_model.safetensors").read_bytes() == original
    assert progress[-1] == (len(original), len(original))
    assert load_checkpoint(directory).config == TINY
    server.served = []
    assert fetch_model(server.address, cache, options=QUICK) == directory
    assert not server.served
    assert fetch_model(server.address, cache, options=FetchOptions(offline=True)) == directory


def test_a_partial_file_of_another_version_is_thrown_away(server, tmp_path):
    server.budget = 1500
    with pytest.raises(Unavailable):
        fetch_model(server.address, tmp_path / "cache", options=QUICK)
    server.budget = None
    bigger = {**random_state(TINY, seed=9), "padding": torch.zeros(10)}
    save_file(bigger, server.directory / "final_model.safetensors")
    directory = fetch_model(server.address, tmp_path / "cache", options=QUICK)
    original = (server.directory / "final_model.safetensors").read_bytes()
    assert (directory / "final_model.safetensors").read_bytes() == original


def test_checksums_are_recorded_and_verified(tmp_path):
    memory = fsspec.filesystem("memory")
    memory.pipe("/circuitd-test/file.bin", b"content")
    address = "memory://circuitd-test/file.bin"
    good = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
    with pytest.raises(CheckpointError, match="another checksum"):
        fetch_file(address, tmp_path, sha256="0" * 64, options=QUICK)
    path = fetch_file(address, tmp_path, sha256=good, options=QUICK)
    assert path.read_bytes() == b"content"
    path.write_bytes(b"changed behind our back")
    with pytest.raises(CheckpointError, match="another checksum"):
        fetch_file(address, tmp_path, sha256=good, options=QUICK)


def test_offline_and_wrong_addresses(server, tmp_path, monkeypatch):
    monkeypatch.setenv("CIRCUITD_OFFLINE", "1")
    with pytest.raises(NotFound, match="offline"):
        fetch_model(server.address, tmp_path)
    monkeypatch.setenv("CIRCUITD_OFFLINE", "0")
    with pytest.raises(NotFound, match="no such file"):
        fetch_file(f"{server.address}/nothing.bin", tmp_path, options=QUICK)
    for address in ("nonsense://a/b", "simplecache::memory://a/b", "memory://a/..", "/plain/path"):
        with pytest.raises(InvalidRequest):
            fetch_file(address, tmp_path, options=QUICK)
    with pytest.raises(NotFound, match="no such file"):
        fetch_model((tmp_path / "nowhere").as_uri(), tmp_path, options=QUICK)
    secret = "https://user:word@host/path?token=abc"
    assert "word" not in remote._shown(secret)
    assert "abc" not in remote._shown(secret)


def test_new_means_make_another_model(tmp_path: Path):
    """A mean ablation depends on them, so a stored answer must not outlive them."""
    (tmp_path / "beeg_config.json").write_text("{}")
    (tmp_path / "final_model.safetensors").write_bytes(b"weights")
    seen: set[tuple[str, str]] = set()
    for means in (None, b"means", b"other means"):
        if means is not None:
            (tmp_path / "means.safetensors").write_bytes(means)
        files = model_files(tmp_path)
        seen.add((files.signature, model_hash(files, "weights")))
    assert len({signature for signature, _ in seen}) == 3
    assert len({digest for _, digest in seen}) == 3
