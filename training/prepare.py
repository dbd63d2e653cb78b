"""Token streams on disk: corpus and snippets as uint16 ids, `<|endoftext|>` between documents.

`corpus.json` beside them counts what they hold, for the model card.
"""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuitd.store.tokenizer import Tokenizer
from circuitd.tasks.snippets import snippet_stream
from training import corpus
from training.drills import drill_stream, names_of

COUNTS_FILE = "corpus.json"
#: Names for the drills are counted in every eighth training document.
NAME_STRIDE = 8
#: The answer of a drill counts this many times in the loss: it is one token of about twenty.
ANSWER_WEIGHT = 8


def write_streams(
    work: Path, tokenizer: Tokenizer, *, n_snippet_tokens: int, drill_share: float, seed: int
) -> None:
    """Tokenise the corpus in `work/wheels` and generated snippets into `work`.

    Writes `train.npy`, `held_out.npy`, `snippets.npy`, `snippet_starts.npy`,
    `snippet_weights.npy` and `corpus.json`.
    `drill_share` is the share of the snippet documents that are drills.
    """
    documents = list(corpus.documents(work / "wheels"))
    # Order by hash: packages mix, and the order does not depend on the file system.
    documents.sort(key=lambda d: hashlib.sha256(f"{seed}:{d.path}".encode()).digest())
    counts: dict[str, dict[str, int]] = {}
    for name, held_out in (("train", False), ("held_out", True)):
        chosen = [d for d in documents if d.held_out == held_out]
        pieces = [tokenizer.encode(document.text) for document in chosen]
        for document, ids in zip(chosen, pieces, strict=True):
            row = counts.setdefault(
                document.package, {"n_files": 0, "n_tokens": 0, "n_held_out": 0}
            )
            row["n_files"] += 1
            row["n_tokens"] += len(ids)
            row["n_held_out"] += held_out
        np.save(work / f"{name}.npy", joined(pieces, tokenizer.end_of_text)[0])
    names = names_of([d.text for d in documents if not d.held_out][::NAME_STRIDE])
    snippets = write_snippets(work, tokenizer, n_snippet_tokens, drill_share, names, seed)
    summary = {"packages": counts, "snippets": snippets}
    (work / COUNTS_FILE).write_text(json.dumps(summary, indent=1))


def write_snippets(
    work: Path,
    tokenizer: Tokenizer,
    n_wanted: int,
    drill_share: float,
    names: tuple[str, ...],
    seed: int,
) -> dict[str, Any]:
    """Generate `n_wanted` tokens of snippets into `work` and return their counts.

    `names` fill the drills, which are `drill_share` of the documents.
    """
    plain, drills = snippet_stream(seed), drill_stream(seed, names)
    rng = random.Random(f"mix:{seed}")
    pieces: list[list[int]] = []
    weights: list[NDArray[np.uint8]] = []
    n_tokens = n_drill_tokens = 0
    while n_tokens < n_wanted:
        is_drill = rng.random() < drill_share
        text, answers = next(drills) if is_drill else (next(plain), [])
        ids = tokenizer.encode(text)
        # An answer that a longer token swallows, or that begins inside one, weighs nothing more.
        is_answer = np.isin(tokenizer.byte_offsets(ids)[:, 0], answers)
        weights.append(np.append(np.where(is_answer, ANSWER_WEIGHT, 1), 1).astype(np.uint8))
        pieces.append(ids)
        n_tokens += len(ids) + 1
        n_drill_tokens += (len(ids) + 1) * is_drill
    tokens, starts = joined(pieces, tokenizer.end_of_text)
    np.save(work / "snippets.npy", tokens)
    np.save(work / "snippet_starts.npy", starts)
    np.save(work / "snippet_weights.npy", np.concatenate(weights))
    return {
        "n_documents": len(pieces),
        "n_tokens": n_tokens,
        "n_drill_tokens": n_drill_tokens,
        "answer_weight": ANSWER_WEIGHT,
    }


def joined(
    pieces: list[list[int]], end_of_text: int
) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    """One stream of all pieces, each followed by `end_of_text`, and the offset of each piece."""
    lengths = np.array([len(ids) + 1 for ids in pieces])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    stream = np.full(int(lengths.sum()), end_of_text, np.uint16)
    for start, ids in zip(starts, pieces, strict=True):
        stream[start : start + len(ids)] = ids
    return stream, starts
