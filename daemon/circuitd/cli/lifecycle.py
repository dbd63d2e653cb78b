"""`circuitd start`, `stop` and `restart`: the daemon as a background process.

Starting is idempotent and safe to race: the lock decides which of two new processes becomes the
daemon, and both starters then wait for that one.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from circuitd.cli.command import Command
from circuitd.cli.extras import missing_of
from circuitd.cli.options import daemon_options, flags_from_options, to_arguments

if TYPE_CHECKING:  # these import msgspec's world: `--help` does without
    from circuit_protocol.discovery import Discovery
    from circuitd.settings import Settings

_POLL_S: Final = 0.03
#: How long a daemon told to end at once may take before it is killed.
_NOW_S: Final = 10.0


@click.command(
    cls=Command,
    examples=[
        "circuitd start",
        "circuitd start --device cuda:1 --memory-budget 20GiB",
        "CIRCUITD_RUNTIME_DIR=/tmp/second circuitd start",
    ],
)
@daemon_options
@click.option("--timeout", "timeout_s", default=60.0, show_default=True, help="Seconds to wait")
def start(timeout_s: float, **options: Any) -> None:
    """Start the daemon in the background, wait until it answers, print its endpoint.

    If one runs already, it stays as it is and its endpoint is printed.
    """
    _start(options, timeout_s)


@click.command(
    cls=Command,
    examples=[
        "circuitd stop",
        "circuitd stop --now",
    ],
)
@click.option("--now", is_flag=True, help="Do not wait for accepted work; kill if need be")
@click.option("--timeout", "timeout_s", default=120.0, show_default=True, help="Seconds to wait")
def stop(now: bool, timeout_s: float) -> None:
    """End the daemon: accepted requests are answered first, jobs resume at the next start."""
    if not _stop(now, timeout_s):
        sys.exit(1)


@click.command(
    cls=Command,
    examples=[
        "circuitd restart",
        "circuitd restart --now --log-level debug",
    ],
)
@daemon_options
@click.option("--now", is_flag=True, help="Do not wait for accepted work; kill if need be")
@click.option("--timeout", "timeout_s", default=120.0, show_default=True, help="Seconds to wait")
def restart(now: bool, timeout_s: float, **options: Any) -> None:
    """Stop the daemon if one runs, then start it with these options."""
    if not _stop(now, timeout_s):
        sys.exit(1)
    _start(options, timeout_s)


def _start(options: dict[str, Any], timeout_s: float) -> None:
    from circuitd.cli.serve import missing_sentence
    from circuitd.settings import load_settings

    # A wrong setting is told here, not in a log file of the background process.
    settings = load_settings(config_path=options["config_path"], flags=flags_from_options(options))
    if missing := missing_of("daemon"):
        click.echo(missing_sentence(missing), err=True)
        sys.exit(1)
    daemon, is_new = start_daemon(settings, list(to_arguments(options)), timeout_s)
    state = "circuitd is ready" if is_new else "circuitd runs already"
    click.echo(f"{state} (process {daemon.pid})", err=True)
    click.echo(daemon.endpoint)


def start_daemon(
    settings: "Settings", arguments: Sequence[str], timeout_s: float
) -> "tuple[Discovery, bool]":
    """The daemon that answers, and whether this call started it.

    Raises ConnectError if there is none after `timeout_s`, or its process ended.
    """
    from circuit_protocol.discovery import read_discovery
    from circuit_protocol.endpoints import LOCK_NAME, ensure_private_dir
    from circuit_protocol.errors import ConnectError
    from circuit_protocol.replies import StatusReport
    from circuit_protocol.requests import Status
    from circuitd.cli.ask import ask, request_id
    from circuitd.store.locks import holder

    lock = ensure_private_dir(Path(settings.runtime_dir)) / LOCK_NAME
    output = ensure_private_dir(Path(settings.state_dir)) / "output.log"
    deadline_s = time.monotonic() + timeout_s
    child = None if holder(lock) is not None else _spawn(arguments, output)
    while time.monotonic() < deadline_s:
        if (daemon := read_discovery(lock.parent)) is not None:
            left_s = max(1.0, deadline_s - time.monotonic())
            ask(daemon, Status(id=request_id()), StatusReport, timeout_s=left_s)
            return daemon, child is not None and child.pid == daemon.pid
        if (child is None or child.poll() is not None) and holder(lock) is None:
            raise ConnectError(
                "the daemon ended before it was ready",
                found=_last_words(output),
                hint="`circuitd serve` shows it in the foreground; `circuitd doctor` checks all",
            )
        time.sleep(_POLL_S)
    raise ConnectError(
        "the daemon is not ready yet",
        asked=settings.runtime_dir,
        found=f"nothing within {timeout_s:g} s",
        hint="See `circuitd logs`",
    )


def _spawn(arguments: Sequence[str], output: Path) -> subprocess.Popen[bytes]:
    # What the processes print themselves (a crash of the interpreter) goes to `output`, begun anew
    # at each start; the log proper is a file of its own.
    with output.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "circuitd", "serve", "--quiet", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


def _last_words(output: Path) -> str:
    lines = output.read_text("utf-8", "replace").strip().splitlines()
    return lines[-1].removeprefix("circuitd: ") if lines else "it said nothing"


def _stop(now: bool, timeout_s: float) -> bool:
    """End the daemon if one runs; whether none runs any more."""
    from circuit_protocol.discovery import read_discovery
    from circuit_protocol.endpoints import LOCK_NAME, runtime_dir
    from circuitd.store.locks import holder

    daemon = read_discovery()
    pid = daemon.pid if daemon is not None else holder(runtime_dir() / LOCK_NAME)
    if not pid:
        click.echo("circuitd does not run", err=True)
        return True
    from circuit_protocol.errors import ConnectError
    from circuit_protocol.replies import Done
    from circuit_protocol.requests import Shutdown
    from circuitd.cli.ask import ask, request_id, signal_process, wait_for_exit

    try:
        if daemon is None:
            raise ConnectError("it has the lock, but no discovery file")
        ask(daemon, Shutdown(id=request_id(), drain=not now), Done)
    except ConnectError as error:
        click.echo(f"{error.message}: sending SIGTERM to process {pid}", err=True)
        signal_process(pid, signal.SIGTERM)
    if wait_for_exit(pid, min(timeout_s, _NOW_S) if now else timeout_s):
        click.echo(f"circuitd has ended (process {pid})", err=True)
        return True
    if now:
        signal_process(pid, signal.SIGKILL)
        click.echo(f"circuitd was killed (process {pid})", err=True)
        return wait_for_exit(pid, _NOW_S)
    click.echo(
        f"circuitd still finishes its work (process {pid}); `circuitd stop --now` ends it", err=True
    )
    return False
