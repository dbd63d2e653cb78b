"""`circuitd logs`: the end of the daemon's log, and what comes after."""

import os
import sys
import time
from collections import deque
from collections.abc import Generator
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Final

import click

from circuitd.cli.command import Command

_BLOCK_NBYTES: Final = 64 * 1024
_POLL_S: Final = 0.25


@click.command(
    cls=Command,
    examples=[
        "circuitd logs -n 200",
        "circuitd logs -f | grep WARNING",
        'less "$(circuitd logs --path)"',
    ],
)
@click.option("-n", "--lines", "n_lines", default=50, show_default=True, help="How many lines")
@click.option("-f", "--follow", is_flag=True, help="Go on as lines are written, until Ctrl-C")
@click.option("--path", "only_path", is_flag=True, help="Print where the log is and exit")
def logs(n_lines: int, follow: bool, only_path: bool) -> None:
    """Show the end of the daemon's log, also of one that has ended."""
    from circuitd.settings import load_settings

    path = load_settings().log_path
    if only_path:
        click.echo(path)
        return
    if not path.exists() and not follow:
        click.echo(f"there is no log yet at {path}: no daemon has run", err=True)
        sys.exit(1)
    for line in last_lines(path, n_lines):
        click.echo(line, nl=False)
    if follow:
        for data in new_bytes(path):
            click.echo(data, nl=False)


def last_lines(path: Path, n: int) -> list[bytes]:
    """The last `n` lines of a file and, if it is shorter, of the rotated ones before it."""
    lines: deque[bytes] = deque()
    rotated = (path.with_name(f"{path.name}.{i}") for i in range(1, 101))
    for file in chain((path,), rotated):
        if len(lines) >= n or not file.exists():
            break
        with file.open("rb") as stream:
            lines.extendleft(reversed(_tail(stream, n - len(lines))))
    return list(lines)


def _tail(stream: BinaryIO, n: int) -> list[bytes]:
    end = stream.seek(0, os.SEEK_END)
    data = b""
    # One line break more than lines: the block may begin in the middle of a line.
    while end and data.count(b"\n") <= n:
        begin = max(0, end - _BLOCK_NBYTES)
        stream.seek(begin)
        data = stream.read(end - begin) + data
        end = begin
    return data.splitlines(keepends=True)[-n:] if n else []


def new_bytes(path: Path) -> Generator[bytes, None, None]:
    """What is appended to a file from now on, through its rotations. Never ends."""
    stream: BinaryIO | None = None
    try:
        stream = path.open("rb")
        stream.seek(0, os.SEEK_END)
    except FileNotFoundError:
        pass
    try:
        while True:
            if stream is not None and (data := stream.read()):
                yield data
                continue
            # Rotated: another file has the name. The old one was read to its end just now.
            if stream is None or not _is_same(stream, path):
                try:
                    fresh = path.open("rb")
                except FileNotFoundError:
                    pass
                else:
                    if stream is not None:
                        stream.close()
                    stream = fresh
                    continue
            time.sleep(_POLL_S)
    finally:
        if stream is not None:
            stream.close()


def _is_same(stream: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return True  # between the two renames of a rotation
