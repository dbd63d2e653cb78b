"""What happens to requests on one connection, event by event, without sockets."""

from typing import Any

import msgspec
import pytest

from circuit_client.call import Call, progress_only, whole
from circuit_client.exchange import Exchange
from circuit_client.verbs.daemon import shutdown, status
from circuit_client.verbs.forward import forward
from circuit_protocol import errors, replies, requests
from circuit_protocol.codec import decode_request, encode
from circuit_protocol.limits import DEFAULT_LIMITS


class Recorder:
    def __init__(self) -> None:
        self.replies: list[Any] = []
        self.error: errors.CircuitError | None = None

    def deliver(self, reply: Any, frames: Any) -> None:
        assert self.error is None, "a reply after the last call"
        self.replies.append(reply)

    def fail(self, error: errors.CircuitError) -> None:
        assert self.error is None, "two last calls"
        self.error = error


def welcome(instance: str = "a", default_model: str | None = "tiny") -> bytes:
    return encode(
        replies.Welcome(
            id="hello",
            version="1.3",
            server="t",
            instance=instance,
            pid=1,
            capabilities=(),
            limits=DEFAULT_LIMITS,
            default_model=default_model,
        )
    )


def sent(exchange: Exchange) -> list[Any]:
    messages = [decode_request(bytes(m[0])) for m in exchange.outgoing]
    exchange.outgoing.clear()
    return messages


@pytest.fixture
def exchange() -> Exchange:
    return Exchange("test", wait_s=5.0)


@pytest.fixture
def greeted(exchange: Exchange) -> Exchange:
    exchange.on_connected()
    exchange.on_message([welcome()])
    sent(exchange)
    return exchange


def test_requests_wait_for_the_welcome_and_go_in_their_order(exchange: Exchange) -> None:
    exchange.submit("1", status(), Recorder(), 0.0)
    exchange.submit("2", status(), Recorder(), 0.0)
    assert sent(exchange) == []
    exchange.on_connected()
    assert [type(m) for m in sent(exchange)] == [requests.Hello]
    exchange.on_message([welcome()])
    assert [m.id for m in sent(exchange)] == ["1", "2"]


def test_the_default_model_is_filled_in_from_the_welcome(greeted: Exchange) -> None:
    greeted.submit("1", forward(text="x"), Recorder(), 0.0)
    greeted.submit("2", forward("other", text="x"), Recorder(), 0.0)
    assert [m.model for m in sent(greeted)] == ["tiny", "other"]


def test_without_a_default_model_the_request_fails_here(exchange: Exchange) -> None:
    exchange.on_connected()
    exchange.on_message([welcome(default_model=None)])
    sent(exchange)
    sink = Recorder()
    exchange.submit("1", forward(text="x"), sink, 0.0)
    assert isinstance(sink.error, errors.InvalidRequest)
    assert sent(exchange) == []


def test_replies_find_their_request_and_the_final_one_ends_it(greeted: Exchange) -> None:
    one, two = Recorder(), Recorder()
    greeted.submit("1", status(), one, 0.0)
    greeted.submit("2", status(), two, 0.0)
    greeted.on_message([encode(replies.Progress(id="2", stage="x", final=False))])
    greeted.on_message([encode(replies.Done(id="2", seq=1))])
    greeted.on_message([encode(replies.Done(id="2", seq=2))])  # to nobody any more
    assert [type(r) for r in two.replies] == [replies.Progress, replies.Done]
    assert one.replies == []


def test_a_lost_line_repeats_what_only_reads_and_fails_what_changes(greeted: Exchange) -> None:
    reads, changes = Recorder(), Recorder()
    greeted.submit("1", status(), reads, 0.0)
    greeted.submit("2", shutdown(), changes, 0.0)
    sent(greeted)
    greeted.on_lost("gone")
    assert isinstance(changes.error, errors.ConnectError)
    assert changes.error.retry
    assert reads.error is None
    greeted.on_connected()
    greeted.on_message([welcome()])
    assert [m.id for m in sent(greeted) if not isinstance(m, requests.Hello)] == ["1"]


def test_what_has_begun_to_answer_is_not_repeated(greeted: Exchange) -> None:
    sink = Recorder()
    greeted.submit("1", status(), sink, 0.0)
    greeted.on_message([encode(replies.Progress(id="1", stage="x", final=False))])
    greeted.on_lost("gone")
    assert isinstance(sink.error, errors.ConnectError)


def test_a_request_that_kills_daemons_is_repeated_only_so_often(greeted: Exchange) -> None:
    sink = Recorder()
    greeted.submit("1", status(), sink, 0.0)
    for _ in range(Exchange.MAX_RESENDS):
        greeted.on_lost("gone")
        assert sink.error is None
        greeted.on_connected()
        greeted.on_message([welcome()])
    greeted.on_lost("gone")
    assert isinstance(sink.error, errors.ConnectError)


