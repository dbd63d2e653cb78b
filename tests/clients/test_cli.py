"""The command line, in this process, against the scripted daemon."""

import ast
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from circuit_client.cli import hook as hook_module
from circuit_client.cli.app import COMMANDS, circuit, run
from circuit_client.cli.command import Command, Settings
from circuit_protocol import errors, replies, requests
from circuit_protocol.tensors import Frame, pack, unpack
from scripted_daemon import Out, Script, ScriptedDaemon, daemon

WORDS = {1: b"if", 2: b" x", 3: b":\n", 4: b"\xe4\xbd"}
Run = Callable[..., tuple[int, str, str]]


def detokenize(request: requests.Detokenize, frames: list) -> Iterator[Out]:
    rows = tuple(
        replies.TextPiece(text="", data=b"".join(WORDS[t] for t in row)) for row in request.tokens
    )
    yield replies.Texts(id="x", rows=rows)


def forward(request: requests.Forward, frames: list) -> Iterator[Out]:
    body: list[Frame] = []
    tokens = np.array([[1, 2, 3]], np.int32)
    top = replies.TopK(
        ids=pack(np.tile(np.array([[[4, 1]]], np.int32), (1, 3, 1)), body),
        logprobs=pack(np.log(np.tile([[[0.75, 0.125]]], (1, 3, 1)).astype(np.float32)), body),
    )
    yield (
        replies.ForwardResult(
            id="x",
            tokens=pack(tokens, body),
            lengths=pack(np.array([3]), body),
            loss=1.5,
            token_loss=pack(np.array([[1.0, 2.0, np.nan]], np.float32), body),
            top_k=top if request.top_k else None,
        ),
        body,
    )


def hook(request: requests.Hook, frames: list) -> Iterator[Out]:
    body: list[Frame] = []
    (record,) = request.records
    width = len(record.channels or (0, 1, 2))
    values = np.zeros((1, 3, width), np.float32)
    values[0, :, 0] = [0.5, -2.0, 1.0]
    yield (
        replies.HookResult(
            id="x",
            tokens=pack(np.array([[1, 2, 3]], np.int32), body),
            lengths=pack(np.array([3]), body),
            recorded=(replies.Recorded(site=record.site, value=pack(values, body)),),
        ),
        body,
    )


def ablate(request: requests.Ablate, frames: list) -> Iterator[Out]:
    body: list[Frame] = []
    n = 3 if request.every else 1
    losses = np.array([0.9, 0.05, 0.2])[:n]
    things = tuple(replies.AblatedThing(layer=1, head=h) for h in range(n)) if request.every else ()
    yield replies.Progress(id="x", stage="ablate", done=1, total=3, final=False)
    yield (
        replies.AblateResult(
            id="x",
            model_loss=0.1,
            model_accuracy=0.99,
            base_loss=0.1,
            base_accuracy=0.99,
            losses=pack(losses, body),
            deltas=pack(losses - 0.1, body),
            accuracies=pack(np.array([0.5, 1.0, 0.9])[:n], body),
            things=things,
        ),
        body,
    )


def evaluate(request: requests.EvaluateTasks, frames: list) -> Iterator[Out]:
    scores = (
        replies.TaskScore(task="hard", loss=0.6, accuracy=0.6, rows=8),
        replies.TaskScore(task="easy", loss=0.01, accuracy=1.0, rows=8),
        replies.TaskScore(
            task="odd",
            loss=None,
            accuracy=None,
            error=errors.NotFound("no such token").to_info(),
        ),
    )
    yield replies.TaskScores(id="x", scores=scores, split=request.split)


def generate(request: requests.Generate, frames: list) -> Iterator[Out]:
    for i, data in enumerate([b"a", b"\xe4\xbd", b"\xa0", b"\x1b"]):
        yield replies.GenerateStep(
            id="x", token=i, data=data, logprob=-0.5, position=i, final=False
        )
    yield replies.GenerateResult(id="x", tokens=(0, 1, 2, 3), text="a你", stopped_by="length")


