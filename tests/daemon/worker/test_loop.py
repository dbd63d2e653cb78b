"""The loop with handlers made for the test: turns, cancels, failures, batches."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from circuit_protocol import codec
from circuit_protocol.errors import InvalidRequest
from circuit_protocol.replies import Done, Failed, Progress
from circuit_protocol.requests import Forward, Prompts, ShowTask
from circuitd import work
from circuitd.engine.errors import Cancelled as EngineCancelled
from circuitd.engine.steps import somebody_waits
from circuitd.store.circuits import CircuitStore
from circuitd.store.segments import SegmentDir
from circuitd.tasks.registry import TaskRegistry
from circuitd.worker.host import Host
from circuitd.worker.loop import Poisoned
from circuitd.worker.models import Models
from circuitd.worker.registry import Registry
from worker_desk import make_desk


def bare_host(path) -> Host:
    """A host without models."""
    models = Models(torch.device("cpu"))
    return Host(models, SegmentDir(path), TaskRegistry(), CircuitStore(path / "circuits"))


class Diary:
    """What the fake handler did, in order; tests hang events on its steps."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.at_step: dict[str, Callable[[], None]] = {}

    def note(self, name: str) -> None:
        self.steps.append(name)
        if name in self.at_step:
            self.at_step[name]()

    def handler(self, request, context):
        """`seed` steps; the task's name says what else happens."""
        try:
            for i in range(request.seed):
                self.note(f"{request.id}{i}")
                yield context.output(Progress(id=request.id, stage="x", final=False))
            if request.task == "raise":
                raise KeyError("a defect")
            if request.task == "refuse":
                raise InvalidRequest("no")
            if request.task == "cuda":
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            if request.task == "engine stop":
                raise EngineCancelled()
            if request.task == "silent":
                return
            yield context.output(Done(id=request.id))
            self.note(f"{request.id} after its end")
        finally:
            self.note(f"{request.id} closed")


@pytest.fixture
def diary():
    return Diary()


@pytest.fixture
def desk(diary, tmp_path):
    host = bare_host(tmp_path)
    key = work.ModelKey(path="nowhere", signature="")
    return make_desk(host, key, Registry({ShowTask: diary.handler}))


def steps(name: str, n: int, task: str = "answer") -> ShowTask:
    return ShowTask(id=name, task=task, seed=n)


def put(desk, *requests, priority="interactive") -> list[int]:
    items = tuple(desk.item(request) for request in requests)
    desk.inbox.put(work.Run(items=items, priority=priority))
    return [item.work for item in items]


def final_replies(desk):
    answers = [m for m, _ in desk.sent if isinstance(m, work.Answer) and m.final]
    return {m.work: codec.decode_reply(m.header) for m in answers}


def test_interactive_work_overtakes_batch_work_at_the_next_step(desk, diary):
    put(desk, steps("batch", 3), priority="batch")
    diary.at_step["batch1"] = lambda: put(desk, steps("quick", 2))
    desk.inbox.put(work.Exit())
    while desk.loop.take_in() or desk.loop.is_busy:
        desk.loop.step()
        if not desk.loop.is_busy:
            break
    order = [s for s in diary.steps if s[-1].isdigit()]
    assert order == ["batch0", "batch1", "quick0", "quick1", "batch2"]


def test_a_step_under_way_is_told_that_something_has_arrived(tmp_path):
    told: list[bool] = []

    def handler(request, context):
        waits = somebody_waits.get()
        told.append(waits())
        desk.inbox.put(work.Exit())
        told.append(waits())
        yield context.output(Done(id=request.id))

    key = work.ModelKey(path="nowhere", signature="")
    desk = make_desk(bare_host(tmp_path), key, Registry({ShowTask: handler}))
    put(desk, steps("batch", 0), priority="batch")
    desk.loop.run()
    assert told == [False, True]


def test_work_of_one_priority_takes_turns(desk, diary):
    for name in "abc":
        put(desk, steps(name, 2), priority="batch")
    desk.finish()
    order = [s for s in diary.steps if s[-1].isdigit()]
    assert order == ["a0", "b0", "c0", "a1", "b1", "c1"]


def test_an_item_cancelled_while_it_waits_never_starts(desk, diary):
    (number,) = put(desk, steps("a", 2))
    desk.inbox.put(work.CancelWork(work=number))
    desk.finish()
    reply = final_replies(desk)[number]
    assert isinstance(reply, Failed)
    assert reply.error.code == "cancelled"
    assert diary.steps == []


@pytest.mark.parametrize("reason", ["cancelled", "deadline_exceeded"])
def test_a_running_item_stops_at_its_next_step(desk, diary, reason):
    (number,) = put(desk, steps("a", 5))
    diary.at_step["a1"] = lambda: desk.inbox.put(work.CancelWork(work=number, reason=reason))
    desk.finish()
    reply = final_replies(desk)[number]
    assert isinstance(reply, Failed)
    assert reply.error.code == reason
    assert (reply.error.blame, reply.seq) == ("nobody", 2)
    assert diary.steps == ["a0", "a1", "a closed"]


def test_a_stop_inside_the_engine_says_why_the_front_wanted_it(desk, diary):
    (number,) = put(desk, steps("a", 1, "engine stop"))
    desk.finish()
    assert final_replies(desk)[number].error.code == "cancelled"