def test_another_instance_does_not_get_requests_that_name_the_first_ones_tensors(
    greeted: Exchange,
) -> None:
    sink = Recorder()
    call = Call(
        requests.Reduce(id="x", handle="h", how="norm"),
        whole(replies.Reduced),
        progress_only,
        instance="a",
    )
    greeted.submit("1", call, sink, 0.0)
    assert [type(m) for m in sent(greeted)] == [requests.Reduce]
    greeted.on_lost("gone")
    greeted.on_connected()
    greeted.on_message([welcome(instance="b")])
    assert isinstance(sink.error, errors.NotFound)
    assert [type(m) for m in sent(greeted)] == [requests.Hello]


def test_waiting_requests_are_given_up_in_time(exchange: Exchange) -> None:
    sink = Recorder()
    exchange.submit("1", status(), sink, 100.0)
    assert exchange.wakes_at_s() == 105.0
    exchange.on_time(104.9)
    assert sink.error is None
    exchange.on_time(105.0)
    assert isinstance(sink.error, errors.ConnectError)
    assert exchange.wakes_at_s() is None


def test_cancelling_before_sending_ends_at_once_and_after_it_asks_the_daemon(
    exchange: Exchange,
) -> None:
    early, late = Recorder(), Recorder()
    exchange.submit("1", status(), early, 0.0)
    exchange.cancel("1")
    assert isinstance(early.error, errors.Cancelled)
    exchange.on_connected()
    exchange.on_message([welcome()])
    exchange.submit("2", status(), late, 0.0)
    exchange.cancel("2")
    exchange.cancel("unknown")
    cancels = [m for m in sent(exchange) if isinstance(m, requests.Cancel)]
    assert [m.target for m in cancels] == ["2"]
    assert late.error is None, "the daemon says how it ended"


def test_handles_are_released_with_their_last_value_and_in_one_message(greeted: Exchange) -> None:
    for handle in ("a", "a", "b"):
        greeted.lease(handle, "a")
    greeted.release("a", "a")
    greeted.flush()
    assert sent(greeted) == []
    greeted.release("a", "a")
    greeted.release("b", "a")
    greeted.flush()
    (release,) = sent(greeted)
    assert release.handles == ("a", "b")
    greeted.release("a", "a")
    greeted.lease("c", "a")
    greeted.release("c", "an earlier daemon")
    greeted.flush()
    assert sent(greeted) == []


def test_farewell_cancels_and_releases_everything_and_takes_nothing_more(greeted: Exchange) -> None:
    sink, late = Recorder(), Recorder()
    greeted.submit("1", status(), sink, 0.0)
    greeted.lease("h", "a")
    greeted.farewell()
    kinds = [type(m) for m in sent(greeted)]
    assert kinds == [requests.Status, requests.Cancel, requests.Release]
    assert isinstance(sink.error, errors.ConnectError)
    greeted.submit("2", status(), late, 0.0)
    assert isinstance(late.error, errors.ConnectError)


def test_an_incompatible_daemon_is_refused(exchange: Exchange) -> None:
    sink = Recorder()
    exchange.submit("1", status(), sink, 0.0)
    exchange.on_connected()
    theirs = msgspec.msgpack.decode(welcome(), type=replies.Welcome)
    exchange.on_message([encode(msgspec.structs.replace(theirs, version="2.0"))])
    assert isinstance(sink.error, errors.UnsupportedVersion)
    assert exchange.phase == "over"


def test_messages_beyond_the_daemons_limits_never_leave(greeted: Exchange) -> None:
    sink = Recorder()
    frames = (bytearray(DEFAULT_LIMITS.frame_nbytes + 1),)
    call = Call(requests.Status(id="x"), whole(replies.StatusReport), progress_only, frames=frames)
    greeted.submit("1", call, sink, 0.0)
    assert isinstance(sink.error, errors.TooLarge)
    assert sent(greeted) == []


def test_an_argument_that_cannot_travel_is_the_callers_error(greeted: Exchange) -> None:
    sink = Recorder()
    greeted.submit("1", forward(text="x", top_k=object()), sink, 0.0)  # pyright: ignore
    assert isinstance(sink.error, errors.InvalidRequest)


def test_garbage_from_the_daemon_fails_only_the_request_it_names(greeted: Exchange) -> None:
    one, two = Recorder(), Recorder()
    greeted.submit("1", status(), one, 0.0)
    greeted.submit("2", status(), two, 0.0)
    greeted.on_message([b"\xc1\xff"])
    greeted.on_message([msgspec.msgpack.encode({"type": "no.such.reply", "id": "1"})])
    assert isinstance(one.error, errors.MalformedMessage)
    assert two.error is None
