"""The front process from start to end: everything is made, connected, announced, and taken down.

The caller holds the runtime directory's lock (`circuitd.cli.serve`). `serve` returns when a client
has asked for shutdown or a signal has come, after draining if that was asked; a second signal ends
without waiting.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import zmq

from circuit_protocol.discovery import (
    Discovery,
    process_start_ticks,
    remove_discovery,
    write_discovery,
)
from circuit_protocol.endpoints import (
    SOCKET_NAME,
    WORKERS_NAME,
    check_exposure,
    ensure_private_dir,
    parse_endpoint,
)
from circuit_protocol.errors import NotFound
from circuit_protocol.keys import KeyPair, allowed_clients, load_key_pair
from circuit_protocol.version import PROTOCOL_VERSION
from circuitd.server import (
    cache_requests,
    circuit_requests,
    instant,
    jobs,
    model_requests,
    session_requests,
    tensor_requests,
)
from circuitd.server.answer_cache import AnswerCache
from circuitd.server.artefacts import Artefacts
from circuitd.server.catalog import Catalog, RootsCatalog
from circuitd.server.devices import choose_devices
from circuitd.server.dispatch import Dispatcher
from circuitd.server.front import Front
from circuitd.server.jobs import Jobs
from circuitd.server.leases import Leases
from circuitd.server.residency import Residency
from circuitd.server.scheduler import QueueLimits, Scheduler
from circuitd.server.supervisor import SILENCE_S, Launcher, Supervisor, launch_process
from circuitd.server.task_files import TaskFiles, task_directories
from circuitd.server.zap import KeyDoor
from circuitd.settings import Settings
from circuitd.store import segments
from circuitd.store.circuits import CircuitStore
from circuitd.store.job_thread import JobThread
from circuitd.store.results import ResultCache
from circuitd.store.roots import circuit_roots

log = logging.getLogger(__name__)

HANDLERS = {
    **instant.HANDLERS,
    **model_requests.HANDLERS,
    **session_requests.HANDLERS,
    **tensor_requests.HANDLERS,
    **cache_requests.HANDLERS,
    **circuit_requests.HANDLERS,
    **jobs.HANDLERS,
}
#: ZeroMQ's own default would end a daemon's welcome at the 1023rd client.
_MAX_SOCKETS = 65536
#: How long workers have to exit when the daemon ends.
_WORKER_GRACE_S = 5.0


async def serve(
    settings: Settings,
    *,
    ready: Callable[[Front], None] | None = None,
    launcher: Launcher = launch_process,
    catalog: Catalog | None = None,
    handle_signals: bool = True,
) -> None:
    """Run the front until it is told to end.

    `ready` is called once clients can connect (workers may still be starting). `launcher` and
    `catalog` stand in for real worker processes and artefact roots in tests.
    """
    # What is begun is ended in reverse order, wherever between the two something fails.
    async with AsyncExitStack() as ends:
        front = await _build(settings, launcher, catalog, ends)
        _announce(front, settings)
        ends.callback(remove_discovery, front.instance, Path(settings.runtime_dir))
        if handle_signals:
            _handle_signals(front, ends)
        if ready is not None:
            ready(front)
        log.info("ready: %s", ", ".join(front.endpoints))
        await _until_told_to_end(front)
        log.info("ending")


async def _build(
    settings: Settings, launcher: Launcher, catalog: Catalog | None, ends: AsyncExitStack
) -> Front:
    """Make all parts, open the sockets, start the workers, queue the jobs."""
    runtime_dir = ensure_private_dir(Path(settings.runtime_dir))
    keys = _server_keys(settings)
    instance = secrets.token_hex(8)
    held = _segment_dir(settings, instance)
    ends.callback(held.close)
    held_nbytes = held.budget_nbytes or 0
    context = zmq.Context()
    context.max_sockets = _MAX_SOCKETS
    # Its I/O thread hands over what lingers; the loop need not wait for that.
    ends.push_async_callback(asyncio.to_thread, context.term)

    leases = Leases(held_nbytes, min(held_nbytes, settings.limits.held_nbytes))
    cache = AnswerCache(
        leases,
        held,
        lambda released: ResultCache(
            settings.results_dir,
            memory_nbytes=settings.result_cache_memory_nbytes,
            disk_nbytes=settings.result_cache_disk_nbytes,
            on_release=released,
        ),
        TaskFiles(task_directories(settings)).signature,
    )
    ends.push_async_callback(asyncio.to_thread, cache.results.close)
    dispatcher = Dispatcher(
        scheduler=Scheduler(QueueLimits(client_items=settings.limits.queued_requests)),
        residency=Residency(settings.keep_alive_s),
        cache=cache,
        catalog=catalog or _roots_catalog(settings),
        device_budget_nbytes=settings.device_budget_nbytes,
    )
    jobs = Jobs(
        await JobThread.open(Path(settings.state_dir)),
        dispatcher,
        keep=settings.finished_jobs,
        keep_nbytes=settings.finished_jobs_nbytes,
    )
    roots = circuit_roots(settings.circuits_dir, settings.data_roots)
    front = Front(
        settings,
        instance=instance,
        handlers=HANDLERS,
        dispatcher=dispatcher,
        cache=cache,
        jobs=jobs,
        artefacts=Artefacts(Path(settings.cache_dir) / "artefacts" / "remote"),
        circuits=CircuitStore(roots[0], roots[1:]),
        task_directories=task_directories(settings),
    )
    jobs.front = front
    if keys is not None:
        keys_dir = Path(settings.keys_dir)
        door = KeyDoor(context, lambda: allowed_clients(keys_dir))
        ends.callback(door.close)
    ends.push_async_callback(front.close)
    ends.push_async_callback(jobs.close)
    supervisor = Supervisor(
        context,
        endpoint=f"ipc://{runtime_dir / WORKERS_NAME}",
        segments_dir=str(held.path),
        # All that lies there may have to go for what a worker writes next: the leases decide.
        segments_nbytes=2 * held_nbytes,
        task_directories=task_directories(settings),
        circuit_roots=roots,
        executions_dir=Path(settings.state_dir) / "executions",
        log_level=settings.log_level,
        launcher=launcher,
        on_ready=dispatcher.worker_ready,
        on_lost=dispatcher.worker_lost,
        on_message=dispatcher.worker_said,
        on_hopeless=dispatcher.worker_hopeless,
        silence_s=SILENCE_S,
    )
    ends.push_async_callback(supervisor.end, _WORKER_GRACE_S)
    ends.push_async_callback(front.say_goodbye)
    dispatcher.supervisor = front.supervisor = supervisor
    _listen(front, context, settings, runtime_dir, keys)
    supervisor.start(await choose_devices(settings.devices))
    await jobs.resume()
    return front


def _segment_dir(settings: Settings, instance: str) -> segments.OwnedSegmentDir:
    root = Path(settings.segment_root) if settings.segment_root else segments.choose_root(1 << 30)
    budget_nbytes = settings.segments_budget_nbytes(root)
    path = root / segments.directory_name(instance)
    return segments.OwnedSegmentDir(path, budget_nbytes=budget_nbytes)


def _roots_catalog(settings: Settings) -> RootsCatalog:
    return RootsCatalog(
        settings.data_roots,
        cache_dir=Path(settings.cache_dir),
        offline=settings.offline,
        default_model=settings.default_model,
    )


async def _until_told_to_end(front: Front) -> None:
    await front.ending.wait()
    is_drained = asyncio.Event()
    front.dispatcher.on_drained = is_drained.set
    front.dispatcher.pump()
    stop_now = asyncio.create_task(front.ending_now.wait())
    drained = asyncio.create_task(is_drained.wait())
    await asyncio.wait({stop_now, drained}, return_when=asyncio.FIRST_COMPLETED)
    for task in (stop_now, drained):
        task.cancel()


def _handle_signals(front: Front, ends: AsyncExitStack) -> None:
    """The first signal drains, the second ends at once."""

    def told() -> None:
        if front.ending.is_set():
            front.ending_now.set()
        front.ending.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
        ends.callback(loop.remove_signal_handler, number)


def _listen(
    front: Front,
    context: zmq.Context,
    settings: Settings,
    runtime_dir: Path,
    keys: KeyPair | None,
) -> None:
    """Open the local socket and the TCP ones. Raises Forbidden for TCP that strangers could use."""
    before = os.umask(0o077)
    try:
        front.listen(context, f"ipc://{runtime_dir / SOCKET_NAME}")
    finally:
        os.umask(before)
    for text in settings.listen:
        endpoint = parse_endpoint(text, bind=True)
        allow_plain = settings.allow_insecure_loopback_tcp
        endpoint_keys = None if allow_plain and endpoint.is_loopback else keys
        check_exposure(endpoint, curve=endpoint_keys is not None, allow_plain_loopback=allow_plain)
        front.listen(context, str(endpoint), keys=endpoint_keys)


def _server_keys(settings: Settings) -> KeyPair | None:
    """The daemon's CURVE keys, if it listens on TCP and has any."""
    if not settings.listen:
        return None
    try:
        return load_key_pair("server", Path(settings.keys_dir))
    except NotFound:  # TCP is then refused, or was said to do without
        return None


def _announce(front: Front, settings: Settings) -> None:
    keys = _server_keys(settings)
    write_discovery(
        Discovery(
            endpoint=front.endpoints[0],
            pid=os.getpid(),
            instance=front.instance,
            version=PROTOCOL_VERSION,
            started_at_s=time.time(),
            endpoints=tuple(front.endpoints),
            server_public_key=keys.public if keys is not None else None,
            pid_start_ticks=process_start_ticks(os.getpid()),
        ),
        Path(settings.runtime_dir),
    )
