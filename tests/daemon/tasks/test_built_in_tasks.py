"""The twenty built-in tasks: what a sample holds, with the tokenizer that ships with the models."""

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest

from circuitd.store.tokenizer import Tokenizer
from circuitd.tasks.catalog import BUILT_IN
from circuitd.tasks.catalog.preambles import PREAMBLES
from circuitd.tasks.errors import TaskError
from circuitd.tasks.task import MAX_PAIRS_PER_SAMPLE, GeneratedTask
from circuitd.tasks.words import POOLS, SHARED_KINDS, SPLITS, Split

SHIPPED = Tokenizer.load(Path(__file__).parents[3] / "data" / "tinypython")
TASKS = {name: GeneratedTask(spec) for name, spec in BUILT_IN.items()}
N = 48

TABLE_1 = """
single_double_quote bracket_counting set_or_string set_or_string_fixedvarname final_kwarg class_init
with_as bracket_brace with_open for_while else_elif fstring_brace if_ternary var_swap indent_for
lambda_func if_equals enumerate_range var_if while_return_true
"""
PUBLISHED_ANSWERS = {
    "set_or_string": (".add", " +="),
    "set_or_string_fixedvarname": (".add", " +="),
    "bracket_counting": ("]", "]]"),
    "bracket_brace": (":", ","),
    "with_open": ("r", "w"),
    "if_equals": (" ==", " ="),
    "while_return_true": (":\n", "\n"),
    "for_while": (" in", ":\n"),
}

each_task = pytest.mark.parametrize("name", BUILT_IN)
each_split = pytest.mark.parametrize("split", SPLITS)


def byte_tokenizer() -> Tokenizer:
    """A vocabulary of the 256 bytes alone."""
    return Tokenizer({bytes([b]): b for b in range(256)}, 256, "bytes")


