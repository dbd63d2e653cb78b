"""The tokenizer: byte-level BPE of 2,048 tokens, stored in tiktoken's data-gym form.

`tokenizers` learns the merges; the two files `vocab.bpe` (merges, one a line) and `encoder.json`
(token to id) are written so that `tiktoken.load.data_gym_to_mergeable_bpe_ranks` reads them.
Ids 0..255 are the bytes in data-gym order, 256..2046 the merges, 2047 is `<|endoftext|>`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from circuitd.store.tokenizer import ENCODER_FILE, END_OF_TEXT, PATTERN, VOCAB_FILE

VOCAB_SIZE = 2048


def byte_alphabet() -> dict[int, str]:
    """Byte to the printable character that stands for it, in order of token id."""
    printable = [b for b in range(256) if chr(b).isprintable() and b != 0x20]
    unprintable = [b for b in range(256) if b not in printable]
    alphabet = {b: chr(b) for b in printable}
    alphabet.update({b: chr(256 + i) for i, b in enumerate(unprintable)})
    return alphabet


def learn_merges(texts: Iterable[str]) -> list[tuple[str, str]]:
    """The 1,791 merges learned from `texts`, in order, in the byte alphabet."""
    learner = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PATTERN), behavior="isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    learner.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])  # pyright: ignore[reportAttributeAccessIssue] # the stub lacks the setter
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - 1,
        initial_alphabet=sorted(byte_alphabet().values()),
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    merges = [(a, b) for a, b in json.loads(learner.to_str())["model"]["merges"]]
    if len({a + b for a, b in merges}) != len(merges) or len(merges) != VOCAB_SIZE - 257:
        raise ValueError(f"{len(merges)} merges learned, not all of them distinct tokens")
    return merges


def write(folder: Path, merges: list[tuple[str, str]]) -> None:
    """Write `vocab.bpe` and `encoder.json` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges), ""]
    (folder / VOCAB_FILE).write_text("\n".join(lines), encoding="utf-8")
    tokens = [*byte_alphabet().values(), *(a + b for a, b in merges), END_OF_TEXT]
    encoder = {token: index for index, token in enumerate(tokens)}
    (folder / ENCODER_FILE).write_text(json.dumps(encoder), encoding="utf-8")
