"""A caller that waits alone serves the line in its own thread, and yields it to whoever comes."""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from circuit_client import connect
from circuit_client.exchange import Exchange
from circuit_protocol import replies, requests
from circuit_protocol.errors import ConnectError
from scripted_daemon import Out, ScriptedDaemon, daemon


@pytest.fixture
def receivers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The thread that took in each message, in their order."""
    threads: list[int] = []
    take_in = Exchange.on_message

    def noted(self: Exchange, frames: Any) -> None:
        threads.append(threading.get_ident())
        take_in(self, frames)

    monkeypatch.setattr(Exchange, "on_message", noted)
    return threads


def tasks(request: Any, frames: list) -> Iterator[Out]:
    yield replies.TaskList(id="x", tasks=())


def scores(request: Any, frames: list) -> Iterator[Out]:
    yield replies.Progress(id="x", stage="one", final=False)
    yield replies.TaskScores(id="x", scores=(), split="train")


def test_a_lone_caller_receives_in_its_own_thread(tmp_path: Path, receivers: list[int]) -> None:
    with daemon(tmp_path, {requests.ListTasks: tasks}) as d, connect(d.endpoint) as c:
        receivers.clear()
        for _ in range(3):
            c.tasks.list()
        assert receivers == [threading.get_ident()] * 3


def test_what_is_only_started_arrives_without_a_caller(
    tmp_path: Path, receivers: list[int]
) -> None:
    with daemon(tmp_path, {requests.ListTasks: tasks}) as d, connect(d.endpoint) as c:
        receivers.clear()
        stream = c.tasks.list.start()
        assert stream.result() == ()
        assert threading.get_ident() not in receivers


def test_a_second_caller_is_answered_while_the_first_waits(tmp_path: Path) -> None:
    with daemon(tmp_path, {requests.ListTasks: tasks}) as d, connect(d.endpoint) as c:
        ended: list[BaseException] = []

        def wait_in_vain() -> None:
            try:
                c.forward(tokens=[1])  # no script: never answered
            except ConnectError as error:
                ended.append(error)

        thread = threading.Thread(target=wait_in_vain)
        thread.start()
        d.wait_for(requests.Forward)
        for _ in range(3):
            assert c.tasks.list() == ()
        c.close()
        thread.join()
        assert len(ended) == 1


def test_a_progress_callback_may_ask_on_the_same_connection(tmp_path: Path) -> None:
    scripts = {requests.EvaluateTasks: scores, requests.ListTasks: tasks}
    with daemon(tmp_path, scripts) as d, connect(d.endpoint) as c:
        seen: list[Any] = []
        c.tasks.evaluate(progress=lambda _: seen.append(c.tasks.list()))
        assert seen == [()]


@pytest.mark.usefixtures("ctrl_c")
def test_after_ctrl_c_the_line_is_attended_again(tmp_path: Path, receivers: list[int]) -> None:
    with daemon(tmp_path, {requests.ListTasks: tasks}) as d, connect(d.endpoint) as c:
        main = threading.main_thread().ident
        assert main is not None

        def interrupt() -> None:
            request = d.wait_for(requests.Forward)
            signal.pthread_kill(main, signal.SIGINT)
            assert d.wait_for(requests.Cancel).target == request.id

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            c.forward(tokens=[1])
        thread.join()
        # The I/O thread, which sent the cancel, may watch the line a little longer.
        while receivers[-1] != threading.get_ident():
            assert c.tasks.list() == ()


def test_a_line_lost_under_a_waiting_caller_is_restored_and_the_request_repeated(
    tmp_path: Path,
) -> None:
    endpoint = f"ipc://{tmp_path}/d.sock"
    with ScriptedDaemon(endpoint) as first, connect(endpoint) as c:
        answers: list[Any] = []
        thread = threading.Thread(target=lambda: answers.append(c.tasks.list()))
        thread.start()
        first.wait_for(requests.ListTasks)
        first.__exit__()
        with ScriptedDaemon(endpoint, {requests.ListTasks: tasks}):
            thread.join()
        assert answers == [()]
