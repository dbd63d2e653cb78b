"""A front in the test's own event loop, fake workers, and clients that see every frame.

The fake worker speaks `circuitd.work` over the real socket and answers from a script; its "process"
is a task. The client is a bare DEALER, so that a test can send anything at all.
"""

import asyncio
import itertools
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from circuit_protocol import requests as r
from circuit_protocol.codec import decode_reply, decode_request, encode
from circuit_protocol.errors import CircuitError, NotFound
from circuit_protocol.replies import AnyReply, Failed, ForwardResult, ModelSummary, Progress, Reply
from circuit_protocol.sockets import configure_client
from circuit_protocol.tensors import Frame, Tensor
from circuitd import work
from circuitd.server.catalog import Located
from circuitd.server.front import Front
from circuitd.server.serve import serve
from circuitd.server.supervisor import Launch
from circuitd.settings import Settings
from circuitd.store.segments import SegmentDir

#: Nothing takes this long: it only ends a test that would wait for ever.
PATIENCE_S = 60.0
TOKENS = Tensor(dtype="I32", shape=(1, 2), data=b"\1\0\0\0\2\0\0\0")
LENGTHS = Tensor(dtype="I32", shape=(1,), data=b"\2\0\0\0")


def result(request_id: str, **fields: Any) -> ForwardResult:
    return ForwardResult(id=request_id, tokens=TOKENS, lengths=LENGTHS, **fields)


class FakeCatalog:
    """Models by name; all exist whose name begins with `m`. A "file" changes with its version."""

    def __init__(self) -> None:
        self.nbytes: dict[str, int] = defaultdict(lambda: 100)
        self.n_nodes = 40
        self.versions: dict[str, int] = defaultdict(int)
        self.fetched: list[str] = []

    def locate(self, name: str, dtype: r.DTypeName) -> Located | None:
        if name.startswith("hf://") and name not in self.fetched:
            return None
        if not name.startswith(("m", "hf://")):
            raise NotFound.unknown("model", name, ["m", "m2"])
        key = work.ModelKey(path=f"/{name}", signature=f"v{self.versions[name]}", dtype=dtype)
        return Located(key, name, self.nbytes[name], self.n_nodes)

    def fetch(self, name: str, dtype: r.DTypeName, sha256: str | None = None) -> Located:
        self.fetched.append(name)
        located = self.locate(name, dtype)
        assert located is not None
        return located

    def verify(self, located: Located, sha256: str) -> None:
        pass

    def summaries(self, is_resident: Callable[[str], bool]) -> list[ModelSummary]:
        return [
            ModelSummary(
                name="m",
                path="/m",
                nbytes_on_disk=1,
                n_layer=1,
                d_model=1,
                n_nodes=1,
                resident=is_resident("/m"),
            )
        ]


