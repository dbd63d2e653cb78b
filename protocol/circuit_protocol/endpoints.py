"""Where things are: circuitd's directories, checked for owner and mode, and endpoints as text.

    runtime   $CIRCUITD_RUNTIME_DIR, $XDG_RUNTIME_DIR/circuitd or <tmp>/circuitd-<uid>
    state     $CIRCUITD_STATE_DIR, $XDG_STATE_HOME/circuitd or ~/.local/state/circuitd
    cache     $CIRCUITD_CACHE_DIR, $XDG_CACHE_HOME/circuitd or ~/.cache/circuitd
    config    $CIRCUITD_CONFIG_DIR, $XDG_CONFIG_HOME/circuitd or ~/.config/circuitd
    data      $XDG_DATA_HOME/circuitd or ~/.local/share/circuitd

An ipc socket has no password: who may open the runtime directory may use the daemon. Hence that
directory belongs to the user, is nobody else's to open, and is no symlink.
"""

import os
import re
import stat
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Literal

import msgspec

from circuit_protocol.errors import Forbidden, InvalidRequest

SOCKET_NAME: Final = "circuitd.sock"
DISCOVERY_NAME: Final = "circuitd.json"
LOCK_NAME: Final = "circuitd.lock"
WORKERS_NAME: Final = "workers.sock"

#: sockaddr_un holds 108 bytes on Linux with the closing zero.
MAX_IPC_PATH_NBYTES: Final = 107


def runtime_dir() -> Path:
    """Sockets, lock and discovery file. Not created here: see `ensure_private_dir`."""
    chosen = _chosen("CIRCUITD_RUNTIME_DIR", "XDG_RUNTIME_DIR")
    if chosen is not None:
        return chosen
    import tempfile  # seldom needed, and slow to import

    return Path(tempfile.gettempdir()) / f"circuitd-{os.getuid()}"


def state_dir() -> Path:
    """Job records, checkpoints, logs: what must survive."""
    return _chosen("CIRCUITD_STATE_DIR", "XDG_STATE_HOME") or _home(".local", "state")


def cache_dir() -> Path:
    """Results and fetched artefacts: what may be deleted at any time."""
    return _chosen("CIRCUITD_CACHE_DIR", "XDG_CACHE_HOME") or _home(".cache")


def config_dir() -> Path:
    """What a person writes or makes on purpose, keys among it."""
    return _chosen("CIRCUITD_CONFIG_DIR", "XDG_CONFIG_HOME") or _home(".config")


def data_dir() -> Path:
    """The user's own models, tasks and circuits: an artefact root, which need not exist yet."""
    return _chosen(None, "XDG_DATA_HOME") or _home(".local", "share")


def _chosen(own: str | None, xdg: str) -> Path | None:
    if own is not None and (value := os.environ.get(own)):
        return Path(value).expanduser().absolute()
    value = os.environ.get(xdg, "")
    # The XDG specification has relative paths ignored.
    return Path(value) / "circuitd" if Path(value).is_absolute() else None


def _home(*parts: str) -> Path:
    return Path.home().joinpath(*parts, "circuitd")


