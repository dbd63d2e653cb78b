"""docs/protocol.md and its schema say what the code does: tables, examples, links."""

import base64
import json
import re
from pathlib import Path

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuit_protocol import reference, schema
from circuit_protocol.codec import (
    REPLY_TYPES,
    REQUEST_TYPES,
    decode_reply,
    decode_request,
    encode,
)
from circuit_protocol.replies import AnyReply
from circuit_protocol.requests import AnyRequest
from circuit_protocol.version import PROTOCOL_VERSION
from protocol.messages import drawn, full

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / reference.FILE_NAME).read_text("utf-8")
EXAMPLES = re.findall(r"<!-- example: (\w+) -->\n```json\n(.*?)```", PAGE, re.DOTALL)
VALIDATOR = jsonschema.Draft202012Validator(schema.schema())
MESSAGES = [*REQUEST_TYPES.values(), *REPLY_TYPES.values()]


def test_tables_are_those_of_the_code():
    assert reference.fill(PAGE) == PAGE, "run `python -m circuit_protocol.reference`"
    assert reference.main(["--check"]) == 0


def test_schema_is_that_of_the_code():
    assert (DOCS / schema.FILE_NAME).read_text("utf-8") == schema.schema_text()
    assert schema.main(["--check"]) == 0


def test_stale_page_is_noticed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(schema, "docs_dir", lambda: tmp_path)
    assert schema.main(["--check"]) == 1
    assert "out of date" in capsys.readouterr().err
    assert schema.main([]) == 0
    assert schema.main(["--check"]) == 0
    assert schema.main(["--help"]) == 2


def test_page_without_a_marker_is_noticed():
    with pytest.raises(ValueError, match="errors"):
        reference.fill(PAGE.replace("<!-- generated: errors -->", ""))


def test_page_is_of_this_version():
    assert PAGE.startswith(f"# The circuitd protocol, version {PROTOCOL_VERSION}\n")


def test_every_message_has_its_heading():
    for tag in [*REQUEST_TYPES, *REPLY_TYPES]:
        assert PAGE.count(f"\n#### `{tag}`\n") == 1, tag


def test_links_within_the_page_lead_somewhere():
    anchors = [
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    ]
    for link in set(re.findall(r"\]\(#([^)]*)\)", PAGE)):
        assert anchors.count(link) == 1, f"#{link} leads to {anchors.count(link)} places"


def test_page_has_examples_of_both_kinds():
    assert {kind for kind, _ in EXAMPLES} == {"request", "reply"}
    assert len(EXAMPLES) == PAGE.count("```json")


@pytest.mark.parametrize(("kind", "text"), EXAMPLES)
def test_example_is_what_the_code_reads_and_sends(kind, text):
    shown = json.loads(text)
    union = AnyRequest if kind == "request" else AnyReply
    message = msgspec.json.decode(text, type=union)
    header = encode(message)
    decode = decode_request if kind == "request" else decode_reply
    assert decode(header) == message
    # Unknown fields are ignored when read, so a misspelt one shows only on the way back.
    assert with_text(msgspec.msgpack.decode(header)) == shown
    VALIDATOR.validate(shown)


def with_text(value):
    """Binary as base64, as the page shows it."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {k: with_text(v) for k, v in value.items()}
    return [with_text(v) for v in value] if isinstance(value, list) else value


def test_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(schema.schema())


@pytest.mark.parametrize("struct", MESSAGES)
def test_schema_accepts_each_message_in_full(struct):
    VALIDATOR.validate(json.loads(msgspec.json.encode(full(struct))))


@given(st.one_of([drawn(struct) for struct in MESSAGES]))
def test_schema_accepts_what_the_code_sends(message):
    shown = msgspec.json.decode(msgspec.json.encode(message))
    VALIDATOR.validate(shown)


@pytest.mark.parametrize(
    "message",
    [
        {"type": "nope", "id": "a"},
        {"type": "status"},
        {"type": "status", "id": ""},
        {"type": "credit", "id": "a", "chunks": 0},
        {"type": "forward", "id": "a", "model": "m", "prompts": {"texts": [1]}},
    ],
)
def test_schema_refuses_what_the_code_refuses(message):
    assert not VALIDATOR.is_valid(message)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(message, AnyRequest)
