"""The book of open requests, and headers changed without being understood."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from circuit_protocol.codec import REQUEST_TYPES, decode_reply, encode
from circuit_protocol.errors import Conflict
from circuit_protocol.replies import (
    ForwardResult,
    JobInfo,
    JobList,
    Progress,
    SessionEvent,
)
from circuit_protocol.session import SessionState
from circuit_protocol.tensors import Tensor
from circuitd.server import serve
from circuitd.server.replies import ReplyBook, reply_type, rewritten
from circuitd.server.routing import ROUTES

REPLIES = [
    Progress(id="a", final=False, stage="x", done=0.5, total=3.0),
    ForwardResult(
        id="a",
        tokens=Tensor(dtype="I32", shape=(1, 1), data=b"\0\0\0\0"),
        lengths=Tensor(dtype="I32", shape=(1,), frame=1),
        loss=0.25,
        compute_s=1e-3,
    ),
    SessionEvent(id="a", state=SessionState(name="ß", revision=2**40), closed=True),
    JobList(
        id="a",
        jobs=(JobInfo(job="j", request_type="f", description="", state="done", created_at_s=1.5),),
    ),
]


@pytest.mark.parametrize("reply", REPLIES, ids=lambda r: type(r).__name__)
def test_rewriting_changes_what_it_is_told_to_and_nothing_else(reply) -> None:
    header = rewritten(encode(reply), request_id="other", seq=7)
    assert decode_reply(header) == replace(reply, id="other", seq=7)
    assert reply_type(header) == type(reply).__struct_config__.tag


def test_a_stored_answer_can_be_marked_as_such() -> None:
    found = decode_reply(rewritten(encode(REPLIES[1]), cached=True))
    assert found == replace(REPLIES[1], cached=True)


def test_a_request_gets_numbered_replies_and_nothing_after_the_final_one() -> None:
    book = ReplyBook()
    entry = book.open(b"c", "r", "hook", 0.0)
    assert book.number(entry, final=False) == 0
    assert book.number(entry, final=True) == 1
    assert book.number(entry, final=True) is None
    assert book.number(entry, final=False) is None
    assert (book.completed, book.failed) == (1, 0)
    book.check_invariants()


def test_an_id_is_unique_among_unfinished_requests_of_a_client_only() -> None:
    book = ReplyBook()
    entry = book.open(b"c", "r", "hook", 0.0)
    book.open(b"d", "r", "hook", 0.0)
    with pytest.raises(Conflict):
        book.open(b"c", "r", "hook", 0.0)
    book.number(entry, final=True, failed=True)
    again = book.open(b"c", "r", "hook", 1.0)
    assert book.number(entry, final=True) is None, "an earlier request of that id has ended"
    assert book.number(again, final=True) == 0


def test_a_client_that_left_gets_no_replies() -> None:
    book = ReplyBook()
    entry = book.open(b"c", "r", "hook", 0.0)
    assert book.close_client(b"c") == (entry,)
    assert book.number(entry, final=True) is None


@given(st.lists(st.floats(0, 0.5), min_size=1, max_size=60))
def test_progress_is_at_most_ten_a_second(gaps: list[float]) -> None:
    book = ReplyBook()
    entry = book.open(b"c", "r", "hook", 0.0)
    now, sent = 0.0, []
    for gap in gaps:
        now += gap
        if book.may_report(entry, now):
            sent.append(now)
    assert all(b - a >= 0.1 - 1e-9 for a, b in pairwise(sent))


def test_every_request_type_has_an_answerer() -> None:
    assert set(ROUTES) == set(REQUEST_TYPES.values())
    in_front = {kind for kind, route in ROUTES.items() if route == "front"}
    credit = {REQUEST_TYPES["credit"]}  # has no reply of its own
    assert in_front - credit == set(serve.HANDLERS)
