"""The tokenizer: round trips, offsets, and files that contradict each other."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitd.store.tokenizer import (
    ENCODER_FILE,
    END_OF_TEXT,
    MAX_WHITESPACE_RUN,
    VOCAB_FILE,
    Tokenizer,
    TokenizerError,
)

SHIPPED = Path(__file__).parents[3] / "data" / "tinypython"
TOKENIZER = Tokenizer.load(SHIPPED)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    for name in (VOCAB_FILE, ENCODER_FILE):
        shutil.copy(SHIPPED / name, tmp_path / name)
    return tmp_path


def edit_encoder(folder: Path, **changes: int | None) -> None:
    path = folder / ENCODER_FILE
    encoder = json.loads(path.read_text("utf-8")) | changes
    path.write_text(json.dumps({k: v for k, v in encoder.items() if v is not None}), "utf-8")


def test_the_special_token_is_the_last_of_2048():
    assert TOKENIZER.n_vocab == 2048
    assert TOKENIZER.end_of_text == 2047


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_any_text_survives_encoding_and_offsets_cover_its_bytes(text: str):
    ids = TOKENIZER.encode(text)
    assert TOKENIZER.decode(ids) == text
    raw = text.encode()
    offsets = TOKENIZER.byte_offsets(ids)
    assert offsets.dtype == np.int64
    assert offsets.shape == (len(ids), 2)
    for token_id, (start, end) in zip(ids, offsets, strict=True):
        assert TOKENIZER.token_bytes(token_id) == raw[start:end]
    assert (offsets[:, 1].tolist() or [0])[-1] == len(raw)


def test_a_code_point_may_be_split_between_tokens():
    ids = TOKENIZER.encode("😀")
    assert len(ids) > 1
    assert TOKENIZER.decode(ids[:1]) == "\ufffd"
    assert TOKENIZER.byte_offsets(ids)[-1, 1] == 4


def test_end_of_text_is_special_only_when_asked_for():
    plain = TOKENIZER.encode(f"x{END_OF_TEXT}")
    special = TOKENIZER.encode(f"x{END_OF_TEXT}", special=True)
    assert TOKENIZER.end_of_text not in plain
    assert special == [*TOKENIZER.encode("x"), 2047]
    assert TOKENIZER.decode(special) == TOKENIZER.decode(plain) == f"x{END_OF_TEXT}"


@pytest.mark.parametrize("text", ["\ud800", "def f():\n    return '\udfff'"])
def test_a_lone_surrogate_is_refused_with_its_place(text: str):
    with pytest.raises(TokenizerError, match=r"character \d+ is the lone surrogate"):
        TOKENIZER.encode(text)


def test_long_runs_are_encoded_or_refused_but_never_crash():
    longest = " " * MAX_WHITESPACE_RUN + "x"
    assert TOKENIZER.decode(TOKENIZER.encode(longest)) == longest
    assert TOKENIZER.decode(TOKENIZER.encode("(" * 300_000)) == "(" * 300_000
    with pytest.raises(TokenizerError, match="whitespace characters in a row from character 1"):
        TOKENIZER.encode("x" + "\u3000" * 3_000_000)


@pytest.mark.parametrize("token_id", [-1, 2048, 1 << 40])
def test_ids_outside_the_vocabulary_are_refused(token_id: int):
    with pytest.raises(TokenizerError, match=r"outside 0\.\.2047"):
        TOKENIZER.decode([token_id])


def test_equal_files_give_equal_fingerprints(copied: Path):
    assert Tokenizer.load(copied).fingerprint == TOKENIZER.fingerprint


@pytest.mark.parametrize("name", [VOCAB_FILE, ENCODER_FILE])
def test_a_missing_file_is_named(copied: Path, name: str):
    (copied / name).unlink()
    with pytest.raises(TokenizerError, match="No such file") as caught:
        Tokenizer.load(copied)
    assert caught.value.path == copied / name


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"!": 1, '"': 0}, "gives token"),
        ({END_OF_TEXT: None}, "has no"),
        ({END_OF_TEXT: 5}, "expected the last id 2047"),
        ({"ĠĠĠnever": 2048}, "never makes"),
        ({"\u4e2d": 2048}, "no data-gym byte letter"),
    ],
)
def test_an_encoder_that_contradicts_the_merges_is_refused(
    copied: Path, changes: dict[str, int | None], problem: str
):
    edit_encoder(copied, **changes)
    with pytest.raises(TokenizerError, match=problem) as caught:
        Tokenizer.load(copied)
    assert caught.value.path == copied / ENCODER_FILE


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("only_one", "not two tokens"),
        ("zq qz", "which no earlier line makes"),
        ("Ġ Ġ", "already exists"),
    ],
)
def test_a_malformed_merge_is_refused_with_its_line(copied: Path, line: str, problem: str):
    path = copied / VOCAB_FILE
    path.write_text(path.read_text("utf-8").rstrip("\n") + f"\n{line}\n", "utf-8")
    with pytest.raises(TokenizerError, match=problem) as caught:
        Tokenizer.load(copied)
    assert caught.value.path == path


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b'{"a": "b"}', b"\xff\xfe", b'{"a": 1'])
def test_an_encoder_that_is_no_table_is_refused(copied: Path, content: bytes):
    (copied / ENCODER_FILE).write_bytes(content)
    with pytest.raises(TokenizerError) as caught:
        Tokenizer.load(copied)
    assert caught.value.path == copied / ENCODER_FILE
