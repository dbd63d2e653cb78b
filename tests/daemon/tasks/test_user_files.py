"""Users' task files, good and bad, and the registry that finds them."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from circuitd.store.tokenizer import Tokenizer
from circuitd.tasks import user_file
from circuitd.tasks.catalog import BUILT_IN
from circuitd.tasks.errors import TaskError
from circuitd.tasks.registry import TaskRegistry
from circuitd.tasks.user_file import load_task_file
from circuitd.tasks.words import Split

TOKENIZER = Tokenizer.load(Path(__file__).parents[3] / "data" / "tinypython")


def pair(left: Any, right: Any, targets: Any = (" in", ":\n")) -> dict[str, Any]:
    return {"prompts": [left, right], "targets": list(targets)}


PAIRS = [pair(f"for {name}", f"while {name}") for name in "abcdefghij"]


def write(path: Path, document: Any) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(line) for line in document), "utf-8")
    else:
        path.write_text(json.dumps(document), "utf-8")
    return path


def test_a_file_of_texts_becomes_batches_with_a_seeded_held_out_split(tmp_path: Path):
    path = write(tmp_path / "loops.json", {"description": "in or :", "pairs": PAIRS})
    task = load_task_file(path)
    assert (task.name, task.description, task.source) == ("loops", "in or :", str(path))
    assert (task.n_pairs("train"), task.n_pairs("held_out")) == (8, 2)
    prompts: dict[str, set[str]] = {}
    sizes: dict[Split, int] = {"train": 8, "held_out": 2}
    for split, n in sizes.items():
        batch = task.sample(TOKENIZER, split, n, 0)
        rows = zip(batch.tokens.tolist(), batch.lengths.tolist(), strict=True)
        prompts[split] = {TOKENIZER.decode(row[:length]) for row, length in rows}
        assert len(prompts[split]) == 2 * n
        assert (batch.answers == [TOKENIZER.single_token(t) for t in (" in", ":\n")]).all()
    assert prompts["train"] | prompts["held_out"] == {p for one in PAIRS for p in one["prompts"]}
    again = load_task_file(path).sample(TOKENIZER, "train", 8, 0)
    np.testing.assert_array_equal(again.tokens, task.sample(TOKENIZER, "train", 8, 0).tokens)


def test_a_sample_larger_than_the_file_uses_every_pair_equally_often(tmp_path: Path):
    task = load_task_file(write(tmp_path / "loops.json", {"pairs": PAIRS}))
    batch = task.sample(TOKENIZER, "train", 20, 1)
    _, counts = np.unique(batch.tokens[:20], axis=0, return_counts=True)
    assert sorted(set(counts.tolist())) == [2, 3]
    assert counts.sum() == 20


def test_token_ids_are_taken_as_they_are(tmp_path: Path):
    pairs = [pair([5, 6, 7], [5, 6, 8], (9, 10)), pair([1], "while x", (" in", 11))]
    document = {"pairs": pairs[:1], "held_out": pairs[1:]}
    task = load_task_file(write(tmp_path / "ids.json", document))
    batch = task.sample(TOKENIZER, "train", 1, 0)
    assert batch.tokens.tolist() == [[5, 6, 7], [5, 6, 8]]
    assert batch.answers.tolist() == [[9, 10]]
    mixed = task.sample(TOKENIZER, "held_out", 1, 0)
    assert mixed.tokens[1, : mixed.lengths[1]].tolist() == TOKENIZER.encode("while x")
    assert mixed.answers.tolist() == [[TOKENIZER.single_token(" in"), 11]]
    assert mixed.tokens[0, 1:].sum() == 0


def test_lines_give_the_same_task_as_a_document(tmp_path: Path):
    lines = [{"description": "d"}, *PAIRS[:3], PAIRS[3] | {"held_out": True}]
    task = load_task_file(write(tmp_path / "loops.jsonl", lines))
    (tmp_path / "other").mkdir()
    document = {"description": "d", "pairs": PAIRS[:3], "held_out": PAIRS[3:4]}
    same = load_task_file(write(tmp_path / "other" / "loops.json", document))
    assert (task.n_pairs("train"), task.n_pairs("held_out")) == (3, 1)
    for split in ("train", "held_out"):
        np.testing.assert_array_equal(
            task.sample(TOKENIZER, split, 3, 0).tokens, same.sample(TOKENIZER, split, 3, 0).tokens
        )


GOOD = PAIRS[0]


@pytest.mark.parametrize(
    ("bad", "field", "problem"),
    [
        ({"prompts": ["a"], "targets": ["x", "y"]}, "prompts", "`array` of length 2"),
        ({"prompts": ["a", "b"]}, None, "missing required field `targets`"),
        ({"prompts": ["a", 5], "targets": ["x", "y"]}, "prompts[1]", "Expected `str | array`"),
        ({"prompts": ["a", [1, -2]], "targets": ["x", "y"]}, "prompts[1][1]", ">= 0"),
        ({"prompts": ["", "b"], "targets": ["x", "y"]}, "prompts[0]", "length >= 1"),
        ({"prompts": ["a", []], "targets": ["x", "y"]}, "prompts[1]", "length >= 1"),
        ({"prompts": ["a", "b"], "targets": ["x", 1.5]}, "targets[1]", "Expected"),
        ({"prompts": ["a", "b"], "targets": ["x", True]}, "targets[1]", "Expected"),
        ({"prompts": ["a", "b"], "targets": ["x", "x"]}, "targets", "both targets are the same"),
        ({"prompts": ["a", "a"], "targets": ["x", "y"]}, "prompts", "both prompts are the same"),
        (GOOD | {"target": "x"}, None, "unknown field `target`"),
        ([1, 2], None, "Expected `object`"),
        (pair("a" * 70_000, "b"), "prompts[0]", "length <= 65536"),
    ],
)
def test_a_bad_pair_is_named_with_its_file_index_and_field(
    tmp_path: Path, bad: Any, field: str | None, problem: str
):
    path = write(tmp_path / "bad.json", {"pairs": [GOOD, PAIRS[1], bad]})
    with pytest.raises(TaskError) as caught:
        load_task_file(path)
    error = caught.value
    assert (error.path, error.pair, error.field) == (str(path), 2, field)
    assert problem in error.problem
    assert error.found
    assert error.advice
    assert str(path) in str(error)
    assert "pair 2" in str(error)
    assert len(str(error)) < 1000


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "truncated"),
        (b'{"pairs": [', "truncated"),
        (b"[]", "Expected `object`"),
        (b'{"pairs": {}}', "Expected `array`"),
        (b'{"pairs": []}', "no pairs"),
        (b'{"pears": []}', "unknown field `pears`"),
        (b'{"pairs": [], "name": "other"}', "differs from the file's stem"),
        (b"\xff\xfe\x00", "malformed"),
        (json.dumps({"pairs": [pair("a\ud800", "b")]}).encode(), "malformed"),
        (json.dumps({"pairs": [GOOD]}).encode(), "both splits need a pair"),
        (json.dumps({"pairs": [GOOD], "held_out": [GOOD]}).encode(), "also a training pair"),
    ],
)
def test_a_bad_document_is_named(tmp_path: Path, content: bytes, problem: str):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(TaskError) as caught:
        load_task_file(path)
    assert caught.value.path == str(path)
    assert problem in caught.value.problem


def test_files_beyond_the_limits_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write(tmp_path / "loops.json", {"pairs": PAIRS})
    monkeypatch.setattr(user_file, "MAX_PAIRS", 9)
    with pytest.raises(TaskError, match="more than 9 pairs"):
        load_task_file(path)
    monkeypatch.setattr(user_file, "MAX_FILE_NBYTES", 100)
    with pytest.raises(TaskError, match="larger than 100 bytes"):
        load_task_file(path)


@pytest.mark.parametrize(
    "name", ["a b.json", ".json", "-x.json", "x.txt", "é.json", "x" * 65 + ".json"]
)
def test_a_file_name_that_is_no_task_name_is_refused(tmp_path: Path, name: str):
    with pytest.raises(TaskError, match="use"):
        load_task_file(write(tmp_path / name, {"pairs": PAIRS}))


@pytest.mark.parametrize(
    ("bad", "field", "problem"),
    [
        (pair("for x", "while x", (" in", " never a token")), "targets[1]", "' ne' 'ver' ' a'"),
        (pair("print('a'", "print(b", (")", ")\n")), "targets[0]", "merges with its surroundings"),
        (pair([5000], [1]), "prompts[0]", "outside the vocabulary 0..2047"),
        (pair([1], [2], (3, 2048)), "targets[1]", "outside the vocabulary"),
        (pair([1], [2], (TOKENIZER.encode(" in")[0], " in")), "targets", "both targets are token"),
    ],
)
def test_a_pair_the_tokenizer_cannot_represent_is_named(
    tmp_path: Path, bad: Any, field: str, problem: str
):
    # The faulty pair alone in its split, so that its place in the file is known.
    path = write(tmp_path / "bad.json", {"pairs": PAIRS, "held_out": [bad]})
    task = load_task_file(path)
    with pytest.raises(TaskError) as caught:
        task.sample(TOKENIZER, "held_out", 1, 0)
    error = caught.value
    assert (error.path, error.task, error.pair) == (str(path), "bad", len(PAIRS))
    assert error.field == field
    assert problem in error.problem
    assert len(task.sample(TOKENIZER, "train", 4, 0).answers) == 4


def test_the_registry_finds_built_in_tasks_and_files(tmp_path: Path):
    write(tmp_path / "loops.json", {"pairs": PAIRS})
    (tmp_path / "notes.txt").write_text("not a task")
    registry = TaskRegistry([tmp_path, tmp_path / "absent"])
    assert registry.names() == [*BUILT_IN, "loops"]
    assert registry.problems() == []
    assert registry.get("loops").source == str(tmp_path / "loops.json")
    assert registry.get("for_while").source == "built-in"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("single_doubel_quote", "single_double_quote"),
        ("bracket", "bracket_brace"),
        ("loop", "loops"),
    ],
)
def test_an_unknown_name_offers_the_nearest(tmp_path: Path, name: str, nearest: str):
    write(tmp_path / "loops.json", {"pairs": PAIRS})
    with pytest.raises(TaskError, match="no such task") as caught:
        TaskRegistry([tmp_path]).get(name)
    assert nearest in caught.value.advice


@pytest.mark.parametrize("name", ["", "../secret", "x" * 100_000, "\x00", "qqqqqqqq"])
def test_a_name_like_nothing_is_a_short_clear_error(name: str):
    with pytest.raises(TaskError, match="no such task") as caught:
        TaskRegistry().get(name)
    assert len(str(caught.value)) < 400


def test_one_faulty_file_hides_no_other_task(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write(tmp_path / "a" / "loops.json", {"pairs": PAIRS})
    (tmp_path / "a" / "broken.json").write_text("{")
    write(tmp_path / "a" / "for_while.json", {"pairs": PAIRS})
    write(tmp_path / "b" / "loops.jsonl", [{}, *PAIRS])
    registry = TaskRegistry([tmp_path / "a", tmp_path / "b"])
    assert registry.get("loops").n_pairs("train") == 8
    assert registry.get("for_while").source == "built-in"
    faulty = {Path(str(problem.path)).name for problem in registry.problems()}
    assert faulty == {"broken.json", "for_while.json", "loops.jsonl"}
    with pytest.raises(TaskError, match="truncated"):
        registry.get("broken")


def test_a_changed_file_is_read_again(tmp_path: Path):
    path = write(tmp_path / "loops.json", {"pairs": PAIRS})
    registry = TaskRegistry([tmp_path])
    first = registry.get("loops")
    assert registry.get("loops") is first
    write(path, {"pairs": PAIRS[:5]})
    os.utime(path, ns=(1, 1))
    assert registry.get("loops").n_pairs("train") == 4
    path.unlink()
    with pytest.raises(TaskError, match="no such task"):
        registry.get("loops")