def identifiers(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def held_out_words() -> set[str]:
    return {w for kind, pool in POOLS["held_out"].items() if kind not in SHARED_KINDS for w in pool}


def test_the_tasks_are_those_of_table_1():
    assert set(BUILT_IN) == set(TABLE_1.split())
    assert all(spec.description for spec in BUILT_IN.values())


@each_split
@each_task
def test_equal_arguments_give_equal_batches_and_a_longer_one_begins_alike(name: str, split: Split):
    one, same = (GeneratedTask(BUILT_IN[name]).sample(SHIPPED, split, N, 3) for _ in range(2))
    np.testing.assert_array_equal(one.tokens, same.tokens)
    np.testing.assert_array_equal(one.answers, same.answers)
    shorter = TASKS[name].sample(SHIPPED, split, 5, 3)
    for side in (0, 1):
        for row in range(5):
            longer_row, shorter_row = row + side * N, row + side * 5
            length = shorter.lengths[shorter_row]
            assert one.lengths[longer_row] == length
            np.testing.assert_array_equal(
                one.tokens[longer_row, :length], shorter.tokens[shorter_row, :length]
            )
    np.testing.assert_array_equal(one.answers[:5], shorter.answers)
    other = TASKS[name].sample(SHIPPED, split, N, 4)
    assert other.tokens.shape != one.tokens.shape or (other.tokens != one.tokens).any()


@each_split
@each_task
def test_every_answer_is_the_token_the_text_goes_on_with(name: str, split: Split):
    batch = TASKS[name].sample(SHIPPED, split, N, 0)
    for row, length, answer in zip(batch.tokens, batch.lengths, batch.right, strict=True):
        prompt = SHIPPED.decode(row[:length].tolist())
        target = SHIPPED.decode([int(answer)])
        assert SHIPPED.encode(prompt + target) == [*row[:length].tolist(), int(answer)]
        assert (row[length:] == 0).all()
        assert SHIPPED.end_of_text not in row


@each_task
def test_answers_appear_in_running_code_under_the_shipped_tokenizer(name: str):
    """The chosen surface form is what the tokenizer makes of prompt + completion."""
    batch = TASKS[name].sample(SHIPPED, "held_out", N, 0)
    completions = {
        pair.prompts: pair.completions
        for pair in itertools.islice(TASKS[name].text_pairs("held_out", 0), 20 * N)
    }
    checked = 0
    for i in range(N):
        rows = (batch.tokens[i, : batch.lengths[i]], batch.tokens[i + N, : batch.lengths[i + N]])
        prompts = (SHIPPED.decode(rows[0].tolist()), SHIPPED.decode(rows[1].tolist()))
        if prompts in completions:
            for side in (0, 1):
                running = SHIPPED.encode(prompts[side] + completions[prompts][side])
                assert running[len(rows[side])] == batch.answers[i, side]
                checked += 1
    # Tasks whose answers are names draw from the words of one token: other pairs, own completions.
    assert checked or name in ("class_init", "var_swap", "else_elif")


@pytest.mark.parametrize(("name", "answers"), PUBLISHED_ANSWERS.items())
def test_answers_are_the_published_ones(name: str, answers: tuple[str, str]):
    batch = TASKS[name].sample(SHIPPED, "train", N, 0)
    expected = [SHIPPED.single_token(answer) for answer in answers]
    assert (batch.answers == expected).all()


@each_split
@each_task
def test_sides_are_balanced_and_differ(name: str, split: Split):
    batch = TASKS[name].sample(SHIPPED, split, N, 1)
    assert batch.tokens.shape[0] == batch.lengths.shape[0] == 2 * N
    assert (batch.answers[:, 0] != batch.answers[:, 1]).all()
    np.testing.assert_array_equal(batch.right[:N], batch.wrong[N:])
    texts = [tuple(row) for row in batch.tokens.tolist()]
    assert all(texts[i] != texts[i + N] for i in range(N))
    assert len({(texts[i], texts[i + N]) for i in range(N)}) == N


@each_split
@pytest.mark.parametrize("name", [n for n, t in TASKS.items() if t.aligned])
def test_aligned_tasks_have_sides_of_equal_length(name: str, split: Split):
    batch = TASKS[name].sample(SHIPPED, split, N, 2)
    np.testing.assert_array_equal(batch.lengths[:N], batch.lengths[N:])


@each_split
@each_task
def test_prompts_fit_a_small_context_and_use_every_template(name: str, split: Split):
    batch = TASKS[name].sample(SHIPPED, split, 512, 5)
    assert batch.lengths.max() <= 96
    starts = {
        re.sub(r"\w+", "w", SHIPPED.decode(row[: batch.lengths[i]].tolist()))
        for i, row in enumerate(batch.tokens[:512])
    }
    assert len(starts) >= 2 * len(BUILT_IN[name].templates(split))


@each_task
def test_a_split_holds_thousands_of_distinct_pairs(name: str):
    for split in SPLITS:
        pairs = itertools.islice(TASKS[name].text_pairs(split, 0), 3000)
        assert len({pair.prompts for pair in pairs}) == 3000


def test_splits_share_no_word_and_no_template():
    for kind in POOLS["train"]:
        if kind not in SHARED_KINDS:
            assert not set(POOLS["train"][kind]) & set(POOLS["held_out"][kind])
    train = {w for kind, pool in POOLS["train"].items() if kind not in SHARED_KINDS for w in pool}
    assert not train & held_out_words()
    assert not {t.text for t in PREAMBLES["train"]} & {t.text for t in PREAMBLES["held_out"]}
    for spec in BUILT_IN.values():
        trained = {re.sub(r"\d", "", t.prompt.text) for t in spec.train}
        held_out = {re.sub(r"\d", "", t.prompt.text) for t in spec.held_out}
        assert len(trained) >= 4
        assert len(held_out) >= 3
        assert not trained & held_out, spec.name


@each_task
def test_generated_training_text_holds_no_held_out_word(name: str):
    forbidden = held_out_words()
    for pair in itertools.islice(TASKS[name].text_pairs("train", 0), 500):
        for prompt, completion in zip(pair.prompts, pair.completions, strict=True):
            assert not identifiers(prompt + completion) & forbidden


@each_task
def test_completions_begin_with_every_target_form(name: str):
    for pair in itertools.islice(TASKS[name].text_pairs("held_out", 0), 100):
        for side in (0, 1):
            for form in pair.targets:
                assert pair.completions[side].startswith(form[side])


def test_a_tokenizer_without_the_targets_is_refused_and_told_what_they_split_into():
    with pytest.raises(TaskError) as caught:
        TASKS["set_or_string"].sample(byte_tokenizer(), "train", 4, 0)
    assert caught.value.task == "set_or_string"
    assert caught.value.field == "targets"
    assert "' ' '+' '='" in str(caught.value)


def test_a_less_preferred_surface_form_serves_a_smaller_vocabulary():
    batch = TASKS["single_double_quote"].sample(byte_tokenizer(), "train", 4, 0)
    assert (batch.answers == [ord("'"), ord('"')]).all()
    assert batch.target_form == "«'¦\"»"


@pytest.mark.parametrize("n", [0, -1, MAX_PAIRS_PER_SAMPLE + 1])
def test_impossible_numbers_of_pairs_are_refused(n: int):
    with pytest.raises(TaskError, match="number of pairs"):
        TASKS["for_while"].sample(SHIPPED, "train", n, 0)


def test_an_unknown_split_is_refused():
    with pytest.raises(TaskError, match="train or held_out"):
        TASKS["for_while"].sample(SHIPPED, "test", 1, 0)  # pyright: ignore[reportArgumentType] # the point


def test_a_model_that_knows_nothing_scores_chance():
    from circuitd.tasks.scoring import score

    batch = TASKS["with_as"].sample(SHIPPED, "train", N, 0)
    result = score(np.zeros((2 * N, SHIPPED.n_vocab), np.float32), batch)
    assert result.loss == pytest.approx(math.log(2), abs=1e-12)
    assert result.accuracy == 0.5
