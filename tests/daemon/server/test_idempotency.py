"""Retries get the first try's answer, for an hour, within a bound."""

import pytest

from circuit_protocol.errors import Conflict
from circuitd.server.idempotency import MAX_REPLY_NBYTES, REMEMBER_S, Idempotency, Remembered

ME, W = "me", (b"c", "r2")


def test_a_retry_after_the_answer_gets_the_answer_until_an_hour_has_passed() -> None:
    known = Idempotency()
    assert known.begin(ME, "k", b"q", W, 0.0) is None
    assert known.finish(ME, "k", b"header", (memoryview(b"frame"),)) == []
    assert known.begin(ME, "k", b"q", W, REMEMBER_S - 1) == Remembered(b"header", (b"frame",))
    assert known.begin(ME, "k", b"q", W, REMEMBER_S + 1) is None
    known.check_invariants()


def test_a_retry_before_the_answer_waits_for_it() -> None:
    known = Idempotency()
    known.begin(ME, "k", b"q", (b"c", "r1"), 0.0)
    assert known.begin(ME, "k", b"q", W, 1.0) is True
    assert known.finish(ME, "k", b"header", ()) == [W]


def test_a_key_is_a_persons_own_and_for_one_question() -> None:
    known = Idempotency()
    known.begin(ME, "k", b"q", W, 0.0)
    assert known.begin("you", "k", b"other", W, 0.0) is None
    with pytest.raises(Conflict):
        known.begin(ME, "k", b"other", W, 0.0)


def test_a_first_try_that_came_to_nothing_is_forgotten() -> None:
    known = Idempotency()
    known.begin(ME, "k", b"q", W, 0.0)
    known.begin(ME, "k", b"q", W, 0.0)
    assert known.forget(ME, "k") == [W]
    assert known.begin(ME, "k", b"q", W, 0.0) is None


def test_what_is_kept_is_bounded_and_the_oldest_goes_first() -> None:
    known = Idempotency(max_entries=3, max_nbytes=100)
    for n in range(5):
        known.begin(ME, f"k{n}", b"q", W, 0.0)
        known.finish(ME, f"k{n}", b"x" * 40, ())
        known.check_invariants()
    assert known.begin(ME, "k4", b"q", W, 0.0) == Remembered(b"x" * 40, ())
    assert known.begin(ME, "k0", b"q", W, 0.0) is None
    known.begin(ME, "big", b"q", W, 0.0)
    known.finish(ME, "big", b"x" * (MAX_REPLY_NBYTES + 1), ())
    assert known.begin(ME, "big", b"q", W, 0.0) is None
