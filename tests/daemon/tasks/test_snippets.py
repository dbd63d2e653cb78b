"""The snippet stream: repeatable, varied, and never a held-out template."""

import ast
import itertools
import re
import time

from circuitd.tasks.catalog import BUILT_IN
from circuitd.tasks.snippets import snippet_stream
from circuitd.tasks.task import GeneratedTask
from circuitd.tasks.words import POOLS, SHARED_KINDS

SNIPPETS = list(itertools.islice(snippet_stream(7), 1500))
TEXT = "\n".join(SNIPPETS)


def test_equal_seeds_give_equal_streams_and_others_do_not():
    assert list(itertools.islice(snippet_stream(7), 50)) == SNIPPETS[:50]
    assert list(itertools.islice(snippet_stream(8), 50)) != SNIPPETS[:50]


def test_no_held_out_word_ever_occurs():
    forbidden = {
        word
        for kind, pool in POOLS["held_out"].items()
        if kind not in SHARED_KINDS
        for word in pool
    }
    assert not set(re.findall(r"\w+", TEXT)) & forbidden


def test_no_held_out_prompt_ever_occurs():
    for spec in BUILT_IN.values():
        for pair in itertools.islice(GeneratedTask(spec).text_pairs("held_out", 0), 200):
            assert not any(prompt in TEXT for prompt in pair.prompts)


def test_both_answers_of_every_task_are_exercised():
    parts = ("print('", 'print("', "]] =", "set()", "current.add", "current +=", "=None):")
    parts += (" as ", "with open(", ", 'r')", ', "w")', "else:", "elif ", " else ", "lambda ")
    parts += ("in enumerate(", "in range(", "while True:", "return True\n", " == ", " = {", "(self")
    for part in parts:
        assert part in TEXT, part


def test_most_snippets_are_valid_python():
    """Fragments of methods and stray returns are meant to be there; the rest must parse."""

    def parses(code: str) -> bool:
        try:
            ast.parse(code)
        except SyntaxError:
            return False
        return True

    assert sum(map(parses, SNIPPETS)) / len(SNIPPETS) > 0.5


def test_the_stream_keeps_up_with_a_tokenizer():
    stream = snippet_stream(0)
    start = time.process_time()
    nbytes = sum(len(next(stream)) for _ in range(1000))
    assert nbytes / (time.process_time() - start) > 500_000
