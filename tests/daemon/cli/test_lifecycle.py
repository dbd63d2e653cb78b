"""The daemon's life as a user drives it: real processes, started, asked, raced, killed, stopped."""

import json
import os
import signal
import subprocess
import sys

from circuit_protocol.discovery import Discovery, read_discovery, write_discovery
from circuit_protocol.endpoints import LOCK_NAME
from circuitd.cli.ask import wait_for_exit
from circuitd.store.locks import OwnerLock, holder


def test_a_day_of_a_daemon(home):
    assert home.run("status").returncode == 3
    assert json.loads(home.run("status", "--json").stdout) == {"is_running": False}

    first = home.run("start", "--device", "cpu", "--log-level", "debug")
    assert first.returncode == 0, first.stderr
    assert first.stdout.strip() == f"ipc://{home.runtime_dir}/circuitd.sock"
    assert "is ready" in first.stderr
    again = home.run("start")
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert "runs already" in again.stderr

    daemon = read_discovery()
    assert daemon is not None
    status = json.loads(home.run("status", "--json").stdout)
    assert status["is_running"]
    assert (status["pid"], status["queued"]) == (daemon.pid, 0)
    assert "runs (process" in home.run("status").stdout
    processes = json.loads(home.run("ps", "--json").stdout)["processes"]
    assert [p["role"] for p in processes] == ["front", "worker"]
    assert "worker" in home.run("ps").stdout
    assert f"process {daemon.pid}" in home.run("logs").stdout

    foreground = home.run("serve")
    assert foreground.returncode == 1
    assert f"runs already (process {daemon.pid})" in foreground.stderr

    stopped = home.run("stop")
    assert stopped.returncode == 0
    assert "does not answer" not in stopped.stderr  # its reply to shutdown arrived
    assert wait_for_exit(daemon.pid, 0)
    assert [p.name for p in home.runtime_dir.iterdir()] == [LOCK_NAME]
    assert home.run("stop").returncode == 0
    assert home.run("ps").returncode == 3


def test_of_two_starts_at_once_one_daemon_remains_and_both_name_it(home):
    starts = [
        subprocess.Popen(
            [sys.executable, "-m", "circuitd", "start"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [start.communicate(timeout=60) for start in starts]
    assert [start.returncode for start in starts] == [0, 0], said
    assert said[0][0] == said[1][0]
    daemon = read_discovery()
    assert daemon is not None
    assert all(f"process {daemon.pid}" in err for _, err in said)
    home.run("stop", "--now")


def test_after_kill_9_the_leftovers_are_no_daemon_and_the_next_start_works(home):
    home.run("start")
    daemon = read_discovery()
    assert daemon is not None
    os.kill(daemon.pid, signal.SIGKILL)
    assert wait_for_exit(daemon.pid, 10)
    assert (home.runtime_dir / "circuitd.json").exists()
    assert home.run("status").returncode == 3
    restarted = home.run("restart")
    assert restarted.returncode == 0, restarted.stderr
    assert "left by a daemon that died" in home.run("logs").stdout
    home.run("stop", "--now")


def test_a_daemon_that_hangs_is_said_to_and_stop_now_ends_it(home):
    home.run("start")
    daemon = read_discovery()
    assert daemon is not None
    os.kill(daemon.pid, signal.SIGSTOP)
    status = home.run("status")
    assert status.returncode == 1
    assert "does not answer" in status.stderr
    stopped = home.run("stop", "--now", "--timeout", "1")
    assert stopped.returncode == 0, stopped.stderr
    assert "was killed" in stopped.stderr
    assert holder(home.runtime_dir / LOCK_NAME) is None


def test_a_start_that_fails_says_why_and_where_to_look(home):
    (home.path / "state").mkdir()
    (home.path / "state" / "jobs.sqlite").mkdir()  # no file can be there
    failed = home.run("start")
    assert failed.returncode == 1
    assert "ended before it was ready" in failed.stderr
    assert "circuitd doctor" in failed.stderr
    assert home.run("status").returncode == 3


def test_a_discovery_file_of_a_recycled_process_id_is_no_daemon(home):
    stale = Discovery(
        endpoint=f"ipc://{home.runtime_dir}/circuitd.sock",
        pid=os.getpid(),
        instance="i",
        version="1.0",
        started_at_s=0.0,
        pid_start_ticks=1,
    )
    write_discovery(stale)
    assert home.run("status").returncode == 3


def test_a_lock_is_free_again_when_its_holder_is_killed_and_never_before(tmp_path):
    path = tmp_path / "lock"
    program = (
        "import sys; from pathlib import Path; from circuitd.store.locks import OwnerLock;"
        "lock = OwnerLock(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert holder(path) == child.pid
        child.kill()
    assert holder(path) is None
    with OwnerLock(path):
        assert holder(path) == os.getpid()
