"""Errors on the wire: the same type on the other side, with everything they said."""

import msgspec
import pytest
from hypothesis import given

from circuit_protocol import errors
from circuit_protocol.codec import decode_reply, encode
from circuit_protocol.errors import ERRORS_BY_CODE, CircuitError, ErrorInfo, NotFound, from_info
from circuit_protocol.replies import Failed
from protocol.messages import drawn


@pytest.mark.parametrize("error_type", ERRORS_BY_CODE.values())
def test_error_comes_back_as_the_same_type(error_type):
    error = error_type(
        "it did not work", asked="a", found="b", hint="Do c", nearest=["d"], retry_after_s=1.5
    )
    reply = decode_reply(encode(Failed(id="x", error=error.to_info())))
    assert isinstance(reply, Failed)
    back = from_info(reply.error)
    assert type(back) is error_type
    assert vars(back) == vars(error)
    assert str(back) == str(error) == "it did not work; asked: a; found: b; nearest: d. Do c"


@given(drawn(ErrorInfo))
def test_any_info_becomes_an_error_and_stays_what_it_says(info):
    again = from_info(info).to_info()
    said = ("message", "asked", "found", "hint", "nearest", "retry_after_s")
    assert all(getattr(again, name) == getattr(info, name) for name in said)


def test_codes_are_unique_and_complete():
    types = [
        e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, CircuitError)
    ]
    assert len({e.code for e in types}) == len(types) == len(ERRORS_BY_CODE)


def test_tree_in_the_docstring_is_the_tree():
    printed = [
        line.replace("│", " ").replace("├", " ").replace("└", " ").replace("─", " ").split()[0]
        for line in (errors.__doc__ or "").splitlines()
        if line.startswith("    ")
    ]
    assert printed == [e.__name__ for e in ERRORS_BY_CODE.values()]


def test_code_of_a_newer_daemon_becomes_the_root():
    error = from_info(ErrorInfo(code="too_tired", message="later", retry=True))
    assert type(error) is CircuitError
    assert error.message == "later"


def test_unknown_name_offers_what_is_near():
    error = NotFound.unknown("task", "with_opne", ["with_open", "for_while"])
    assert error.nearest == ("with_open",)
    assert "no task has this name; asked: with_opne; nearest: with_open" in str(error)
    assert "Known: for_while" in str(NotFound.unknown("task", "zzz", ["for_while"]))
    assert "There is no task yet" in str(NotFound.unknown("task", "zzz", []))


def test_info_leaves_out_what_is_not_said():
    info = NotFound("gone").to_info()
    assert msgspec.to_builtins(info) == {"code": "not_found", "message": "gone"}
