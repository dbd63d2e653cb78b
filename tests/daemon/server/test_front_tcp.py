"""TCP: with CURVE and an allow-list, or on loopback when that was asked for, or not at all."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from circuit_protocol import requests as r
from circuit_protocol.errors import Forbidden
from circuit_protocol.keys import KeyPair, allow_client, disallow_client, make_key_pair
from circuit_protocol.replies import Failed, ForwardResult, StatusReport, Welcome
from front_harness import house

LOOPBACK = ("tcp://127.0.0.1:0",)


async def test_tcp_without_keys_is_refused_and_nothing_is_left_behind(tmp_path: Path) -> None:
    with pytest.raises(Forbidden, match="keys"):
        async with house(tmp_path, listen=LOOPBACK):
            pass
    with pytest.raises(Forbidden):
        async with house(tmp_path, listen=("tcp://0.0.0.0:0",), allow_insecure_loopback_tcp=True):
            pass
    assert {p.name for p in tmp_path.rglob("circuitd*")} <= {"circuitd.sock"}  # noqa: ASYNC240


async def test_plain_tcp_on_loopback_needs_to_be_asked_for(tmp_path: Path) -> None:
    async with house(tmp_path, listen=LOOPBACK, allow_insecure_loopback_tcp=True) as h:
        client = await h.client(endpoint=h.front.endpoints[1])
        assert isinstance(await client.ask(client.forward()), ForwardResult)


async def test_files_are_not_shown_to_those_who_came_over_tcp(tmp_path: Path) -> None:
    async with house(tmp_path, listen=LOOPBACK, allow_insecure_loopback_tcp=True) as h:
        client = await h.client(hello=False, endpoint=h.front.endpoints[1])
        welcome = await client.hello()
        assert isinstance(welcome, Welcome)
        assert welcome.capabilities == ()
        refused = await client.ask(r.MapTensor(id="m", handle="t-0"))
        assert isinstance(refused, Failed)
        assert refused.error.code == "forbidden"


async def test_those_who_came_over_tcp_say_by_no_path_where_a_model_is_written(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, listen=LOOPBACK, allow_insecure_loopback_tcp=True) as h:
        client = await h.client(endpoint=h.front.endpoints[1])
        for kind in (r.PackModel, r.UnpackModel):
            for to in (str(tmp_path / "there"), "../there", "..", "~root"):
                refused = await client.ask(kind(id=client.new_id(), model="m", to=to))
                assert isinstance(refused, Failed)
                assert refused.error.code == "forbidden"


async def test_a_key_opens_the_door_while_it_is_on_the_list(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    server = make_key_pair("server", keys)
    friend = make_key_pair("friend", tmp_path / "friend")
    stranger = make_key_pair("stranger", tmp_path / "stranger")
    allow_client("friend", friend.public, keys)
    async with house(tmp_path, listen=LOOPBACK) as h:
        endpoint = h.front.endpoints[1]

        async def knock(pair: KeyPair, timeout_s: float) -> object:
            client = await h.client(
                hello=False, endpoint=endpoint, server_public_key=server.public, keys=pair
            )
            async with asyncio.timeout(timeout_s):  # a refused client cannot even send
                return await client.ask(r.Hello(id="h", versions=("1.0",)))

        await knock(friend, 5)
        friendly = h.clients[-1]
        assert isinstance(await friendly.ask(r.Status(id="s")), StatusReport)
        (known,) = h.front.clients.values()
        assert known.principal == friend.public
        with pytest.raises(TimeoutError):
            await knock(stranger, 0.3)
        disallow_client("friend", keys)
        with pytest.raises(TimeoutError):
            await knock(friend, 0.3)
        local = await h.client()
        assert isinstance(await local.ask(r.Status(id="s")), StatusReport)


def test_the_front_process_is_started_without_torch() -> None:
    code = "import sys, circuitd.server.serve; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
