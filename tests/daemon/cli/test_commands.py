"""The commands that need no daemon: help, settings, keys, logs, doctor; what they never load."""

import itertools
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from circuitd.cli import circuitd, extras, logs
from circuitd.cli.checks import (
    Check,
    check_daemon,
    check_directories,
    check_keys,
    check_packages,
    check_torch,
)
from circuitd.settings import load_settings

COMMANDS = ["serve", "start", "stop", "restart", "status", "ps", "logs", "doctor", "keys"]


@pytest.fixture
def run(home):
    return lambda *arguments: CliRunner().invoke(circuitd, arguments)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(run, command: str):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.output
    assert f"circuitd {command}" in result.output.split("Examples:")[1]


def test_the_list_of_commands_says_what_each_does(run):
    result = run("--help")
    assert result.exit_code == 0
    for command in COMMANDS:
        assert any(line.startswith(f"  {command} ") for line in result.output.splitlines())


def test_a_misspelt_command_or_option_is_exit_code_2(run):
    assert run("stauts").exit_code == 2
    assert run("serve", "--sett", "x").exit_code == 2
    assert run("serve", "--set", "x").exit_code == 2


LOADS = """
import sys
import tomllib
before = set(sys.modules)
for name in sys.argv[2].split(","):
    __import__(name)
print([name for name in sys.argv[1].split(",") if name in sys.modules])
"""


