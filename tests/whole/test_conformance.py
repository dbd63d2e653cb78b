"""One protocol, three clients: Node from the specification alone, Python sync and async.

The same list of checks runs over ipc, tcp and tcp with CURVE, against one daemon.
"""

import json
import os
import re
import shutil
import subprocess
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from circuit_client import connect, connect_async
from whole.conformance import CHECKS
from whole.running import Address

NODE = Path(__file__).parent / "node"
NODE_TIMEOUT_S = 1500

#: What only a client that writes its own frames can check.
WIRE_ONLY = {
    "hello_comes_first",
    "other_major_version_is_refused",
    "malformed_frame_is_answered",
    "nesting_without_end_is_answered",
    "unknown_request_type_names_the_nearest",
    "wrong_field_is_named",
    "unknown_fields_are_ignored",
    "duplicate_id_is_a_conflict",
    "message_over_the_limits_is_too_large",
}


@pytest.fixture(scope="session")
def node() -> str:
    """Node with the packages of the conformance client; required where CI is set."""
    program = shutil.which("node")
    required = bool(os.environ.get("CI"))
    if program is None:
        if required:
            pytest.fail("CI is set, and there is no node")
        pytest.skip("there is no node on this machine")
    if not (NODE / "node_modules" / "zeromq").is_dir():
        install = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--silent"]
        installed = subprocess.run(install, cwd=NODE, capture_output=True, text=True, check=False)
        if installed.returncode != 0:
            if required:
                pytest.fail(f"CI is set, and npm failed:\n{installed.stderr}")
            pytest.skip("the packages of the node client cannot be installed")
    return program


def test_node_client_conforms(node: str, address: Address):
    keys = []
    if address.pair is not None:
        assert address.server_key is not None
        # With a sign between, as a key may begin with a dash.
        keys.append(f"--server-key={address.server_key}")
        keys.append(f"--public-key={address.pair.public}")
        keys.append(f"--secret-key={address.pair.secret}")
    run = subprocess.run(
        [node, str(NODE / "conformance.mjs"), address.endpoint, *keys],
        capture_output=True,
        text=True,
        timeout=NODE_TIMEOUT_S,
        check=False,
    )
    reports = [json.loads(line) for line in run.stdout.splitlines()]
    failed = [f"{r['check']}: {r['error']}" for r in reports if not r["ok"]]
    assert not failed, "\n".join(failed)
    assert run.returncode == 0, run.stderr
    assert {r["check"] for r in reports} == node_checks()


def node_checks() -> set[str]:
    """The names of the checks in the Node program."""
    source = (NODE / "conformance.mjs").read_text()
    return set(re.findall(r"^  async (\w+)\(\) \{$", source, re.MULTILINE))


def test_all_clients_run_the_same_list():
    assert set(CHECKS) | WIRE_ONLY == node_checks()
    assert not set(CHECKS) & WIRE_ONLY


def options(address: Address) -> dict:
    return {
        "endpoint": address.endpoint,
        "server_key": address.server_key,
        "key": address.key,
        "timeout_s": 60.0,
        "start": False,
        "client": "conformance",
    }


@pytest.mark.parametrize("name", CHECKS)
async def test_sync_client_conforms(name: str, address: Address):
    @asynccontextmanager
    async def connected():
        with connect(**options(address)) as c:
            yield c

    async with connected() as c:
        await CHECKS[name](c, connected)


@pytest.mark.parametrize("name", CHECKS)
async def test_async_client_conforms(name: str, address: Address):
    def connected():
        return connect_async(**options(address))

    async with connected() as c:
        await CHECKS[name](c, connected)
