"""What is refused of prompts, targets and answers, and with which numbers."""

from __future__ import annotations

import numpy as np
import pytest

from circuit_protocol.requests import (
    Forward,
    Hook,
    PromptInput,
    Prompts,
    Record,
    SampleTask,
    TaskInput,
)
from circuit_protocol.tensors import Tensor


def tokens(array, dtype="I32") -> Tensor:
    kinds = {"I32": np.int32, "U64": np.uint64, "F32": np.float32}
    a = np.asarray(array, kinds[dtype])
    return Tensor(dtype=dtype, shape=a.shape, data=a.tobytes())


@pytest.mark.parametrize(
    ("prompts", "code", "says"),
    [
        (Prompts(), "invalid_request", "texts"),
        (Prompts(texts=("a",), tokens=tokens([[1]])), "invalid_request", "either"),
        (Prompts(texts=("a",), lengths=(1,)), "invalid_request", "lengths"),
        (Prompts(texts=()), "bad_tokens", "empty"),
        (Prompts(texts=("a", "")), "bad_tokens", "row 1"),
        (Prompts(tokens=tokens(np.empty((0, 4)))), "bad_tokens", "empty"),
        (Prompts(tokens=tokens(np.empty((2, 0)))), "bad_tokens", "empty"),
        (Prompts(tokens=tokens([1, 2])), "bad_shape", "any"),
        (Prompts(tokens=tokens([[1.0]], "F32")), "bad_shape", "dtype"),
        (Prompts(tokens=tokens([[1, 2048]])), "bad_tokens", "2048 at row 0, column 1"),
        (Prompts(tokens=tokens([[-1]])), "bad_tokens", "-1"),
        (Prompts(tokens=tokens([[2**64 - 1]], "U64")), "bad_tokens", "18446744073709551615"),
        (Prompts(tokens=tokens(np.zeros((1, 49)))), "bad_tokens", "49 tokens"),
        (Prompts(texts=("x = 1\n" * 60,)), "bad_tokens", "Shorten it by"),
        (Prompts(tokens=tokens([[1, 2]]), lengths=(1, 2)), "bad_shape", "one length per row"),
        (Prompts(tokens=tokens([[1, 2]]), lengths=(3,)), "bad_tokens", "row 0: 3"),
        (Prompts(tokens=tokens([[1, 2]]), lengths=(0,)), "bad_tokens", "1 to 2"),
        (Prompts(tokens=Tensor(dtype="I32", shape=(1, 9), frame=1)), "malformed_message", "frame"),
    ],
)
def test_prompts_that_cannot_be_run(desk, prompts, code, says):
    error = desk.fail(Forward(id="1", model="m", prompts=prompts)).error
    assert error.code == code
    assert says in " ".join(filter(None, (error.message, error.asked, error.found, error.hint)))


def test_ids_in_the_padding_do_not_matter(desk):
    prompts = Prompts(tokens=tokens([[1, 2, 99999]]), lengths=(2,))
    answered = desk.ask(Forward(id="1", model="m", prompts=prompts))
    assert desk.array(answered.reply.tokens, answered).tolist() == [[1, 2, 0]]


@pytest.mark.parametrize(
    ("targets", "code"),
    [
        (tokens([[1, 2]]), "bad_shape"),
        (tokens([[1, 2, 2048]]), "bad_tokens"),
        (tokens([[1, -2, 0]]), "bad_tokens"),
        (tokens([[-1, -1, -1]]), "bad_tokens"),
    ],
)
def test_targets_that_score_nothing_or_fit_nothing(desk, targets, code):
    prompts = Prompts(tokens=tokens([[1, 2, 3]]))
    request = Forward(id="1", model="m", prompts=prompts, targets=targets)
    assert desk.fail(request).error.code == code


@pytest.mark.parametrize(
    ("answers", "code"), [(tokens([[1]]), "bad_shape"), (tokens([[1, 5000]]), "bad_tokens")]
)
def test_answers_are_a_right_and_a_wrong_token_per_row(desk, answers, code):
    given = PromptInput(prompts=Prompts(tokens=tokens([[1, 2, 3]])), answers=answers)
    request = Hook(id="1", model="m", input=given, records=(Record(site="final_resid"),))
    assert desk.fail(request).error.code == code


def test_a_tasks_sample_has_its_pairs_half_a_batch_apart(desk):
    request = SampleTask(id="1", model="m", input=TaskInput(task="single_double_quote", n=5))
    answered = desk.ask(request)
    rows = desk.array(answered.reply.tokens, answered)
    answers = desk.array(answered.reply.answers, answered)
    lengths = desk.array(answered.reply.lengths, answered)
    assert rows.shape[0] == len(lengths) == len(answers) == 10
    np.testing.assert_array_equal(answers[:5], answers[5:, ::-1])
    sample = desk.host.tasks.get("single_double_quote").sample(desk.model.tokenizer, "train", 5, 0)
    np.testing.assert_array_equal(rows, sample.tokens)
    assert answers[:, 0].tolist() == sample.right.tolist()


def test_unknown_tasks_bring_the_nearest_names(desk):
    request = SampleTask(id="1", model="m", input=TaskInput(task="single_double_qoute", n=5))
    error = desk.fail(request).error
    assert error.code == "not_found"
    assert "single_double_quote" in error.nearest
