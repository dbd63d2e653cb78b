"""Which tokenizer belongs to a model, and each loaded once however many models share it.

An artefact tree keeps tokenizers beside `models/`; a configuration calls one by name and vocabulary
size (`tinypython_2k`) where the tree calls its folder by name alone (`tinypython`). A model that is
a directory by itself may have the two files inside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from circuitd.store.tokenizer import ENCODER_FILE, VOCAB_FILE, Tokenizer


class Tokenizers:
    """Tokenizers by directory; a changed file makes a new one."""

    def __init__(self, roots: Sequence[Path] = ()) -> None:
        """`roots` are the artefact trees to search beside the model's own."""
        self._roots = tuple(roots)
        self._loaded: dict[Path, tuple[tuple[int, ...], Tokenizer]] = {}

    def find(self, model_directory: Path, name: str | None) -> Tokenizer | None:
        """The tokenizer called `name` for a model, or None. A faulty one raises TokenizerError."""
        for directory in _candidates(model_directory, name, self._roots):
            if (directory / VOCAB_FILE).is_file() and (directory / ENCODER_FILE).is_file():
                return self._load(directory.resolve())
        return None

    def _load(self, directory: Path) -> Tokenizer:
        stats = [(directory / file).stat() for file in (VOCAB_FILE, ENCODER_FILE)]
        state = tuple(n for stat in stats for n in (stat.st_size, stat.st_mtime_ns, stat.st_ino))
        known = self._loaded.get(directory)
        if known is not None and known[0] == state:
            return known[1]
        tokenizer = Tokenizer.load(directory)
        self._loaded[directory] = (state, tokenizer)
        return tokenizer


def _candidates(model_directory: Path, name: str | None, roots: Sequence[Path]) -> Iterator[Path]:
    yield model_directory
    if name is None or Path(name).name != name or name in ("", ".", ".."):
        return  # a configuration is data from outside: its name is no path
    own_tree = model_directory.parent.parent
    for root in (own_tree, *roots):
        yield root / name
        if "_" in name:
            yield root / name.rpartition("_")[0]
