"""The worker processes: started, listened to, given up, and started again with back-off.

A worker counts as lost when its process ends or when it has been silent for too long; its process
is then killed for good, so that a lost worker never comes back to life. Each start of each front
has a new address: nothing a lost worker still sends is taken for its successor's.
"""

import asyncio
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import msgspec
import zmq

from circuit_protocol.tensors import Frame
from circuitd.logs import relay
from circuitd.server.router_port import Message, RouterPort
from circuitd.work import Exit, FromWorker, Heartbeat, Ready, ToWorker, worker_address

log = logging.getLogger(__name__)

#: Heartbeats come each second; a machine under heavy load may delay several.
SILENCE_S = 15.0
#: How long a worker may take from its start until it says it is ready (importing torch, CUDA).
START_S = 120.0
#: A worker that lived this long did not die of how it was started.
HEALTHY_S = 30.0
#: Threads that spin long for each other's turn starve on a machine that others use, too: a pass of
#: 12 ms took 500. Some thousand turns (microseconds) are worth it: idle, a pass of 8.2 ms took 7.3.
WAIT_SHORTLY = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1500"}
_BACKOFF_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class WorkerProcess(Protocol):
    """A started worker."""

    @property
    def pid(self) -> int:
        """Its process id."""
        ...

    def kill(self) -> None:
        """End it at once; no error if it has ended."""
        ...

    async def wait(self) -> int:
        """Wait for its end: the return code, negative for a signal."""
        ...


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a worker."""

    worker: int
    device: str
    endpoint: str
    segments_dir: str
    #: How many bytes of tensors may lie there.
    segments_nbytes: int
    task_directories: tuple[Path, ...] = ()
    circuit_roots: tuple[Path, ...] = ()
    executions_dir: Path | None = None
    log_level: str = "info"


#: Starts a worker process.
Launcher = Callable[[Launch], Awaitable[WorkerProcess]]


@dataclass(slots=True, eq=False)
class Worker:
    """One start of a worker."""

    number: int
    device: str
    peer: bytes
    process: WorkerProcess
    started_at: float
    restarts: int
    state: Literal["starting", "ready", "lost"] = "starting"
    heard_at: float = 0.0
    rss_nbytes: int = 0
    device_used_nbytes: int = 0


@dataclass(slots=True)
class _Seat:
    """A device that shall have a worker."""

    device: str
    restarts: int = -1
    early_deaths: int = 0
    worker: Worker | None = None
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Supervisor:
    """Keeps one worker per device alive, and carries messages to and from them."""

    def __init__(
        self,
        context: zmq.Context,
        *,
        endpoint: str,
        segments_dir: str,
        segments_nbytes: int,
        task_directories: tuple[Path, ...] = (),
        circuit_roots: tuple[Path, ...] = (),
        executions_dir: Path | None = None,
        log_level: str = "info",
        launcher: Launcher,
        on_ready: Callable[[Worker, Ready], None],
        on_lost: Callable[[Worker, str], None],
        on_message: Callable[[Worker, FromWorker, tuple[Frame, ...]], None],
        on_hopeless: Callable[[str, str], None],
        silence_s: float = SILENCE_S,
        start_s: float = START_S,
    ) -> None:
        """`on_hopeless(device, reason)`: a worker died several times in a row as it started."""
        self._endpoint = endpoint
        self._segments_dir = segments_dir
        self._segments_nbytes = segments_nbytes
        self._task_directories = task_directories
        self._circuit_roots = circuit_roots
        self._executions_dir = executions_dir
        self._log_level = log_level
        self._launcher = launcher
        self._on_ready = on_ready
        self._on_lost = on_lost
        self._on_message = on_message
        self._on_hopeless = on_hopeless
        self._silence_s = silence_s
        self._start_s = start_s
        self._port = RouterPort(
            context,
            on_message=self._received,
            on_gone=lambda peer, reason: None,  # its process tells
            outbox_nbytes=1 << 40,  # the scheduler bounds what is in flight
        )
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)
        self._seats: list[_Seat] = []
        self._by_peer: dict[bytes, Worker] = {}
        self._numbers = 0
        self._is_ending = False

    @property
    def workers(self) -> tuple[Worker, ...]:
        """The current worker of each device, in whatever state."""
        return tuple(seat.worker for seat in self._seats if seat.worker is not None)

    def start(self, devices: Sequence[str]) -> None:
        """Begin: one worker per device, started in the background."""
        self._port.bind(self._endpoint)
        for device in devices:
            seat = _Seat(device)
            self._seats.append(seat)
            seat.task = asyncio.create_task(self._keep_alive(seat), name=f"worker on {device}")

    def send(self, worker: Worker, message: ToWorker, frames: Sequence[Frame] = ()) -> None:
        """Send one message; nothing happens if the worker is lost."""
        if worker.state != "lost":
            self._port.send(worker.peer, [self._encoder.encode(message), *frames])

    def give_up(self, worker: Worker, reason: str) -> None:
        """Kill a worker that misbehaves; it is then lost and replaced."""
        log.error("worker %d on %s is given up: %s", worker.number, worker.device, reason)
        worker.process.kill()

    async def end(self, grace_s: float) -> None:
        """Ask all workers to exit, kill those that have not after `grace_s`, and close the port."""
        self._is_ending = True
        for seat in self._seats:
            if seat.worker is not None and seat.worker.state == "ready":
                self.send(seat.worker, Exit())
            elif seat.worker is not None:
                seat.worker.process.kill()
            elif seat.task is not None:
                seat.task.cancel()
        tasks = [seat.task for seat in self._seats if seat.task is not None]
        if tasks:
            _, pending = await asyncio.wait(tasks, timeout=grace_s)
            if pending:
                for worker in self.workers:
                    worker.process.kill()
                await asyncio.wait(pending)
        self._port.close()

    # ---- one seat

    async def _keep_alive(self, seat: _Seat) -> None:
        while not self._is_ending:
            await asyncio.sleep(_BACKOFF_S[min(seat.early_deaths, len(_BACKOFF_S) - 1)])
            seat.restarts += 1
            started_at = time.monotonic()
            try:
                reason = await self._one_life(seat)
            except OSError as error:
                reason = f"it cannot be started: {error}"
            if self._is_ending:
                return
            lived_s = time.monotonic() - started_at
            seat.early_deaths = 0 if lived_s > HEALTHY_S else seat.early_deaths + 1
            log.error("the worker on %s was lost after %.1f s: %s", seat.device, lived_s, reason)
            if seat.early_deaths >= 3:
                self._on_hopeless(seat.device, reason)

    async def _one_life(self, seat: _Seat) -> str:
        """Start a worker and stay until it has ended; returns why it ended."""
        self._numbers += 1
        number = self._numbers
        launch = Launch(
            worker=number,
            device=seat.device,
            endpoint=self._endpoint,
            segments_dir=self._segments_dir,
            segments_nbytes=self._segments_nbytes,
            task_directories=self._task_directories,
            circuit_roots=self._circuit_roots,
            executions_dir=self._executions_dir,
            log_level=self._log_level,
        )
        process = await self._launcher(launch)
        worker = Worker(
            number=number,
            device=seat.device,
            peer=worker_address(number, os.getpid()),
            process=process,
            started_at=time.monotonic(),
            restarts=seat.restarts,
        )
        seat.worker = worker
        self._by_peer[worker.peer] = worker
        watch = asyncio.create_task(self._watch_silence(worker))
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            process.kill()
            raise
        finally:
            watch.cancel()
            # What it said before it died still counts.
            self._port.receive_pending()
            worker.state = "lost"
            del self._by_peer[worker.peer]
            seat.worker = None
        reason = f"killed by signal {-code}" if code < 0 else f"it exited with code {code}"
        self._on_lost(worker, reason)
        return reason

    async def _watch_silence(self, worker: Worker) -> None:
        while True:
            await asyncio.sleep(self._silence_s / 4)
            now = time.monotonic()
            if worker.state == "starting" and now - worker.started_at > self._start_s:
                self.give_up(worker, f"it was not ready after {self._start_s:.0f} s")
            elif worker.state == "ready" and now - worker.heard_at > self._silence_s:
                self.give_up(worker, f"it was silent for {now - worker.heard_at:.0f} s")

    def _received(self, message: Message) -> None:
        worker = self._by_peer.get(message.peer)
        if worker is None:
            return
        worker.heard_at = time.monotonic()
        try:
            decoded = self._decoder.decode(message.header)
        except msgspec.MsgspecError as error:
            self.give_up(worker, f"it sent what is no message: {error}")
            return
        match decoded:
            case Heartbeat():
                worker.rss_nbytes = decoded.rss_nbytes
                worker.device_used_nbytes = decoded.device_used_nbytes
            case Ready():
                worker.state = "ready"
                self._on_ready(worker, decoded)
            case _:
                self._on_message(worker, decoded, message.frames)


async def launch_process(launch: Launch) -> WorkerProcess:
    """Start `python -m circuitd.worker` as a process of this interpreter's environment."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "circuitd.worker",
        "--device",
        launch.device,
        "--connect",
        launch.endpoint,
        "--segments",
        launch.segments_dir,
        "--segments-nbytes",
        str(launch.segments_nbytes),
        "--worker-id",
        str(launch.worker),
        "--front-pid",
        str(os.getpid()),
        "--log-level",
        launch.log_level,
        *(text for path in launch.task_directories for text in ("--tasks", str(path))),
        *(text for path in launch.circuit_roots for text in ("--circuits", str(path))),
        *(() if launch.executions_dir is None else ("--executions", str(launch.executions_dir))),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,  # its log, which becomes part of ours
        # OpenMP reads it when torch is loaded, so the worker itself could not say it.
        env={**WAIT_SHORTLY, **os.environ},
        # A Ctrl-C in the terminal is for the front, which then ends its workers in order.
        start_new_session=True,
    )
    return _Subprocess(process, f"worker-{launch.worker}")


class _Subprocess:
    def __init__(self, process: asyncio.subprocess.Process, source: str) -> None:
        self._process = process
        assert process.stderr is not None  # asked for as a pipe
        self._relaying = asyncio.create_task(
            _relay(process.stderr, source), name=f"log of {source}"
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        try:
            self._process.kill()
        except ProcessLookupError:
            return

    async def wait(self) -> int:
        code = await self._process.wait()
        # Its last words count most. A process it left behind may hold the pipe: not for long.
        await asyncio.wait([self._relaying], timeout=1.0)
        self._relaying.cancel()
        return code


async def _relay(stream: asyncio.StreamReader, source: str) -> None:
    begun = b""  # a line whose end has not come yet
    while data := await stream.read(1 << 16):
        *lines, begun = (begun + data).split(b"\n")
        for line in lines:
            relay(line.decode("utf-8", "backslashreplace"), source)
    if begun:
        relay(begun.decode("utf-8", "backslashreplace"), source)