SCRIPTS: dict[type, Script] = {
    requests.Detokenize: detokenize,
    requests.Forward: forward,
    requests.Hook: hook,
    requests.Ablate: ablate,
    requests.EvaluateTasks: evaluate,
    requests.Generate: generate,
}


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedDaemon]:
    with daemon(tmp_path, dict(SCRIPTS)) as d:
        monkeypatch.setenv("CIRCUIT_ENDPOINT", d.endpoint)
        for name in ("COLORTERM", "NO_COLOR", "CIRCUIT_MODEL", "CIRCUIT_THEME", "COLORFGBG"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setenv("COLUMNS", "90")
        yield d


@pytest.fixture
def type_(capsys: pytest.CaptureFixture[str]) -> Run:
    def typed(*arguments: str) -> tuple[int, str, str]:
        code = run(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return typed


# -------------------------------------------------------------------------------- each command


def test_forward_shows_losses_on_tokens_and_what_comes_next(
    fake: ScriptedDaemon, type_: Run
) -> None:
    code, out, err = type_("forward", "if x:\n")
    assert (code, err) == (0, "")
    assert "if x⁴⟦:↵⟧⁹" in out
    assert "loss 1.5000 nats per token (perplexity 4.5) over 2 tokens" in out
    assert re.search(r"\\xe4\\xbd +4 +75\.0%", out)
    assert fake.wait_for(requests.Forward).targets == "next"


@pytest.mark.parametrize(
    ("color", "code"), [("truecolor", "48;2;255;215;0m"), ("256", "48;5;220m"), ("16", "97;41m")]
)
def test_forward_in_colours(fake: ScriptedDaemon, type_: Run, color: str, code: str) -> None:
    _, out, _ = type_("forward", "x", "--color", color)
    assert f"{code}⟦:↵⟧" in out


def test_forward_in_ascii(fake: ScriptedDaemon, type_: Run) -> None:
    _, out, _ = type_("forward", "x", "--ascii")
    assert out.isascii()
    assert "if x4[:\\n]9" in out


def test_forward_in_json_has_each_tokens_own_loss(fake: ScriptedDaemon, type_: Run) -> None:
    code, out, _ = type_("forward", "x", "--json", "-k", "2")
    assert code == 0
    document = json.loads(out)
    (row,) = document["rows"]
    assert [t["loss"] for t in row["tokens"]] == [None, 1.0, 2.0]
    assert [t["text"] for t in row["tokens"]] == ["if", " x", ":\n"]
    assert row["next"][0] == {"id": 4, "text": "\ufffd", "probability": pytest.approx(0.75)}


def test_forward_reads_files_and_stdin(
    fake: ScriptedDaemon, type_: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    (tmp_path / "a.py").write_text("from a file")
    monkeypatch.setattr("sys.stdin", io.StringIO("from stdin"))
    type_("forward", "-", "-f", str(tmp_path / "a.py"), "--json")
    assert fake.wait_for(requests.Forward).prompts.texts == ("from stdin", "from a file")
    type_("forward", "--tokens", "1,2,3", "--json")
    assert fake.wait_for(requests.Forward).prompts.tokens.shape == (1, 3)


def test_forward_passes_interventions_on(fake: ScriptedDaemon, type_: Run) -> None:
    type_("forward", "x", "-i", "zero:2.mlp.post_act[3,5]@-1", "-i", "scale:*.attn.v{head 3}*0.5")
    zero, scale = fake.wait_for(requests.Forward).interventions
    assert (zero.channels, zero.positions) == ((3, 5), (-1,))
    assert (scale.heads, scale.factor) == ((3,), 0.5)


def test_hook_shows_an_activation_on_its_tokens(fake: ScriptedDaemon, type_: Run) -> None:
    code, out, _ = type_("hook", "-s", "2.mlp.post_act[7]", "x")
    assert code == 0
    assert "2.mlp.post_act[7]  -2  ⁻⁹" in out
    assert "if⁺²⟦ x⟧⁻⁹:↵⁺⁴" in out


def test_hook_records_all_channels_that_are_named_of_a_site() -> None:
    named = ("2.mlp.post_act[7] 1.attn.v", "2.mlp.post_act[3,7]", "1.attn.v[2]", r"re:\d\.x[0]")
    found = hook_module._records(named, "none", 16)
    assert [(record.site, record.channels) for record in found] == [
        ("2.mlp.post_act", (7, 3)),
        ("1.attn.v", None),
        (r"re:\d\.x[0]", None),
    ]


def test_hook_without_channels_shows_the_strongest(fake: ScriptedDaemon, type_: Run) -> None:
    _, out, _ = type_("hook", "-s", "2.mlp.post_act", "x")
    assert "3 channels, 33.3% of the values not zero; strongest: 0" in out


def test_hook_saves_arrays(fake: ScriptedDaemon, type_: Run, tmp_path: Path) -> None:
    file = tmp_path / "acts.npz"
    code, out, err = type_("hook", "-s", "1.resid_mid", "x", "--save", str(file), "--json")
    assert code == 0
    assert "saved" in err
    assert np.load(file)["1.resid_mid"].shape == (1, 3, 3)
    assert json.loads(out)["recorded"][0]["site"] == "1.resid_mid"


def test_ablate_before_and_after(fake: ScriptedDaemon, type_: Run) -> None:
    code, out, _ = type_("ablate", "--task", "t", "--sites", "2.mlp.*")
    assert code == 0
    assert re.search(r"model +0\.1000 +99\.0%", out)
    assert re.search(r"mean-ablated +0\.9000 +50\.0%", out)
    assert "+0.8000 nats per side: worse than a guess" in out


def test_ablate_every_ranks_by_what_it_changes(fake: ScriptedDaemon, type_: Run) -> None:
    _, out, _ = type_("ablate", "--task", "t", "--every", "head", "--top", "2")
    rows = [line for line in out.splitlines() if re.match(r"^\d|^ +\d", line)]
    assert [re.search(r"head (\d)", row)[1] for row in rows] == ["0", "2"]  # pyright: ignore
    assert "1 more, --top shows them" in out
    _, out, _ = type_("ablate", "--task", "t", "--every", "head", "--json")
    masks = json.loads(out)["masks"]
    assert [m["name"] for m in masks] == [f"layer 1 head {h}" for h in range(3)]
    assert masks[1]["delta"] == pytest.approx(-0.05)


def test_evaluate_marks_passes(fake: ScriptedDaemon, type_: Run) -> None:
    code, out, _ = type_("tasks", "evaluate")
    assert code == 0
    lines = out.splitlines()
    assert lines[1].startswith("✓     easy")
    assert lines[2].startswith("✗     hard")
    assert "no such token" in lines[3]
    assert "1 of 3 tasks passed" in out


def test_generate_prints_text_as_it_comes_and_nothing_a_terminal_obeys(
    fake: ScriptedDaemon, type_: Run
) -> None:
    code, out, err = type_("generate", "x")
    assert (code, out) == (0, "a你␛\n")
    assert "4 tokens" in err
    _, out, _ = type_("generate", "x", "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line.get("token") for line in lines] == [0, 1, 2, 3, None]
    assert lines[-1]["text"] == "a你"


def test_a_watched_job_ends_in_what_its_command_would_have_printed(
    fake: ScriptedDaemon, type_: Run
) -> None:
    fake.scripts[requests.WatchJob] = lambda request, frames: ablate(
        requests.Ablate(
            id="x", model="m", input=requests.TaskInput(task="t"), every=requests.Every(of="head")
        ),
        frames,
    )
    code, out, _ = type_("jobs", "watch", "j1", "--json")
    progress, answer = (json.loads(line) for line in out.splitlines())
    assert code == 0
    assert progress["stage"] == "ablate"
    assert [m["name"] for m in answer["masks"]] == [f"layer 1 head {h}" for h in range(3)]


# -------------------------------------------------------------------------------------- errors


def test_a_file_that_is_no_text_is_the_callers_error(
    fake: ScriptedDaemon, type_: Run, tmp_path: Path
) -> None:
    (tmp_path / "code.py").write_bytes(b"x = '\xff'")
    code, out, err = type_("forward", "--file", str(tmp_path / "code.py"))
    assert (code, out) == (2, "")
    assert "no text in UTF-8" in err
    assert "at byte 5" in err


def test_an_error_of_the_caller_exits_2_and_says_what_to_do(
    fake: ScriptedDaemon, type_: Run
) -> None:
    def fail(request: Any, frames: list) -> Iterator[Out]:
        yield errors.NotFound("no such task", asked="wth_as", nearest=["with_as"], hint="Look")

    fake.scripts[requests.Ablate] = fail
    code, out, err = type_("ablate", "--task", "wth_as", "--layers", "0")
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "circuit: no such task",
        "  asked    wth_as",
        "  nearest  with_as",
        "  hint     Look",
    ]


def test_a_busy_daemon_exits_1(fake: ScriptedDaemon, type_: Run) -> None:
    def fail(request: Any, frames: list) -> Iterator[Out]:
        yield errors.Busy("queues are full", retry_after_s=2.0)

    fake.scripts[requests.Forward] = fail
    code, _, err = type_("forward", "x")
    assert code == 1
    assert "in 2 s" in err


def test_no_daemon_exits_1(type_: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIRCUITD_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("CIRCUIT_ENDPOINT", raising=False)
    code, _, err = type_("status", "--no-start")
    assert code == 1
    assert "no daemon runs on this machine" in err
    assert "Traceback" not in err
    code, _, err = type_("status", "--no-start", "--debug")
    assert "Traceback" in err


@pytest.mark.parametrize(
    "line",
    ["forwad x", "models descrbe", "forward", "ablate", "forward --nonsense x",
     "forward x -i zap:y", "ablate --task t --heads x", "forward --tokens 1,b",
     "forward -f /no/such/file"],
)  # fmt: skip
def test_mistakes_on_the_command_line_exit_2(fake: ScriptedDaemon, type_: Run, line: str) -> None:
    code, out, err = type_(*line.split())
    assert (code, out) == (2, "")
    assert err
    assert "Traceback" not in err


def test_ctrl_c_exits_130(
    fake: ScriptedDaemon, type_: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("circuit_client.sync.Connection.run", interrupted)
    code, out, err = type_("status")
    assert (code, out, err.strip()) == (130, "", "circuit: interrupted")


def test_the_nearest_command_is_offered(type_: Run) -> None:
    assert "Did you mean `forward`?" in type_("forwad")[2]


# ------------------------------------------------------------------------------ help and speed


def every_command(group: click.Group = circuit, path: str = "") -> Iterator[tuple[str, Command]]:
    for name in group.list_commands(click.Context(group)):
        found = group.get_command(click.Context(group), name)
        if isinstance(found, click.Group):
            yield from every_command(found, f"{path}{name} ")
        else:
            assert isinstance(found, Command), name
            yield f"{path}{name}", found


def test_every_command_has_help_and_examples_that_parse() -> None:
    for name, command in every_command():
        assert command.help, name
        assert command.examples, name
        for example in command.examples:
            words = shlex.split(example.split(" | ")[0].split(" < ")[0])
            if words[0] != "circuit":
                continue
            assert words[1 : 1 + len(name.split())] == name.split(), example
            context = click.Context(circuit, obj=Settings())
            command.make_context(name, words[1 + len(name.split()) :], parent=context)


def test_the_table_of_commands_says_what_they_say_of_themselves() -> None:
    for name, entry in COMMANDS.items():
        command = circuit.get_command(click.Context(circuit), name)
        assert command is not None
        assert command.get_short_help_str(limit=200).rstrip(".") == entry.help.rstrip(".")


def test_every_command_takes_the_common_options_and_json(type_: Run) -> None:
    for name, _ in every_command():
        code, out, _ = type_(*name.split(), "--help")
        assert code == 0
        assert "--json" in out
        assert "Examples:" in out


def test_help_needs_neither_sockets_nor_arrays() -> None:
    script = (
        "import sys; from circuit_client.cli.app import run; run(['--help']); "
        "print([m for m in ('zmq', 'numpy', 'asyncio', 'msgspec', 'torch') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert ast.literal_eval(done.stdout.splitlines()[-1]) == []


def test_no_command_imports_torch() -> None:
    modules = sorted({f"circuit_client.cli.{entry.module}" for entry in COMMANDS.values()})
    script = f"import sys, importlib; [importlib.import_module(m) for m in {modules}]; "
    script += "print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(type_: Run, shell: str) -> None:
    code, out, _ = type_("completion", shell)
    assert code == 0
    assert "_CIRCUIT_COMPLETE" in out


def test_completion_of_names_asks_a_running_daemon_only(
    fake: ScriptedDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from circuit_client.cli.arguments import TaskName

    def tasks(request: Any, frames: list) -> Iterator[Out]:
        names = ("with_as", "with_open", "for_while")
        found = tuple(replies.TaskSummary(name=n, description="", source="") for n in names)
        yield replies.TaskList(id="x", tasks=found)

    fake.scripts[requests.ListTasks] = tasks
    context = click.Context(circuit)
    option = click.Option(["--task"])
    items = TaskName().shell_complete(context, option, "with")
    assert [i.value for i in items] == ["with_as", "with_open"]
    monkeypatch.setenv("CIRCUIT_ENDPOINT", f"ipc://{tmp_path}/nobody.sock")
    assert TaskName().shell_complete(context, option, "with") == []


def test_packed_masks_travel_from_a_file(fake: ScriptedDaemon, type_: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "masks.npy", np.eye(3, dtype=bool))
    code, _, _ = type_("ablate", "--task", "t", "--packed", str(tmp_path / "masks.npy"))
    assert code == 0
    packed = fake.wait_for(requests.Ablate).packed
    assert unpack(packed, ()).tolist() == np.eye(3, dtype=bool).tolist()


def test_packing_names_a_path_from_here_and_says_what_it_saved(
    fake: ScriptedDaemon, type_: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convert(request: Any, frames: list) -> Iterator[Out]:
        yield replies.Progress(id="x", stage="reading", done=1, total=3, final=False)
        yield replies.ModelConverted(
            id="x", path=request.to, model_hash="ab", nbytes_before=3 << 20, nbytes_after=1 << 20
        )

    fake.scripts |= {requests.PackModel: convert, requests.UnpackModel: convert}
    monkeypatch.chdir(tmp_path)
    code, out, _ = type_("models", "pack", "m", "./packed", "--force")
    asked = fake.wait_for(requests.PackModel)
    assert (code, asked.to, asked.overwrite) == (0, str(tmp_path / "packed"), True)
    assert "3.0 MiB to 1.0 MiB, 3.0 times smaller" in out
    code, out, _ = type_("models", "unpack", "m", "by-name", "--json")
    assert fake.wait_for(requests.UnpackModel).to == "by-name"
    assert json.loads(out)["model_hash"] == "ab"
