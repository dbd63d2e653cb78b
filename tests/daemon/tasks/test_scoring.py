"""Two-token loss and accuracy against figures worked out by hand and by a full softmax."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuitd.tasks.batch import TaskBatch
from circuitd.tasks.scoring import answer_logits, score, two_token_accuracy, two_token_loss


def batch_of(answers: list[list[int]]) -> TaskBatch:
    n = len(answers)
    tokens = np.ones((2 * n, 3), np.int64)
    return TaskBatch("t", "train", tokens, np.full(2 * n, 3), np.array(answers))


def test_only_the_two_answers_count_and_sides_swap_roles():
    logits = np.full((4, 6), 50.0, np.float32)
    logits[:, 2] = [1.0, 0.0, 3.0, 0.0]
    logits[:, 4] = [0.0, 2.0, 1.0, 0.0]
    batch = batch_of([[2, 4], [4, 2]])
    # Rows 0 and 2 are the sides of pair 0 (right: 2, then 4); rows 1 and 3 of pair 1 (4, then 2).
    expected = [
        math.log1p(math.exp(-1)),
        math.log1p(math.exp(-2)),
        math.log1p(math.exp(2)),
        math.log(2),
    ]
    result = score(logits, batch)
    np.testing.assert_allclose(result.row_loss, expected, rtol=1e-12)
    assert result.loss == pytest.approx(sum(expected) / 4, rel=1e-12)
    assert result.accuracy == (1 + 1 + 0 + 0.5) / 4


def test_gathered_logits_are_right_then_wrong():
    logits = np.arange(12, dtype=np.float32).reshape(2, 6)
    np.testing.assert_array_equal(answer_logits(logits, batch_of([[1, 5]])), [[1, 5], [11, 7]])


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_loss_equals_a_softmax_cross_entropy_without_overflow(right: float, wrong: float):
    top = max(right, wrong)
    expected = top + math.log(math.exp(right - top) + math.exp(wrong - top)) - right
    assert two_token_loss(np.array([[right, wrong]]))[0] == pytest.approx(expected, abs=1e-9)


def test_a_nan_is_a_nan_loss_and_a_wrong_answer():
    pair = np.array([[math.nan, 0.0], [1.0, 0.0]])
    assert math.isnan(two_token_loss(pair)[0])
    assert two_token_accuracy(pair) == 0.5


@pytest.mark.parametrize("shape", [(3, 6), (2,), (0, 6)])
def test_logits_of_another_batch_are_refused(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match="expected logits"):
        answer_logits(np.zeros(shape), batch_of([[1, 2]]))


def test_a_batch_whose_arrays_do_not_fit_cannot_be_made():
    with pytest.raises(ValueError, match="2 answer pairs need 4 rows"):
        TaskBatch("t", "train", np.zeros((3, 2)), np.zeros(3), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="do not fit"):
        TaskBatch("t", "train", np.zeros((4, 2)), np.zeros(3), np.zeros((2, 2)))
