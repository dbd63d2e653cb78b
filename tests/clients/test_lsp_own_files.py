"""The project's own files: JSON with its places, task files, names of the protocol, settings."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pygls.workspace import PositionCodec

from circuit_lsp.main import parse_address
from circuit_lsp.messages import Settings
from circuit_lsp.own_files.json_places import parse
from circuit_lsp.own_files.names import names_in
from circuit_lsp.own_files.task_files import read_task_file
from circuit_lsp.pairs import Pairs, Side, edit_that_adds
from circuit_lsp.server import read_settings
from circuit_lsp.texts import Text
from circuit_protocol.errors import InvalidRequest

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


def text_of(source: str, uri: str, language: str) -> Text:
    return Text(uri, 1, source, language, PositionCodec())


def python(source: str) -> Text:
    return text_of(source, "file:///s.py", "python")


@given(json_values, st.booleans())
def test_json_is_read_as_python_reads_it(value, ascii_only):
    source = json.dumps(value, ensure_ascii=ascii_only, indent=1)
    parsed, mistake = parse(source)
    assert mistake is None
    assert parsed is not None
    assert parsed.plain == value
    assert json.loads(source[parsed.start : parsed.end]) == value


@given(json_values, st.integers(0, 200))
def test_any_beginning_of_json_is_read_without_failing(value, length):
    source = json.dumps({"a": value})[:length]
    parse(source)


@pytest.mark.parametrize(
    ("source", "at"),
    [
        ("", 0),
        ("{", 1),
        ('{"a" 1}', 5),
        ("[1,]", 3),
        ("[1 2]", 3),
        ('"a', 0),
        ("1 2", 2),
        ("nul", 0),
    ],
)
def test_a_mistake_is_pointed_at(source, at):
    _, mistake = parse(source)
    assert mistake is not None
    assert mistake.start == at


def test_deep_nesting_is_a_mistake_and_no_crash():
    assert parse("[" * 100_000)[1] is not None


LINES = """{"description": "d"}
{"prompts": ["for x", "while x"], "targets": [" in", ":"]}
{"prompts": ["for y", "while y"], "targets": [" in", ":"], "held_out": true}
"""


def test_a_task_file_has_its_pairs():
    task = read_task_file(text_of(LINES, "file:///w/loops.jsonl", "json"))
    assert task is not None
    assert task.task == "loops"
    assert task.mistakes == []
    assert [p.name for p in task.pairs] == ["'for x' → ' in' | ':'", "'for y' → ' in' | ':'"]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"prompts": ["a"], "targets": ["x", "y"]}', "two prompts"),
        ('{"prompts": ["a", "a"], "targets": ["x", "y"]}', "both prompts are the same"),
        ('{"prompts": ["a", "b"], "targets": ["x", "x"]}', "both targets are the same"),
        ('{"prompts": ["a", "b"], "targets": ["x", ""]}', "a target is text"),
        ('{"prompts": ["a", []], "targets": ["x", "y"]}', "a prompt is text"),
        ('{"prompts": ["a", "b"], "targets": ["x", "y"], "mask": 1}', "no field `mask`"),
        ('{"prompts": ["a", "b"]}', "no targets"),
        ('{"prompts": ["a", "b"], ', "ends too early"),
        ("[]", "a pair is"),
    ],
)
def test_what_the_daemon_would_refuse_is_said(line, what):
    task = read_task_file(text_of(LINES + line + "\n", "file:///w/loops.jsonl", "json"))
    assert task is not None
    [mistake] = task.mistakes
    assert what in mistake.message


def test_a_task_in_one_object_is_checked_alike():
    source = '{"name": "other", "pairs": [{"prompts": ["a", "b"], "targets": ["x", "y"]}]}'
    task = read_task_file(text_of(source, "file:///w/mine.json", "json"))
    assert task is not None
    assert len(task.pairs) == 1
    assert {m.message.split(",")[0] for m in task.mistakes} == {
        "the name differs from the file's",
        "a task has at least two pairs",
    }


@pytest.mark.parametrize(
    ("uri", "source"),
    [
        ("file:///package.json", '{"name": "x", "scripts": {}}'),
        ("file:///log.jsonl", '{"level": "info"}\n{"level": "warn"}\n'),
        ("file:///a.py", LINES),
    ],
)
def test_other_files_are_left_alone(uri, source):
    assert read_task_file(text_of(source, uri, "json")) is None


def test_names_are_found_where_they_stand():
    source = (
        "from circuit_client import connect, iv\n"
        "s = 'ü'; c.ablate(model='m', task=\"t\", nodes='2.mlp.post_act[3]')\n"
        "iv.zero('1.attn.q', channels=[1])\n"
        "x = 'zero:2.mlp.post_act[3]@-1'\n"
        "y = 'sentence about 2.mlp'\n"
    )
    names = names_in(python(source))
    assert {(n.kind, n.text) for n in names} == {
        ("model", "m"), ("task", "t"), ("nodes", "2.mlp.post_act[3]"), ("site", "1.attn.q"),
        ("interventions", "zero:2.mlp.post_act[3]@-1"),
    }  # fmt: skip
    assert all(source[n.start : n.end] == n.text for n in names)


def test_scripts_of_others_and_broken_ones_have_no_names():
    assert names_in(python("c.ablate(model='m')")) == []
    assert names_in(python("import circuit_client\nc.ablate(model='m'")) == []


def test_names_in_interventions_as_json():
    source = '[{"op": "zero", "site": "2.mlp.post_act", "channels": [1]}]'
    [name] = names_in(text_of(source, "file:///i.json", "json"))
    assert (name.kind, source[name.start : name.end]) == ("site", "2.mlp.post_act")


def test_settings_keep_their_default_where_they_make_no_sense():
    options = {"debounceMs": "soon", "languages": ["python", "rust"], "heat": {"of": "node"},
               "model": None, "someoneElses": 1}  # fmt: skip
    settings, wrong = read_settings(options, Settings())
    assert settings.languages == ("python", "rust")
    assert settings.heat.of == "node"
    assert settings.debounce_ms == Settings().debounce_ms
    assert len(wrong) == 1
    assert "debounceMs" in wrong[0]
    assert read_settings({"debounceMs": -1}, Settings())[1]
    assert read_settings("nonsense", Settings())[1]
    assert read_settings(None, Settings()) == (Settings(), [])


@pytest.mark.parametrize("text", ["127.0.0.1:80", "localhost:1", "[::1]:7", ":9"])
def test_the_own_machine_may_be_listened_on(text):
    assert parse_address(text)[1] > 0


@pytest.mark.parametrize("text", ["0.0.0.0:80", "example.org:80", "7717", "127.0.0.1:", "[::]:1"])
def test_no_other_address_may(text):
    with pytest.raises(InvalidRequest):
        parse_address(text)


def test_two_sides_make_a_pair_only_if_they_differ():
    pairs = Pairs()
    assert pairs.take(Side("a", "x")) is None
    with pytest.raises(InvalidRequest, match="same targets"):
        pairs.take(Side("b", "x"))
    assert pairs.take(Side("b", "y")) == (Side("a", "x"), Side("b", "y"))
    assert not pairs.is_half


def test_a_pair_is_added_to_a_task_file_that_can_be_read(tmp_path):
    pair = (Side("for x", " in"), Side("while x", ":"))
    content = None
    for _ in range(2):
        changes = edit_that_adds(tmp_path, pair, content).document_changes or []
        [edit] = changes[1].edits  # pyright: ignore[reportAttributeAccessIssue]
        content = (content or "") + edit.new_text
    task = read_task_file(text_of(content or "", "file:///circuit_pairs.jsonl", "json"))
    assert task is not None
    assert len(task.pairs) == 2
