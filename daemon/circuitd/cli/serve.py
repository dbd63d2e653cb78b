"""`circuitd serve`: become the one daemon of this runtime directory.

Whoever holds the lock file is the daemon; what a dead predecessor left (sockets, discovery file,
segments) is removed only after the lock was taken, so a living daemon can never lose its own.
"""

import asyncio
import faulthandler
import logging
import os
import sys
from pathlib import Path
from typing import Any, Final

import click

from circuitd.cli.command import Command
from circuitd.cli.extras import install_of, missing_of
from circuitd.cli.options import daemon_options, flags_from_options

#: Somebody who looks whether the lock is held holds it for an instant.
_LOCK_PATIENCE_S: Final = 0.5

log = logging.getLogger("circuitd.serve")


@click.command(
    cls=Command,
    examples=[
        "circuitd serve",
        "circuitd serve --memory-budget 12GiB --keep-alive -1",
        "circuitd serve --listen tcp://0.0.0.0:7341     (clients need keys: circuitd keys --help)",
        "circuitd serve --print-config > ~/.config/circuitd/config.toml",
    ],
)
@daemon_options
@click.option("--print-config", is_flag=True, help="Print all settings as TOML and exit")
@click.option("--quiet", is_flag=True, help="Log to the file only, not to the terminal")
def serve(print_config: bool, quiet: bool, **options: Any) -> None:
    """Run the daemon in the foreground, until Ctrl-C or `circuitd stop`."""
    from circuitd.settings import load_settings

    settings = load_settings(config_path=options["config_path"], flags=flags_from_options(options))
    if print_config:
        click.echo(settings.to_toml())
        return
    if missing := missing_of("daemon"):
        click.echo(missing_sentence(missing), err=True)
        sys.exit(1)

    from circuit_protocol.endpoints import LOCK_NAME, ensure_private_dir
    from circuitd import __version__, logs
    from circuitd.store.locks import LockHeld, OwnerLock

    os.umask(0o077)
    runtime_dir = ensure_private_dir(Path(settings.runtime_dir))
    ensure_private_dir(Path(settings.state_dir))
    try:
        lock = OwnerLock(runtime_dir / LOCK_NAME, patience_s=_LOCK_PATIENCE_S)
    except LockHeld as held:
        click.echo(
            f"circuitd: a daemon runs already (process {held.pid}) in {runtime_dir}. "
            "Use it, stop it with `circuitd stop`, or set CIRCUITD_RUNTIME_DIR for a second one.",
            err=True,
        )
        sys.exit(1)
    with lock:
        logs.log_to_file(
            settings.log_path,
            settings.log_level,
            max_nbytes=settings.log_nbytes,
            files=settings.log_files,
        )
        if not quiet:
            logs.log_to_stderr(settings.log_level)
        faulthandler.enable()
        log.info("circuitd %s starts, process %d", __version__, os.getpid())
        for path in remove_leftovers(runtime_dir):
            log.warning("removed %s, left by a daemon that died", path)

        from circuitd.server.serve import serve as run_front

        try:
            asyncio.run(run_front(settings))
        except BaseException as error:
            if not isinstance(error, KeyboardInterrupt | SystemExit):
                log.exception("circuitd ends by an error")
            raise
        finally:
            remove_leftovers(runtime_dir)  # ZeroMQ leaves the sockets' names
        log.info("circuitd has ended")


def missing_sentence(missing: list[str]) -> str:
    """What to tell a person who has only the client."""
    return (
        f"circuitd: to run a daemon, install its extra: {install_of('daemon')} "
        f"(missing: {', '.join(missing)})"
    )


def remove_leftovers(runtime_dir: Path) -> list[Path]:
    """Remove what a dead daemon left; call with the lock held. What was removed."""
    from circuit_protocol.endpoints import DISCOVERY_NAME, SOCKET_NAME, WORKERS_NAME
    from circuitd.store import segments

    removed = []
    for name in (DISCOVERY_NAME, SOCKET_NAME, WORKERS_NAME):
        path = runtime_dir / name
        if path.exists() or path.is_symlink():
            path.unlink()
            removed.append(path)
    return removed + segments.sweep()