def test_a_cancel_that_comes_too_late_means_nothing(desk):
    (number,) = put(desk, steps("a", 0))
    desk.finish()
    desk.inbox.put(work.CancelWork(work=number))
    desk.inbox.put(work.CancelWork(work=999))
    put(desk, steps("b", 0))
    desk.finish()
    assert isinstance(final_replies(desk)[number], Done)
    assert desk.inbox.unanswered == ()


def test_an_exception_ends_its_own_item_and_no_other(desk, caplog):
    a, b, c = put(desk, steps("a", 1, "raise"), steps("b", 1, "refuse"), steps("c", 2))
    desk.finish()
    replies = final_replies(desk)
    assert replies[a].error.code == "internal_error"
    assert "KeyError" in replies[a].error.message
    assert "a defect" in caplog.text, "the log has the traceback"
    assert replies[b].error.code == "invalid_request"
    assert isinstance(replies[c], Done)
    assert caplog.text.count("Traceback") == 1, "a refusal is no defect"


def test_a_handler_that_ends_without_an_answer_is_a_defect_that_is_answered(desk):
    (number,) = put(desk, steps("a", 1, "silent"))
    desk.finish()
    assert final_replies(desk)[number].error.code == "internal_error"


def test_a_handler_is_closed_at_its_final_answer(desk, diary):
    put(desk, steps("a", 0))
    desk.finish()
    assert diary.steps == ["a closed"]


def test_a_lost_device_ends_the_process_after_the_answer(desk):
    (number,) = put(desk, steps("a", 0, "cuda"))
    with pytest.raises(Poisoned):
        desk.finish()
    assert final_replies(desk)[number].error.code == "internal_error"


def test_an_unserved_request_type_is_refused_by_name(desk):
    (number,) = put(desk, Forward(id="f", model="m", prompts=Prompts(texts=("x",))))
    desk.finish()
    assert final_replies(desk)[number].error.asked == "forward"


def test_a_header_nobody_can_read_is_answered_under_its_id(desk):
    header = codec.encode(steps("a", 0)).replace(b"tasks.show", b"tasks.shew")
    desk.inbox.put(work.Run(items=(work.Item(work=7, header=header),)))
    desk.finish()
    reply = final_replies(desk)[7]
    assert (reply.id, reply.error.code) == ("a", "invalid_request")


def test_exit_ends_the_loop(desk):
    desk.inbox.put(work.Exit())
    desk.loop.run()


# ------------------------------------------------------------------------------ batches


def batch_desk(tmp_path, run):
    host = bare_host(tmp_path)
    key = work.ModelKey(path="nowhere", signature="")
    return make_desk(host, key, Registry({}, batched={ShowTask: run}))


def test_items_of_a_batch_are_answered_in_any_order(tmp_path):
    def run(contexts):
        for context in reversed(contexts):
            yield context.output(Done(id=context.request.id))

    desk = batch_desk(tmp_path, run)
    a, b = put(desk, steps("a", 0), steps("b", 0))
    desk.finish()
    assert [m.work for m, _ in desk.sent] == [b, a]


def test_a_failing_batch_is_run_again_one_by_one(tmp_path):
    sizes = []

    def run(contexts):
        sizes.append(len(contexts))
        for context in contexts:
            if context.request.task == "raise":
                raise InvalidRequest("this one")
            yield context.output(Done(id=context.request.id))

    desk = batch_desk(tmp_path, run)
    numbers = put(desk, steps("a", 0), steps("b", 0, "raise"), steps("c", 0))
    desk.finish()
    kinds = [type(final_replies(desk)[n]) for n in numbers]
    assert kinds == [Done, Failed, Done]
    assert sizes == [3, 1, 1], "what was answered already is not computed again"


def test_a_cancelled_item_of_a_batch_leaves_the_others_running(tmp_path):
    def run(contexts):
        yield None
        for context in contexts:
            with context.parcel() as parcel:
                parcel.deliver(torch.zeros(4), "handle", "a result")
                yield parcel.seal(Done(id=context.request.id))

    desk = batch_desk(tmp_path, run)
    a, b = put(desk, steps("a", 0), steps("b", 0))
    desk.loop.take_in()
    desk.loop.step()
    desk.inbox.put(work.CancelWork(work=a))
    desk.finish()
    assert isinstance(final_replies(desk)[a], Failed)
    assert isinstance(final_replies(desk)[b], Done)
    held = [s.file for m, _ in desk.sent for s in m.segments]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(held), "a's result is not left over"


# ------------------------------------------------------------------------------ progress


def test_progress_is_sent_at_most_ten_times_a_second(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def run(request, context):
        for i in range(50):
            now[0] += 0.02
            yield context.progress("count", i, 50)
        yield context.output(Done(id=request.id))

    host = bare_host(tmp_path)
    key = work.ModelKey(path="nowhere", signature="")
    desk = make_desk(host, key, Registry({ShowTask: run}))
    put(desk, steps("a", 0))
    desk.finish()
    sent = [codec.decode_reply(m.header) for m, _ in desk.sent]
    progress = [r for r in sent if isinstance(r, Progress)]
    assert 8 <= len(progress) <= 11
    halfway = next(r for r in progress if r.done >= 25)
    assert halfway.eta_s == pytest.approx(
        0.02 * (halfway.done + 1) / halfway.done * (50 - halfway.done)
    )
