"""What a daemon may be told before it starts: one frozen struct, from file, environment and flags.

A later source wins: defaults < `$XDG_CONFIG_HOME/circuitd/config.toml` < `CIRCUITD_*` < flags. A
key is spelled like its field everywhere: `keep_alive_s` in the file, `CIRCUITD_KEEP_ALIVE_S` in the
environment, `--set keep_alive_s=60` on the command line; the fields of `limits` are a `[limits]`
table, `CIRCUITD_LIMITS_ROWS` and `--set limits.rows=…`. Sizes (`…_nbytes`) are numbers of bytes or
text like "512MiB". A wrong entry is a `SettingsError` that names the key, the value, where it stood
and what is allowed.

The runtime and configuration directories come from the environment only: clients must find them
without reading the daemon's file.
"""

import os
import re
import shutil
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from circuit_protocol import endpoints
from circuit_protocol.errors import InvalidRequest
from circuit_protocol.limits import DEFAULT_LIMITS
from circuit_protocol.replies import Limits

MIB: Final = 1 << 20
GIB: Final = 1 << 30

Nbytes = Annotated[int, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
Device = Annotated[str, msgspec.Meta(pattern=r"^(cpu|mps|cuda(:[0-9]+)?)$")]
LogLevel = Literal["debug", "info", "warning", "error"]

_ENVIRONMENT_NAMES: Final = {"data_roots": "CIRCUITD_DATA"}
_ENVIRONMENT_ONLY: Final = frozenset({"runtime_dir", "config_dir"})
_PATHS: Final = frozenset(
    {
        *("runtime_dir", "state_dir", "cache_dir", "config_dir", "keys_dir"),
        *("segment_root", "circuits_dir"),
    }
)
_LISTS: Final = {"listen": ",", "devices": ",", "data_roots": os.pathsep}
_UNITS: Final = {"": 1, "B": 1} | {
    prefix + suffix: base**power
    for power, prefix in enumerate("KMGT", start=1)
    for suffix, base in (("iB", 1024), ("B", 1000), ("", 1024))
}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?i?B?)\s*")


