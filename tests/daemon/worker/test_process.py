"""A real worker process behind a real socket, with a front that is a few lines of this file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest
import zmq

from circuit_protocol import codec
from circuit_protocol.replies import Failed, ForwardResult, GenerateStep
from circuit_protocol.requests import Forward, Generate, Prompts, Request
from circuit_protocol.tensors import Tensor, unpack
from circuitd import work
from circuitd.store.segments import SegmentDir

#: Generous: starting torch on a machine under load takes long.
PATIENCE_MS = 120_000


class Front:
    """A ROUTER, one worker, and no more policy than a test needs."""

    def __init__(self, directory: Path, *options: str, keep_parent: bool = True) -> None:
        self.segments = SegmentDir(directory)
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.linger = 0
        address = f"ipc://{directory}/workers.sock"
        self.socket.bind(address)
        command = [sys.executable, "-m", "circuitd.worker", "--connect", address]
        command += ["--segments", str(directory), "--worker-id", "7"]
        command += ["--device", "cpu", "--threads", "1", *options]
        if not keep_parent:  # a shell in between, to lose it
            script = f"{' '.join(command)} & read line"
            command = ["sh", "-c", script]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE)
        self.decoder = msgspec.msgpack.Decoder(work.FromWorker)
        self.peer, self.n_heartbeats = b"", 0

    def receive(self, kind: type | None = None) -> tuple[work.FromWorker, list[bytes]]:
        """The next message (of a kind), heartbeats counted and dropped, news of memory as well."""
        while True:
            assert self.socket.poll(PATIENCE_MS), "the worker is silent"
            self.peer, header, *frames = self.socket.recv_multipart()
            message = self.decoder.decode(header)
            if isinstance(message, work.Heartbeat) and kind is not work.Heartbeat:
                self.n_heartbeats += 1
                continue
            if isinstance(message, work.Resized) and kind is not work.Resized:
                continue
            if kind is None or isinstance(message, kind):
                return message, frames

    def send(self, message: work.ToWorker, frames: tuple[bytes, ...] = ()) -> None:
        header = msgspec.msgpack.encode(message)
        self.socket.send_multipart([self.peer, header, *frames])

    def ask(self, number: int, request: Request, key: work.ModelKey, *frames: bytes) -> None:
        item = work.Item(work=number, header=codec.encode(request), n_frames=len(frames), model=key)
        self.send(work.Run(items=(item,)), frames)

    def close(self) -> None:
        self.socket.close()
        self.context.term()
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    one = Front(tmp_path)
    yield one
    one.close()


def load(front: Front, model_directory: Path) -> work.ModelKey:
    key = work.ModelKey(path=str(model_directory), signature="1")
    front.send(work.Load(model=key))
    loaded, _ = front.receive(work.Loaded)
    assert isinstance(loaded, work.Loaded)
    assert loaded.model == key
    return key


def test_a_result_beyond_what_may_be_held_is_refused_before_it_is_written(
    tmp_path, model_directory
):
    front = Front(tmp_path, "--segments-nbytes", "1000")
    try:
        front.receive(work.Ready)
        key = load(front, model_directory)
        prompts = Prompts(texts=("some words",))
        front.ask(1, Forward(id="f", model="m", prompts=prompts, deliver="handle"), key)
        answer, _ = front.receive(work.Answer)
        assert isinstance(answer, work.Answer)
        reply = codec.decode_reply(answer.header)
        assert isinstance(reply, Failed)
        assert reply.error.code == "storage_full"
        assert front.segments.total_nbytes() == 0
    finally:
        front.close()


def test_a_worker_lives_from_ready_to_exit(front, model_directory):
    ready, _ = front.receive()
    assert isinstance(ready, work.Ready)
    assert (ready.pid, ready.device) == (front.process.pid, "cpu")
    assert front.peer == work.worker_address(7, os.getpid())
    assert ready.memory_nbytes > 1 << 28
    key = load(front, model_directory)

    # A tensor comes in as a frame, results leave as a frame and as a segment.
    tokens = np.arange(240, dtype=np.int32).reshape(6, 40)
    tensor = Tensor(dtype="I32", shape=(6, 40), frame=1)
    request = Forward(id="f", model="m", prompts=Prompts(tokens=tensor), deliver="inline")
    front.ask(1, request, key, tokens.tobytes())
    answer, frames = front.receive()
    assert isinstance(answer, work.Answer)
    reply = codec.decode_reply(answer.header)
    assert isinstance(reply, ForwardResult)
    assert isinstance(reply.logits, Tensor)
    sent = unpack(reply.logits, frames)
    front.ask(2, msgspec.structs.replace(request, deliver="handle"), key, tokens.tobytes())
    answer, _ = front.receive()
    assert isinstance(answer, work.Answer)
    (segment,) = answer.segments
    np.testing.assert_array_equal(front.segments.read(segment), sent)

    # A cancel is heard while a long answer streams, and ends it with exactly one final reply.
    endless = Generate(
        id="g", model="m", prompts=Prompts(texts=("x",)), max_new_tokens=40, temperature=1.0
    )
    front.ask(3, endless, key)
    first, _ = front.receive()
    assert isinstance(first, work.Answer)
    assert isinstance(codec.decode_reply(first.header), GenerateStep)
    front.send(work.CancelWork(work=3, reason="deadline_exceeded"))
    while not (answer := front.receive()[0]).final:
        pass
    last = codec.decode_reply(answer.header)
    assert isinstance(last, Failed) or last.stopped_by == "length"

    beat, _ = front.receive(work.Heartbeat)
    assert isinstance(beat, work.Heartbeat)
    assert beat.rss_nbytes > 1 << 24

    front.send(work.Unload(model=key))
    unloaded, _ = front.receive()
    assert isinstance(unloaded, work.Unloaded)
    front.send(work.Exit())
    assert front.process.wait(PATIENCE_MS / 1000) == 0


def test_a_worker_ends_when_its_front_closes_the_socket(front):
    front.receive(work.Ready)
    front.socket.close()
    assert front.process.wait(PATIENCE_MS / 1000) == 3


def test_a_worker_whose_parent_is_killed_is_no_orphan(tmp_path):
    front = Front(tmp_path, keep_parent=False)
    try:
        ready, _ = front.receive(work.Ready)
        assert isinstance(ready, work.Ready)
        worker = psutil.Process(ready.pid)
        os.kill(front.process.pid, signal.SIGKILL)
        worker.wait(PATIENCE_MS / 1000)
        assert not worker.is_running()
    finally:
        front.close()


def test_a_worker_whose_front_died_as_it_started_never_speaks_to_the_next_front(tmp_path):
    died = subprocess.Popen([sys.executable, "-c", ""])
    died.wait()
    front = Front(tmp_path, "--front-pid", str(died.pid))
    try:
        assert front.process.wait(PATIENCE_MS / 1000) == 3
        assert not front.socket.poll(0)
    finally:
        front.close()