class FakeWorker:
    """One start of a worker. `on_item` decides what it answers; the default is a forward result."""

    def __init__(self, fleet: "FakeFleet", launch: Launch) -> None:
        self.fleet = fleet
        self.launch = launch
        self.pid = 100_000 + launch.worker
        self.segments = SegmentDir(Path(launch.segments_dir), budget_nbytes=launch.segments_nbytes)
        self.runs: list[work.Run] = []
        self.cancels: list[work.CancelWork] = []
        self.loads: list[work.ModelKey] = []
        self.unloads: list[work.ModelKey] = []
        self.death: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.socket = fleet.context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.routing_id = work.worker_address(launch.worker, os.getpid())
        self.socket.connect(launch.endpoint)
        self.task = asyncio.create_task(self._live())

    def kill(self) -> None:
        self.die(-9)

    def die(self, code: int) -> None:
        if not self.death.done():
            self.death.set_result(code)

    async def wait(self) -> int:
        code = await asyncio.shield(self.death)
        self.task.cancel()
        self.socket.close(0)
        return code

    async def send(self, message: work.FromWorker, frames: Sequence[Frame] = ()) -> None:
        await self.socket.send_multipart([msgspec.msgpack.encode(message), *frames])

    async def answer(
        self,
        item: work.Item,
        reply: Reply,
        frames: Sequence[Frame] = (),
        segments: tuple[work.Segment, ...] = (),
    ) -> None:
        await self.send(
            work.Answer(
                work=item.work,
                header=encode(reply),
                n_frames=len(frames),
                final=reply.final,
                error=isinstance(reply, Failed),
                segments=segments,
            ),
            frames,
        )

    async def _live(self) -> None:
        await self.send(
            work.Ready(pid=self.pid, device=self.launch.device, memory_nbytes=self.fleet.memory)
        )
        decoder = msgspec.msgpack.Decoder(work.ToWorker)
        while True:
            header, *frames = await self.socket.recv_multipart()
            match message := decoder.decode(header):
                case work.Run():
                    self.runs.append(message)
                    self.fleet.seen.set()
                    rest = list(frames)
                    for item in message.items:
                        mine, rest = rest[: item.n_frames], rest[item.n_frames :]
                        task = asyncio.create_task(self._carry_out(item, mine))
                        self.fleet.tasks.add(task)
                        task.add_done_callback(self.fleet.tasks.discard)
                case work.Load():
                    self.loads.append(message.model)
                    await self.fleet.on_load(self, message.model)
                case work.Unload():
                    self.unloads.append(message.model)
                    await self.send(work.Unloaded(model=message.model))
                case work.CancelWork():
                    self.cancels.append(message)
                    self.fleet.cancelled[message.work].set()
                case work.Exit():
                    self.die(0)

    async def _carry_out(self, item: work.Item, frames: list[bytes]) -> None:
        request = decode_request(item.header)
        try:
            await self.fleet.on_item(self, item, request, frames)
        except CircuitError as error:
            await self.answer(item, Failed(id=request.id, error=error.to_info()))
        except zmq.ZMQError:
            pass  # it died meanwhile


OnItem = Callable[[FakeWorker, work.Item, r.AnyRequest, list[bytes]], Awaitable[None]]


async def answer_at_once(
    worker: FakeWorker, item: work.Item, request: r.AnyRequest, frames: list[bytes]
) -> None:
    await worker.answer(item, result(request.id))