def ensure_private_dir(path: Path) -> Path:
    """Make `path` a directory of this user with mode 0700, or raise Forbidden.

    One that others could only read is tightened. One that others could write to is refused: what
    already lies in it may be theirs.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        check_private_dir(path)
        path.chmod(0o700)
    return path


def check_private_dir(path: Path) -> None:
    """Raise Forbidden unless `path` is a real directory of this user, for nobody else to write."""
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        problem = "it is a symlink"
    elif not stat.S_ISDIR(found.st_mode):
        problem = "it is no directory"
    elif found.st_uid != os.geteuid():
        problem = f"it belongs to user {found.st_uid}"
    elif found.st_mode & 0o022:
        problem = f"others may write to it (mode {stat.S_IMODE(found.st_mode):04o})"
    else:
        return
    raise Forbidden(
        "this directory is not safe to keep sockets or secrets in",
        asked=str(path),
        found=problem,
        hint=f"Remove it, or `chmod 700 {path}`, or set CIRCUITD_RUNTIME_DIR to another directory",
    )


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A place to connect or bind to. `str()` of it is what ZeroMQ takes."""

    transport: Literal["ipc", "tcp"]
    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        if self.transport == "ipc":
            return f"ipc://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port or '*'}"

    @property
    def is_loopback(self) -> bool:
        """Whether only processes of this machine (but of any of its users) can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


_TCP: Final = re.compile(
    r"^(?:\[(?P<v6>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\s:/\[\]]+)):(?P<port>\w+|\*)\Z"
)


def default_endpoint() -> Endpoint:
    """The user's own daemon on this machine. Raises InvalidRequest if its path is too long."""
    return _ipc(runtime_dir() / SOCKET_NAME)


def parse_endpoint(text: str, *, bind: bool = False) -> Endpoint:
    """`ipc://PATH`, `tcp://HOST:PORT` or the bare path of a socket, normalised.

    With `bind`, the host `*` (every interface) and the port `*` or 0 (any free one) are allowed.
    Raises InvalidRequest, saying what is wrong.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        if "/" not in text and _TCP.match(text):
            raise _bad(text, f"Did you mean tcp://{text}?")
        scheme, rest = "ipc", text
    if scheme == "tcp":
        return _tcp(text, rest, bind)
    if scheme != "ipc":
        raise _bad(text, "Endpoints are ipc://PATH, tcp://HOST:PORT or the path of a socket")
    if not rest:
        raise _bad(text, "The path of the socket is missing")
    if rest.startswith("@"):
        raise _bad(text, "An abstract socket has no owner and no mode: use a path")
    return _ipc(Path(rest))


def check_exposure(endpoint: Endpoint, *, curve: bool, allow_plain_loopback: bool = False) -> None:
    """Raise Forbidden for an endpoint that would let strangers in: TCP without CURVE.

    `allow_plain_loopback` is for a machine all of whose users are trusted.
    """
    if endpoint.transport == "ipc" or curve:
        return
    if endpoint.is_loopback and allow_plain_loopback:
        return
    raise Forbidden(
        "circuitd does not listen on TCP without CURVE keys",
        asked=str(endpoint),
        hint="Make keys with `circuitd keys`, or reach the ipc socket through `ssh -L`",
    )


def _ipc(path: Path) -> Endpoint:
    try:
        whole = str(path.expanduser().absolute())
    except RuntimeError as e:  # "~name" of nobody
        raise _bad(str(path), str(e)) from None
    if "\0" in whole:
        raise _bad(whole, "A path cannot hold a zero byte")
    nbytes = len(os.fsencode(whole))
    if nbytes > MAX_IPC_PATH_NBYTES:
        raise InvalidRequest(
            "the path of the socket is too long for the operating system",
            asked=whole,
            found=f"{nbytes} bytes",
            hint=f"At most {MAX_IPC_PATH_NBYTES}: set CIRCUITD_RUNTIME_DIR to a shorter directory",
        )
    return Endpoint(transport="ipc", path=whole)


def _tcp(text: str, rest: str, bind: bool) -> Endpoint:
    match = _TCP.match(rest)
    if match is None:
        raise _bad(text, "TCP endpoints are tcp://HOST:PORT, IPv6 addresses in brackets")
    host, port = match["v6"] or match["host"], match["port"]
    if host == "*" and not bind:
        raise _bad(text, "`*` is no host to connect to")
    number = 0 if port == "*" else int(port) if port.isascii() and port.isdigit() else -1
    if not (0 if bind else 1) <= number <= 65535:
        raise _bad(text, "A port is a number from 1 to 65535")
    return Endpoint(transport="tcp", host=host.lower(), port=number)


def _bad(text: str, hint: str) -> InvalidRequest:
    return InvalidRequest("this is no endpoint", asked=text, hint=hint)