class SettingsError(InvalidRequest):
    """A setting that cannot be: the message names key, value, source and what is allowed."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a daemon is told. `None` means: decide when the facts are known."""

    #: Sockets, discovery file and lock; jobs, logs; results, artefacts; configuration and keys.
    runtime_dir: str
    state_dir: str
    cache_dir: str
    config_dir: str
    #: The daemon's CURVE key and the keys that may connect over TCP: `circuit_protocol.keys`.
    keys_dir: str
    #: TCP addresses to listen on beside the local socket ("tcp://HOST:PORT", port *: any).
    listen: tuple[str, ...] = ()
    #: Let TCP on a loopback address do without keys: any user of the machine may then connect.
    allow_insecure_loopback_tcp: bool = False
    #: "auto": every CUDA device, else the CPU.
    devices: Literal["auto"] | tuple[Device, ...] = "auto"
    #: Bytes of models, caches and masks per device; None: `memory_share` of what the device has.
    memory_budget_nbytes: Nbytes | None = None
    memory_share: Share = 0.6
    #: Answers kept: in the front's memory, and on disk under `cache_dir`.
    result_cache_memory_nbytes: Nbytes = 256 * MIB
    result_cache_disk_nbytes: Nbytes = 2 * GIB
    #: Held tensors in all; None: half of the room where segments lie when the daemon starts.
    segment_budget_nbytes: Nbytes | None = None
    #: Where segments lie; None: /dev/shm if it has room, else the temporary directory.
    segment_root: str | None = None
    #: Finished jobs kept, by number and by bytes of their replies.
    finished_jobs: Annotated[int, msgspec.Meta(ge=0)] = 200
    finished_jobs_nbytes: Nbytes = GIB
    #: How long a model stays after its last request: seconds, 0 not at all, negative for ever.
    keep_alive_s: float = 300.0
    limits: Limits = DEFAULT_LIMITS
    #: Artefact trees to search first, before the ones of the user and of the package.
    data_roots: tuple[str, ...] = ()
    default_model: str = "csd-py-sparse"
    #: The artefact tree that circuits are written to; None: the user's data directory.
    circuits_dir: str | None = None
    #: Never fetch from the network.
    offline: bool = False
    log_level: LogLevel = "info"
    log_nbytes: Annotated[int, msgspec.Meta(ge=64 * 1024)] = 8 * MIB
    log_files: Annotated[int, msgspec.Meta(ge=1, le=100)] = 4

    @property
    def endpoints(self) -> tuple[str, ...]:
        """All endpoints clients may use: the local socket first."""
        return (f"ipc://{Path(self.runtime_dir) / endpoints.SOCKET_NAME}", *self.listen)

    @property
    def log_path(self) -> Path:
        """The current log file."""
        return Path(self.state_dir) / "logs" / "circuitd.log"

    @property
    def results_dir(self) -> Path:
        """Where the result cache keeps its disk tier."""
        return Path(self.cache_dir) / "results"

    def device_budget_nbytes(self, device_memory_nbytes: int) -> int:
        """How much of a device of this size models and caches may take."""
        if self.memory_budget_nbytes is not None:
            return self.memory_budget_nbytes
        return int(self.memory_share * device_memory_nbytes)

    def segments_budget_nbytes(self, root: Path) -> int:
        """How many bytes of held tensors there may be, if they lie in `root`."""
        if self.segment_budget_nbytes is not None:
            return self.segment_budget_nbytes
        return shutil.disk_usage(root).free // 2

    def to_toml(self) -> str:
        """These settings as a configuration file; what is undecided is a comment."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        limits: dict[str, Any] = msgspec.to_builtins(self.limits)
        lines = [
            f"# {key} is {plain[key]}: set CIRCUITD_{key.upper()}"
            for key in sorted(_ENVIRONMENT_ONLY)
        ]
        lines += [
            _toml_line(key, value)
            for key, value in plain.items()
            if key != "limits" and key not in _ENVIRONMENT_ONLY
        ]
        return "\n".join([*lines, "", "[limits]", *(_toml_line(k, v) for k, v in limits.items())])


_FIELDS: Final = {f.name: f for f in msgspec.structs.fields(Settings)}
_LIMIT_FIELDS: Final = {f.name: f for f in msgspec.structs.fields(Limits)}


def load_settings(
    *, config_path: Path | None = None, flags: Mapping[str, Any] | None = None
) -> Settings:
    """Settings from all sources.

    `config_path` None means the usual file, which need not exist; a file that is named must.
    `flags` maps keys ("limits.rows" for a limit) to text or values; None is a flag not given.
    Raises SettingsError.
    """
    values: dict[str, Any] = {
        "runtime_dir": str(endpoints.runtime_dir()),
        "state_dir": str(endpoints.state_dir()),
        "cache_dir": str(endpoints.cache_dir()),
        "config_dir": str(endpoints.config_dir()),
        "keys_dir": str(endpoints.config_dir() / "keys"),
    }
    limits: dict[str, Any] = msgspec.to_builtins(DEFAULT_LIMITS)
    path = config_path or endpoints.config_dir() / "config.toml"
    for key, raw, source in (
        *_from_file(path, required=config_path is not None),
        *_from_environment(),
        *((key, raw, "command line") for key, raw in (flags or {}).items() if raw is not None),
    ):
        value = _convert(key, raw, source)
        if key.startswith("limits."):
            limits[key.removeprefix("limits.")] = value
        else:
            values[key] = value
    return Settings(**values, limits=Limits(**limits))


def parse_nbytes(text: str) -> int:
    """Bytes in text like "512MiB", "8G" or "1048576". Raises ValueError."""
    match = _SIZE.fullmatch(text)
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"{text!r} is no size; allowed are bytes, or a number with KiB, MiB, GiB")
    return int(float(match[1]) * _UNITS[match[2]])


def _from_file(path: Path, *, required: bool) -> Iterable[tuple[str, Any, str]]:
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if required:
            raise SettingsError(f"there is no configuration file {path}") from None
        return
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    for key, value in table.items():
        if key == "limits" and isinstance(value, dict):
            for name, limit in value.items():
                yield f"limits.{name}", limit, str(path)
        else:
            yield key, value, str(path)


def _from_environment() -> Iterable[tuple[str, Any, str]]:
    # Only names of settings count: clients have CIRCUITD_ variables of their own. An empty
    # variable is an unset one.
    for key in (*_FIELDS, *(f"limits.{name}" for name in _LIMIT_FIELDS)):
        name = _ENVIRONMENT_NAMES.get(key, "CIRCUITD_" + key.upper().replace(".", "_"))
        if key not in _ENVIRONMENT_ONLY and (value := os.environ.get(name)):
            yield key, value, name


def _convert(key: str, raw: Any, source: str) -> Any:
    """`raw` as the field `key` wants it. Raises SettingsError."""
    limit = key.removeprefix("limits.") if key.startswith("limits.") else None
    field = _FIELDS.get(key) if limit is None else _LIMIT_FIELDS.get(limit)
    if field is None or key == "limits":
        raise _unknown(key, source)
    if key in _ENVIRONMENT_ONLY:
        raise SettingsError(
            f"{source}: {key} can only be set as CIRCUITD_{key.upper()}, where clients see it, too"
        )
    try:
        value = msgspec.convert(_parsed(key, raw), field.type, strict=not isinstance(raw, str))
        if limit is not None and value < 1:
            raise ValueError("a limit is at least 1")
        if key in _PATHS:
            return str(Path(value).expanduser().absolute())
        if key == "data_roots":
            return tuple(str(Path(part).expanduser().absolute()) for part in value)
        if key == "listen":
            return tuple(_tcp(address) for address in value)
    except (msgspec.ValidationError, ValueError, InvalidRequest) as error:
        raise SettingsError(f"{source}: {key} cannot be {raw!r}: {error}") from None
    return value


def _parsed(key: str, raw: Any) -> Any:
    """Text split or scaled as the key's kind wants; everything else as it is."""
    if not isinstance(raw, str):
        return raw
    if key.endswith("_nbytes"):
        return parse_nbytes(raw)
    if key in _LISTS and raw != "auto":
        return tuple(part.strip() for part in raw.split(_LISTS[key]) if part.strip())
    return raw


def _tcp(address: str) -> str:
    endpoint = endpoints.parse_endpoint(address, bind=True)
    if endpoint.transport != "tcp":
        raise ValueError("the local socket is always there; this is for tcp://HOST:PORT")
    return str(endpoint)


def _unknown(key: str, source: str) -> SettingsError:
    known = [*(k for k in _FIELDS if k != "limits"), *(f"limits.{k}" for k in _LIMIT_FIELDS)]
    nearest = get_close_matches(key, known, n=3, cutoff=0.5)
    allowed = f"nearest: {', '.join(nearest)}" if nearest else f"allowed: {', '.join(known)}"
    return SettingsError(f"{source}: there is no setting {key!r}; {allowed}")


def _toml_line(key: str, value: Any) -> str:
    if value is None:
        return f"# {key} = (decided at start)"
    if isinstance(value, bool):
        return f"{key} = {str(value).lower()}"
    if isinstance(value, (list, tuple)):
        return f"{key} = [{', '.join(_toml_string(str(v)) for v in value)}]"
    return f"{key} = {_toml_string(value) if isinstance(value, str) else value}"


def _toml_string(text: str) -> str:
    # JSON strings are TOML basic strings, but for DEL, which no path here should hold.
    return msgspec.json.encode(text).decode()
