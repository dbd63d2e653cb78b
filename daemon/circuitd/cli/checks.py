"""What `circuitd doctor` looks at: each check answers ok, warn or fail, and what to do.

Checks only look. They import nothing heavy: torch is tried in a process of its own, since a broken
CUDA installation can hang or kill whoever imports it.
"""

import json
import os
import platform
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Literal

import msgspec

from circuit_protocol import endpoints
from circuit_protocol.discovery import read_discovery
from circuit_protocol.errors import CircuitError
from circuit_protocol.version import PROTOCOL_VERSION, is_compatible
from circuitd.cli.extras import EXTRAS, install_of, missing_of
from circuitd.cli.text import size
from circuitd.settings import Settings
from circuitd.store import locks, segments

Verdict = Literal["ok", "warn", "fail"]

_MIB: Final = 1 << 20
_TORCH_TIMEOUT_S: Final = 120.0
_TORCH: Final = """
import json, torch
devices = [
    f"cuda:{i} {torch.cuda.get_device_name(i)}, {torch.cuda.mem_get_info(i)[1] >> 30} GiB"
    for i in range(torch.cuda.device_count())
]
print(json.dumps({"version": torch.__version__, "devices": devices or ["cpu"]}))
"""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the doctor: what was looked at, how it is, what to do about it."""

    name: str
    verdict: Verdict
    found: str
    advice: str = ""


def run_checks(settings: Settings) -> Iterator[Check]:
    """All checks, each as soon as it is done."""
    checks: tuple[Callable[[Settings], Iterator[Check]], ...] = (
        check_python,
        check_packages,
        check_torch,
        check_directories,
        check_socket,
        check_daemon,
        check_disk,
        check_segments,
        check_limits,
        check_models,
        check_keys,
    )
    for check in checks:
        yield from check(settings)


def check_python(_: Settings) -> Iterator[Check]:
    """The interpreter."""
    # One older than 3.11 cannot have imported this.
    found = f"{platform.python_version()} at {sys.executable}"
    yield Check(name="python", verdict="ok", found=found)


def check_packages(_: Settings) -> Iterator[Check]:
    """The distribution and its extras; only `daemon` is needed to serve."""
    for name in ("circuitd", "msgspec", "pyzmq", "numpy"):
        found = _version(name)
        yield Check(
            name=name,
            verdict="ok" if found else "fail",
            found=found or "not installed",
            advice="" if found else "pip install circuitd",
        )
    for extra in EXTRAS:
        missing, command = missing_of(extra), install_of(extra)
        if not missing:
            yield Check(name=f"extra {extra}", verdict="ok", found="installed")
        elif extra == "daemon":
            found = f"missing: {', '.join(missing)}"
            yield Check(name="extra daemon", verdict="fail", found=found, advice=command)
        else:
            found = f"not installed; optional: {command}"
            yield Check(name=f"extra {extra}", verdict="ok", found=found)


def check_torch(_: Settings) -> Iterator[Check]:
    """That torch can be imported, and which devices it sees."""
    if _version("torch") is None:
        return  # said above
    try:
        done = subprocess.run(
            [sys.executable, "-c", _TORCH],
            capture_output=True,
            text=True,
            timeout=_TORCH_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        found = f"importing it took more than {_TORCH_TIMEOUT_S:.0f} s"
        yield Check(name="torch", verdict="fail", found=found, advice="Reinstall torch")
        return
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        yield Check(name="torch", verdict="fail", found=last, advice="Reinstall torch")
        return
    report = json.loads(done.stdout.splitlines()[-1])
    yield Check(
        name="torch", verdict="ok", found=f"{report['version']}; {', '.join(report['devices'])}"
    )


def check_directories(settings: Settings) -> Iterator[Check]:
    """That the daemon's directories are there or can be made, private and writable."""
    for name in ("runtime_dir", "state_dir", "cache_dir", "config_dir"):
        path = Path(getattr(settings, name))
        label = name.replace("_dir", " directory")
        existing = next(p for p in (path, *path.parents) if p.exists())
        if not os.access(existing, os.W_OK):
            yield Check(
                name=label,
                verdict="warn" if name == "config_dir" else "fail",
                found=f"{existing} is not writable",
                advice=f"Make it writable, or set CIRCUITD_{name.upper()}",
            )
            continue
        if existing != path:
            yield Check(name=label, verdict="ok", found=f"{path} will be made")
            continue
        try:
            if name == "runtime_dir":
                endpoints.check_private_dir(path)
        except CircuitError as error:
            yield Check(
                name=label,
                verdict="fail",
                found=f"{path}: {error.found}",
                advice=error.hint or error.message,
            )
        else:
            mode = stat.S_IMODE(path.stat().st_mode)
            yield Check(name=label, verdict="ok", found=f"{path} (mode {mode:04o})")


def check_socket(settings: Settings) -> Iterator[Check]:
    """That the local socket's path can be one, and that ZeroMQ can do what is needed."""
    import zmq

    try:
        endpoints.parse_endpoint(settings.endpoints[0])
    except CircuitError as error:
        yield Check(
            name="socket path", verdict="fail", found=str(error.found), advice=error.hint or ""
        )
    else:
        yield Check(name="socket path", verdict="ok", found=settings.endpoints[0])
    lacking = [feature for feature in ("ipc", "curve") if not zmq.has(feature)]
    yield Check(
        name="ZeroMQ",
        verdict="fail" if "ipc" in lacking else "warn" if lacking else "ok",
        found=zmq.zmq_version() + (f", without {', '.join(lacking)}" if lacking else ""),
        advice="Install pyzmq's own wheel: pip install --force-reinstall pyzmq" if lacking else "",
    )