class FakeFleet:
    """The launcher: all workers a front has started, newest last."""

    def __init__(self) -> None:
        self.context = zmq.asyncio.Context()
        self.workers: list[FakeWorker] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.memory = 1000
        self.on_item: OnItem = answer_at_once
        self.seen = asyncio.Event()
        self.cancelled: dict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self.refuse_to_start = False

    async def __call__(self, launch: Launch) -> FakeWorker:
        if self.refuse_to_start:
            raise OSError("no such program")
        worker = FakeWorker(self, launch)
        self.workers.append(worker)
        return worker

    async def on_load(self, worker: FakeWorker, model: work.ModelKey) -> None:
        await worker.send(
            work.Loaded(
                model=model,
                model_hash=f"hash of {model.path} {model.signature}",
                nbytes=100,
                block_size=64,
                vocab_size=32,
            )
        )

    @property
    def newest(self) -> FakeWorker:
        return self.workers[-1]

    def runs(self) -> list[work.Run]:
        return [run for worker in self.workers for run in worker.runs]

    async def until(self, condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
        """Wait until `condition()` holds; looked at after every run that arrives, and often."""
        async with asyncio.timeout(timeout_s):
            while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
                await asyncio.sleep(0.002)


class WireClient:
    """A bare DEALER. Replies are collected by request id as they come."""

    def __init__(self, endpoint: str, **keys: Any) -> None:
        self.context = zmq.asyncio.Context()
        self.socket = self.context.socket(zmq.DEALER)
        configure_client(self.socket, **keys)
        self.socket.connect(endpoint)
        self._ids = itertools.count(1)
        self.replies: dict[str, list[tuple[AnyReply, list[bytes]]]] = defaultdict(list)

    def new_id(self) -> str:
        return f"r{next(self._ids)}"

    async def send(self, request: r.Request, frames: Sequence[Frame] = ()) -> str:
        await self.socket.send_multipart([encode(request), *frames])
        return request.id

    async def send_raw(self, parts: Sequence[bytes]) -> None:
        await self.socket.send_multipart(list(parts))

    async def next(self, timeout_s: float = PATIENCE_S) -> tuple[AnyReply, list[bytes]]:
        """The next reply to whatever request."""
        async with asyncio.timeout(timeout_s):
            header, *frames = await self.socket.recv_multipart()
        reply = decode_reply(header)
        self.replies[reply.id].append((reply, frames))
        return reply, frames

    async def final(self, request_id: str, timeout_s: float = PATIENCE_S) -> AnyReply:
        """Wait for the final reply to a request."""
        while True:
            got = self.replies[request_id]
            if got and got[-1][0].final:
                return got[-1][0]
            await self.next(timeout_s)

    async def partial(self, request_id: str, n: int = 1) -> AnyReply:
        """Wait for the n-th reply to a request."""
        while len(self.replies[request_id]) < n:
            await self.next()
        return self.replies[request_id][n - 1][0]

    async def ask(self, request: r.Request, frames: Sequence[Frame] = ()) -> AnyReply:
        """Send and wait for the final reply."""
        return await self.final(await self.send(request, frames))

    async def hello(self) -> AnyReply:
        return await self.ask(r.Hello(id=self.new_id(), versions=("1.0",), client="test"))

    def forward(self, model: str = "m", **fields: Any) -> r.Forward:
        fields = {"id": self.new_id(), "use_cache": False, **fields}
        return r.Forward(model=model, prompts=r.Prompts(tokens=TOKENS), **fields)

    async def settle(self) -> None:
        """Return when the front has dealt with everything this client sent before."""
        await self.ask(r.Status(id=self.new_id()))

    def close(self) -> None:
        self.socket.close(0)
        self.context.term()


@dataclass
class House:
    """A running front and what belongs to it."""

    front: Front
    fleet: FakeFleet
    catalog: FakeCatalog
    settings: Settings
    task: asyncio.Task[None]
    clients: list[WireClient] = field(default_factory=list)

    async def client(self, *, hello: bool = True, endpoint: str = "", **keys: Any) -> WireClient:
        client = WireClient(endpoint or self.front.endpoints[0], **keys)
        self.clients.append(client)
        if hello:
            await client.hello()
        return client

    def check_invariants(self) -> None:
        dispatcher = self.front.dispatcher
        for part in (
            dispatcher.scheduler,
            dispatcher.residency,
            self.front.cache.leases,
            self.front.sessions,
            self.front.book,
            self.front.retries.idempotency,
        ):
            part.check_invariants()
        assert dispatcher.scheduler.items.keys() == dispatcher.owners.keys()


def settings_in(path: Path, **fields: Any) -> Settings:
    path.mkdir(exist_ok=True)
    values: dict[str, Any] = {
        "runtime_dir": str(path / "run"),
        "state_dir": str(path / "state"),
        "cache_dir": str(path / "cache"),
        "config_dir": str(path / "config"),
        "keys_dir": str(path / "keys"),
        "segment_root": str(path),
        "circuits_dir": str(path / "circuits"),
        "devices": ("cpu",),
        "memory_budget_nbytes": 1 << 30,
        "segment_budget_nbytes": 1 << 26,
        **fields,
    }
    return Settings(**values)


@asynccontextmanager
async def house(
    path: Path,
    *,
    fleet: FakeFleet | None = None,
    catalog: FakeCatalog | None = None,
    on_item: OnItem | None = None,
    **fields: Any,
) -> AsyncIterator[House]:
    """A front that serves until the block is left; its invariants are checked at the end."""
    settings = settings_in(path, **fields)
    fleet = fleet or FakeFleet()
    catalog = catalog or FakeCatalog()
    if on_item is not None:
        fleet.on_item = on_item
    started: asyncio.Future[Front] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(
            settings,
            ready=started.set_result,
            launcher=fleet,
            catalog=catalog,
            handle_signals=False,
        )
    )
    await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():  # it could not start: the reason is raised
        fleet.context.destroy(0)
        task.result()
    found = House(await started, fleet, catalog, settings, task)
    try:
        yield found
        found.check_invariants()
    finally:
        for client in found.clients:
            client.close()
        found.front.drain = False
        found.front.ending.set()
        await task
        for left in list(fleet.tasks):
            left.cancel()
        fleet.context.destroy(0)


def is_progress(reply: AnyReply) -> bool:
    return isinstance(reply, Progress)
