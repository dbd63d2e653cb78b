"""Answers about the daemon: its state, endpoints, start and stop."""

import asyncio
import contextlib
import socket

from circuit_client.reach import find_circuitd
from circuit_lsp.link import Place
from circuit_lsp.messages import Nothing
from circuit_lsp.messages.daemon import ConnectParams, DaemonStatus, ResidentModel, StopParams
from circuit_lsp.workbench import Workbench
from circuit_protocol.errors import CircuitError
from circuit_protocol.replies import Resident


async def status(bench: Workbench, _: Nothing) -> DaemonStatus:
    """How things stand, and where there is a daemon, how it does."""
    link = bench.link
    standing = link.standing
    common = {"host": socket.gethostname(), "can_start": find_circuitd() is not None}
    if link.is_up:
        with contextlib.suppress(CircuitError):
            c = link.connection
            welcome = c.welcome
            report = await c.status()
            return DaemonStatus(
                state="connected",
                sentence=f"{welcome.server} at {c.endpoint}",
                endpoint=c.endpoint,
                server=welcome.server,
                protocol_version=welcome.version,
                instance=welcome.instance,
                pid=welcome.pid,
                session=link.session_name,
                model=bench.look().model or welcome.default_model,
                clients=report.clients,
                queued=report.queued,
                running=report.running,
                jobs_unfinished=report.jobs_unfinished,
                used_nbytes=report.used_nbytes,
                budget_nbytes=report.budget_nbytes,
                resident=tuple(map(resident_model, report.resident)),
                **common,
            )
        standing = link.standing
    return DaemonStatus(
        state="connecting" if standing.state == "connected" else standing.state,
        sentence=standing.sentence,
        hint=standing.hint,
        endpoint=link.place.endpoint,
        session=link.session_name,
        **common,
    )


def resident_model(resident: Resident) -> ResidentModel:
    """A loaded model as the editor shows it."""
    return ResidentModel(
        model=resident.model,
        device=resident.device,
        dtype=resident.dtype,
        nbytes=resident.nbytes,
        pinned=resident.pinned,
        expires_in_s=resident.expires_in_s,
        in_use=resident.in_use,
        execution=resident.execution,
    )


async def connect(bench: Workbench, params: ConnectParams) -> DaemonStatus:
    """Another endpoint, or none."""
    place = Place(params.endpoint, params.key, params.server_key)
    if params.endpoint is None and not params.here:
        settings = bench.settings
        place = Place(settings.endpoint, settings.key, settings.server_key)
    await bench.link.connect(place, off=params.off)
    return await status(bench, Nothing())


async def start(bench: Workbench, _: Nothing) -> DaemonStatus:
    """Start a daemon on this machine."""
    await bench.link.start_daemon()
    return await status(bench, Nothing())


async def stop(bench: Workbench, params: StopParams) -> DaemonStatus:
    """End the daemon, and wait until the line to it is gone."""
    lost = asyncio.Event()
    with bench.link.noticing(lost.set):
        await bench.link.connection.shutdown(drain=params.drain)
        await lost.wait()
    return await status(bench, Nothing())


ANSWERS = {
    "circuit/status": status,
    "circuit/daemon/connect": connect,
    "circuit/daemon/start": start,
    "circuit/daemon/stop": stop,
}
