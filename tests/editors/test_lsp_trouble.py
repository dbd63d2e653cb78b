"""What an editor does to a server, and a daemon to both: speed, size, loss, nonsense."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from lsprotocol import types
from pygls.exceptions import JsonRpcException

from circuit_client.cli.app import run
from circuit_lsp.errors import CODES
from circuit_protocol.keys import make_key_pair
from editors.test_lsp_features import SOURCE, lsp_range
from lsp_client import Editor, at
from whole.running import RunningDaemon


@pytest.fixture
def own_daemon() -> Iterator[RunningDaemon]:
    """A daemon that a test may harm."""
    running = RunningDaemon()
    yield running
    running.close()


async def test_of_edits_faster_than_answers_only_the_last_is_answered(daemon, editors):
    editor = await editors(daemon, options={"session": "fast", "enabled": True, "debounceMs": 1})
    uri = editor.open(SOURCE)
    await editor.fresh(uri)
    editor.forget()
    end = lsp_range(5, 0, 5, 0)
    for _ in range(60):
        editor.change(uri, "x", end)
        await asyncio.sleep(0)
    heat = await editor.fresh(uri)
    told = [h["version"] for h in editor.told["circuit/heat"]]
    assert told == sorted(told)
    assert told[-1] == editor.versions[uri]
    assert heat["covered"]["end"] == at(5, 60)


async def test_marks_asked_for_while_typing_are_those_of_the_last_text(daemon, editors):
    editor = await editors(daemon, options={"session": "pull", "enabled": True})
    uri = editor.open(SOURCE)
    await editor.fresh(uri)
    params = types.SemanticTokensParams(text_document=types.TextDocumentIdentifier(uri=uri))
    editor.change(uri, "y = 2\n" * 3)
    first = asyncio.ensure_future(editor.client.text_document_semantic_tokens_full_async(params))
    editor.change(uri, "z = 3\n")
    second = await editor.within(editor.client.text_document_semantic_tokens_full_async(params))
    assert list((await editor.within(first)).data) == list(second.data)


async def test_a_cancelled_request_ends_at_once(daemon, editors):
    editor = await editors(daemon, options={"session": "cancel"})
    await editor.connected()
    protocol = editor.client.protocol
    asked = protocol.send_request_async(
        "circuit/node/samples",
        {"node": {"site": "1.attn.q", "channel": 3}, "nWindows": 64, "context": 1000},
        msg_id="slow",
    )
    protocol.notify(types.CANCEL_REQUEST, types.CancelParams(id="slow"))
    with pytest.raises(JsonRpcException) as caught:
        await editor.within(asked)
    assert caught.value.code == -32800
    assert (await editor.ask("circuit/status"))["state"] == "connected"


async def test_long_documents_are_read_around_the_cursor(daemon, editors):
    editor = await editors(daemon, options={"session": "long", "enabled": True})
    lines = [f"value_{i} = compute(item_{i}, {i})\n" for i in range(5000)]
    uri = editor.open("".join(lines))
    top = await editor.fresh(uri)
    assert not top["isWhole"]
    assert top["covered"]["start"] == at(0, 0)
    assert top["nTokensLeftOut"] > 10_000
    assert "tokens are left out" in top["note"]
    editor.forget()
    editor.tell("circuit/document/focus", {"uri": uri, "position": at(2500, 0)})
    middle = await editor.fresh(uri)
    assert middle["covered"]["start"]["line"] < 2500 < middle["covered"]["end"]["line"]
    editor.forget()
    version = editor.change(uri, "edited", lsp_range(4000, 0, 4000, 5))
    edited = await editor.fresh(uri, version)
    assert edited["covered"]["start"]["line"] < 4000 <= edited["covered"]["end"]["line"]
    detail = await editor.ask("circuit/document/token", {"uri": uri, "position": at(10, 3)})
    assert detail["range"]["start"]["line"] == 10, "far from the cursor, too"


async def test_binary_and_huge_documents_are_refused_in_words(daemon, editors):
    editor = await editors(daemon, options={"session": "huge", "enabled": True})
    await editor.connected()
    binary = editor.open("a\0b", uri="file:///project/b.py")
    told = await editor.heard("circuit/heat", lambda h: h["uri"] == binary)
    assert (told["state"], "no text" in told["note"]) == ("unavailable", True)
    huge = editor.open("x = 1\n" * 1_000_000, uri="file:///project/h.py")
    told = await editor.heard("circuit/heat", lambda h: h["uri"] == huge)
    assert "too large" in told["note"]
    surrogate = editor.open("s = '\ud83d'\n", uri="file:///project/s.py")
    assert (await editor.fresh(surrogate))["isWhole"]
    empty = editor.open("", uri="file:///project/e.py")
    assert (await editor.fresh(empty))["tokens"] == []


async def test_without_a_daemon_it_is_quiet_and_starts_none(tmp_path, editors):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CIRCUIT")}
    for name in ("RUNTIME", "STATE", "CACHE", "CONFIG"):
        environment[f"CIRCUITD_{name}_DIR"] = str(tmp_path / name.lower())
    editor = await Editor.start(environment, options={"enabled": True})
    status = await editor.heard("circuit/statusChanged", lambda s: s["state"] == "absent")
    assert status["hint"] == "`circuitd start` starts one"
    uri = editor.open(SOURCE)
    told = await editor.heard("circuit/heat")
    assert told["state"] == "unavailable"
    assert types.WINDOW_SHOW_MESSAGE not in editor.told
    with pytest.raises(JsonRpcException) as caught:
        await editor.ask("circuit/models/list")
    assert caught.value.code == CODES["connect_error"]
    editor.change(uri, "x = 2\n")
    assert (await editor.ask("circuit/document/heat", {"uri": uri}))["state"] == "unavailable"
    off = await editor.ask("circuit/daemon/connect", {"off": True})
    assert off["state"] == "off"
    wrong = await editor.ask("circuit/daemon/connect", {"endpoint": "nonsense://x"})
    assert (wrong["state"], "nonsense://x" in wrong["sentence"]) == ("refused", True)
    assert not (tmp_path / "runtime" / "circuitd.json").exists()
    await editor.stop()


async def test_the_daemon_may_die_and_come_back_under_it(own_daemon, editors):
    editor = await editors(own_daemon, options={"session": "again", "enabled": True})
    first = await editor.connected()
    uri = editor.open(SOURCE)
    await editor.fresh(uri)
    editor.forget()
    asked = asyncio.ensure_future(
        editor.ask("circuit/node/samples", {"node": {"site": "1.attn.q", "channel": 3}})
    )
    await editor.ask("circuit/status")
    os.killpg(own_daemon.process.pid, signal.SIGKILL)
    own_daemon.process.wait()
    with pytest.raises(JsonRpcException) as caught:
        await editor.within(asked)
    assert caught.value.code == CODES["connect_error"]
    lost = await editor.heard("circuit/heat", lambda h: h["state"] == "unavailable")
    assert lost["note"]
    own_daemon.start()
    second = await editor.connected()
    assert second["instance"] != first["instance"]
    assert (await editor.fresh(uri))["tokens"]
    stopped = await editor.ask("circuit/daemon/stop", {"drain": False})
    assert stopped["state"] in ("connecting", "absent")


async def test_over_tcp_with_keys_and_from_the_command_line(daemon, editors):
    address = daemon.address("curve")
    arguments = ("--endpoint", address.endpoint, "--server-key", str(address.server_key))
    editor = await editors(
        daemon, options={"session": "curve"}, arguments=(*arguments, "--key", str(address.key))
    )
    status = await editor.connected()
    assert status["endpoint"] == address.endpoint
    here = await editor.ask("circuit/daemon/connect", {"here": True})
    assert (here["state"], here["endpoint"]) == ("connected", daemon.address("ipc").endpoint)
    again = await editor.ask("circuit/daemon/connect", {})
    assert again["endpoint"] == address.endpoint, "without words, what was set"


async def test_keys_that_do_not_fit_are_told_apart_from_no_daemon(daemon, editors, tmp_path):
    address = daemon.address("curve")
    make_key_pair("stranger", tmp_path)
    own, stranger, none = str(address.key), tmp_path / "stranger.secret", tmp_path / "none.secret"
    editor = await editors(daemon, options={"session": "keys"})
    await editor.connected()
    for key, server_key, sentence, hint in (
        (stranger, address.server_key, "refused this client's key", "circuitd keys allow"),
        (own, daemon.client.public, "server key is not this daemon's", "Compare the fingerprint"),
        (own, "#" * 40, "key", None),
        (none, address.server_key, "no such key", "circuitd keys"),
    ):
        place = {"endpoint": address.endpoint, "serverKey": server_key, "key": str(key)}
        status = await editor.ask("circuit/daemon/connect", place)
        assert status["state"] == "refused"
        assert sentence in status["sentence"]
        assert hint is None or hint in status["hint"]
    with pytest.raises(JsonRpcException, match="no such key"):
        await editor.ask("circuit/models/list")


def test_it_serves_over_tcp_and_leaves_with_its_editor(daemon):
    process = subprocess.Popen(
        [sys.executable, "-m", "circuit_client", "lsp", "--tcp", "127.0.0.1:0"],
        env=daemon.environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    line = process.stderr.readline()
    port = int(line.rpartition(":")[2])

    async def talk() -> None:
        from pygls.lsp.client import LanguageClient

        client = LanguageClient("tcp", "1")
        await client.start_tcp("127.0.0.1", port)
        result = await client.initialize_async(
            types.InitializeParams(capabilities=types.ClientCapabilities())
        )
        assert result.server_info is not None
        assert result.server_info.name == "circuit"
        await client.shutdown_async(None)
        client.exit(None)

    asyncio.run(asyncio.wait_for(talk(), 60))
    process.stderr.close()
    assert process.wait(60) == 0


def test_the_command_says_what_is_wrong_with_an_address():
    ended = subprocess.run(
        [sys.executable, "-m", "circuit_client", "lsp", "--tcp", "0.0.0.0:1"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "listens on this machine only" in ended.stderr


def test_without_its_extra_the_command_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pygls", None)  # as where it was never installed
    assert run(["lsp"]) == 1
    assert "pip install 'circuitd[lsp]'" in capsys.readouterr().err


def test_neither_it_nor_what_it_starts_with_imports_torch():
    program = (
        "import sys; import circuit_lsp.main; "
        "bad = {'torch', 'circuitd'} & {m.partition('.')[0] for m in sys.modules}; "
        "sys.exit(f'{bad}' if bad else 0)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