@pytest.mark.parametrize(
    ("never", "modules"),
    [
        (
            "torch",
            "circuitd.server.serve,circuitd.cli,circuitd.cli.serve,circuitd.cli.lifecycle,"
            "circuitd.cli.checks,circuitd.cli.ask,circuitd.store.segments,circuitd.store.results,"
            "circuitd.store.jobs,circuitd.store.job_thread,circuitd.store.roots,circuitd.settings",
        ),
        (
            "torch,zmq,numpy,circuitd.settings",
            "circuitd.cli,circuitd.cli.serve,circuitd.cli.lifecycle,circuitd.cli.status,"
            "circuitd.cli.logs,circuitd.cli.keys,circuitd.cli.doctor",
        ),
    ],
)
def test_what_is_not_needed_is_not_imported(never: str, modules: str):
    done = subprocess.run(
        [sys.executable, "-c", LOADS, never, modules], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_settings_in_force_are_printed_and_mistakes_told_in_one_line(home):
    done = home.run("serve", "--print-config", "--keep-alive", "-1", "--set", "limits.rows=9")
    assert done.returncode == 0
    assert "keep_alive_s = -1.0" in done.stdout
    assert "rows = 9" in done.stdout
    wrong = home.run("serve", "--memory-budget", "much")
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("circuitd: command line: memory_budget_nbytes cannot be 'much'")
    assert len(wrong.stderr.splitlines()) == 1


def test_a_missing_extra_is_one_sentence_with_the_command(run, monkeypatch):
    monkeypatch.setitem(extras.EXTRAS, "daemon", ("no_such_package",))
    for command in ("serve", "start"):
        result = run(command)
        assert result.exit_code == 1
        assert "pip install 'circuitd[daemon]'" in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_extras_are_those_of_the_distribution():
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    declared = {
        extra: tuple(re.split(r"[^\w.-]", need)[0] for need in needs)
        for extra, needs in project["optional-dependencies"].items()
        if extra != "all"
    }
    assert declared == extras.EXTRAS


def test_a_key_that_begins_with_a_dash_is_no_option(run):
    key = "-hM:" + "x" * 36  # with letters of options in it
    assert run("keys", "allow", key, "--name", "dashed").exit_code == 0
    assert run("keys", "allow", "--name=again", key).exit_code == 0
    assert {c["public_key"] for c in json.loads(run("keys", "list", "--json").stdout)} == {key}


def test_keys_are_made_shown_allowed_listed_and_revoked(run, home):
    server = run("keys", "server")
    assert len(server.stdout.strip()) == 40
    assert run("keys", "server").stdout == server.stdout
    assert run("keys", "server", "--new").stdout != server.stdout
    laptop = run("keys", "client").stdout.strip()
    assert run("keys", "allow", laptop, "--name", "laptop").exit_code == 0
    file = home.path / "config" / "keys" / "client.public"
    assert run("keys", "allow", str(file), "--name", "same").exit_code == 0
    listed = json.loads(run("keys", "list", "--json").stdout)
    assert {entry["public_key"] for entry in listed} == {laptop}
    run("keys", "revoke", "same")
    assert "laptop" in run("keys", "list").stdout
    secret = (home.path / "config" / "keys" / "server.secret").read_text().strip()
    assert secret not in server.output + run("keys", "list").output
    assert home.run("keys", "revoke", "nobody").returncode == 1
    assert run("keys", "client", "server").exit_code == 2


def test_logs_show_the_last_lines_also_from_rotated_files(run, home):
    assert run("logs").exit_code == 1
    path = Path(run("logs", "--path").stdout.strip())
    path.parent.mkdir(parents=True)
    path.with_name(path.name + ".1").write_text("".join(f"old {i}\n" for i in range(10)))
    path.write_text("".join(f"new {i} {'x' * 100}\n" for i in range(2000)))
    lines = run("logs", "-n", "2002").stdout.splitlines()
    assert lines[0:2] == ["old 8", "old 9"]
    assert len(lines) == 2002
    assert run("logs", "-n", "1").stdout.startswith("new 1999")
    assert run("logs", "-n", "0").stdout == ""


def test_following_a_log_goes_through_its_rotation(tmp_path: Path, monkeypatch):
    path = tmp_path / "log"
    path.write_text("before\n")

    def append() -> None:
        with path.open("a") as file:
            file.write("appended\n")

    def rotate() -> None:
        path.rename(tmp_path / "log.1")
        path.write_text("after rotation\n")

    events = iter([append, rotate])
    monkeypatch.setattr(logs.time, "sleep", lambda _: next(events)())
    following = logs.new_bytes(path)
    got = list(itertools.islice(following, 2))
    following.close()
    assert got == [b"appended\n", b"after rotation\n"]


def checks_by_name(checks) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_the_doctor_finds_nothing_wrong_here_and_prints_one_document(home):
    done = home.run("doctor", "--json", timeout_s=180)
    verdicts = {check["name"]: check for check in json.loads(done.stdout)}
    assert done.returncode == 0, done.stdout
    assert verdicts["torch"]["verdict"] == "ok"
    assert "cpu" in verdicts["torch"]["found"] or "cuda" in verdicts["torch"]["found"]
    assert verdicts["runtime directory"]["verdict"] == "ok"
    assert verdicts["daemon"]["found"].startswith("does not run")


def test_the_doctor_says_what_a_dead_daemon_left(home):
    (home.runtime_dir / "circuitd.sock").touch()
    found = checks_by_name(check_daemon(load_settings()))
    assert found["leftovers"].verdict == "warn"
    assert "circuitd.sock" in found["leftovers"].found


def test_the_doctor_refuses_a_runtime_directory_others_may_write_to(home):
    home.runtime_dir.chmod(0o777)
    found = checks_by_name(check_directories(load_settings()))
    home.runtime_dir.chmod(0o700)
    assert found["runtime directory"].verdict == "fail"
    assert "chmod 700" in found["runtime directory"].advice


def test_the_doctor_names_a_missing_extra_a_broken_torch_and_a_missing_key(home, monkeypatch):
    monkeypatch.setitem(extras.EXTRAS, "daemon", ("torch", "no_such_package"))
    assert (
        "circuitd[daemon]" in checks_by_name(check_packages(load_settings()))["extra daemon"].advice
    )
    monkeypatch.setattr("circuitd.cli.checks._TORCH", "raise OSError('libcudart is missing')")
    (torch,) = check_torch(load_settings())
    assert (torch.verdict, torch.found) == ("fail", "OSError: libcudart is missing")
    (keys,) = check_keys(load_settings(flags={"listen": "tcp://127.0.0.1:7341"}))
    assert (keys.verdict, keys.advice) == ("fail", "circuitd keys server")


def test_a_wrong_configuration_file_is_the_doctors_finding(home):
    (home.path / "config").mkdir()
    (home.path / "config" / "config.toml").write_text("keep = 1")
    done = home.run("doctor")
    assert done.returncode == 1
    assert "no setting 'keep'" in done.stdout
    assert os.fspath(home.path) in done.stdout