def check_daemon(settings: Settings) -> Iterator[Check]:
    """Whether a daemon runs, speaks this version, and whether a dead one left something."""
    runtime_dir = Path(settings.runtime_dir)
    try:
        daemon = read_discovery(runtime_dir)
        holder = locks.holder(runtime_dir / endpoints.LOCK_NAME)
    except CircuitError as error:
        yield Check(name="daemon", verdict="fail", found=error.message, advice=error.hint or "")
        return
    if daemon is None and holder is None:
        yield Check(name="daemon", verdict="ok", found="does not run (start it: circuitd start)")
        names = (endpoints.DISCOVERY_NAME, endpoints.SOCKET_NAME, endpoints.WORKERS_NAME)
        left = [name for name in names if (runtime_dir / name).exists()]
        if left:
            yield Check(
                name="leftovers",
                verdict="warn",
                found=f"{', '.join(left)} of a daemon that died",
                advice="Nothing to do: the next start removes them",
            )
    elif daemon is None:
        yield Check(
            name="daemon",
            verdict="warn",
            found=f"process {holder} has the lock but has not announced itself",
            advice="It may be starting; if it stays so: circuitd stop --now",
        )
    elif not is_compatible(daemon.version):
        yield Check(
            name="daemon",
            verdict="fail",
            found=f"process {daemon.pid} speaks protocol {daemon.version}, not {PROTOCOL_VERSION}",
            advice="circuitd restart",
        )
    else:
        yield Check(name="daemon", verdict="ok", found=f"process {daemon.pid}, {daemon.endpoint}")


def check_disk(settings: Settings) -> Iterator[Check]:
    """Room where jobs, logs and cached results go."""
    for name in ("state_dir", "cache_dir"):
        path = Path(getattr(settings, name))
        existing = next(p for p in (path, *path.parents) if p.exists())
        free = shutil.disk_usage(existing).free
        yield Check(
            name=f"disk for {name.removesuffix('_dir')}",
            verdict="fail" if free < 50 * _MIB else "warn" if free < 1024 * _MIB else "ok",
            found=f"{size(free)} free",
            advice=f"Free some, or set CIRCUITD_{name.upper()}" if free < 1024 * _MIB else "",
        )


def check_segments(settings: Settings) -> Iterator[Check]:
    """Room for held tensors, best in shared memory, and directories that dead daemons left."""
    asked = settings.segment_root
    root = Path(asked) if asked else segments.choose_root(1024 * _MIB)
    free = shutil.disk_usage(root).free
    found = f"{size(free)} free in {root}"
    if root.name != "shm" and asked is None:
        advice = "Give /dev/shm 1 GiB or more (Docker: --shm-size=4g); a disk is slower"
        yield Check(name="held tensors", verdict="warn", found=found, advice=advice)
    elif free < 256 * _MIB:
        advice = "Large results will be refused: free some, or set segment_root"
        yield Check(name="held tensors", verdict="warn", found=found, advice=advice)
    else:
        yield Check(name="held tensors", verdict="ok", found=found)
    if abandoned := segments.abandoned():
        yield Check(
            name="abandoned tensors",
            verdict="warn",
            found=", ".join(map(str, abandoned)),
            advice="Nothing to do: the next start removes them",
        )


def check_limits(_: Settings) -> Iterator[Check]:
    """How many files a process may open: each client and mapped tensor takes some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 1024:
        advice = f"ulimit -n {min(hard, 65536)}"
        yield Check(name="open files", verdict="warn", found=str(soft), advice=advice)
    else:
        yield Check(name="open files", verdict="ok", found=str(soft))


def check_models(settings: Settings) -> Iterator[Check]:
    """That the default model can be found."""
    from circuitd.store.roots import artefact_roots, list_models

    roots = artefact_roots(settings.data_roots)
    names = [entry.name for entry in list_models(roots)]
    if settings.default_model in names:
        yield Check(name="models", verdict="ok", found=", ".join(names))
    else:
        yield Check(
            name="models",
            verdict="warn",
            found=f"no {settings.default_model} in {', '.join(map(str, roots)) or 'any data root'}",
            advice="Set CIRCUITD_DATA to an artefact tree, or default_model to one of its models",
        )


def check_keys(settings: Settings) -> Iterator[Check]:
    """That TCP, if it is asked for, has a key."""
    from circuit_protocol.keys import allowed_clients, load_key_pair

    directory = Path(settings.keys_dir)
    try:
        load_key_pair("server", directory)
        clients = allowed_clients(directory)
    except CircuitError as error:
        if error.code == "not_found":
            needed = bool(settings.listen) and not settings.allow_insecure_loopback_tcp
            yield Check(
                name="keys",
                verdict="fail" if needed else "ok",
                found="none" + ("" if needed else " (only TCP needs them)"),
                advice="circuitd keys server" if needed else "",
            )
        else:
            advice = error.hint or ""
            yield Check(name="keys", verdict="fail", found=error.message, advice=advice)
    else:
        yield Check(name="keys", verdict="ok", found=f"{len(clients)} clients allowed over TCP")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
