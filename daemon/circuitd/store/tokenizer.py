"""The byte-level BPE tokenizer of an artefact tree: `vocab.bpe` and `encoder.json`.

tiktoken does the work. Both files are read and held against each other here, because it trusts
whatever ranks it is given: a merge list that disagrees with the vocabulary would tokenise quietly
wrong.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import tiktoken

PATTERN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""The published pre-tokenisation pattern of `tinypython_2k`."""

END_OF_TEXT = "<|endoftext|>"
VOCAB_FILE = "vocab.bpe"
ENCODER_FILE = "encoder.json"
MAX_WHITESPACE_RUN = 100_000
"""Longest run of whitespace characters that is encoded.

tiktoken's regular expressions keep a backtracking stack over such a run and abort the thread with a
panic somewhere between 900,000 and 3,000,000 characters.
"""

_TOO_MUCH_WHITESPACE = re.compile(rf"\s{{{MAX_WHITESPACE_RUN + 1}}}")
_MAX_FILE_NBYTES = 64 << 20


class TokenizerError(ValueError):
    """Tokenizer files that cannot be used, or text and ids that cannot be converted.

    `path` names the file at fault, or is None where a text or an id is.
    """

    def __init__(self, problem: str, path: Path | None = None) -> None:
        self.path = path
        super().__init__(problem if path is None else f"{path}: {problem}")


def _printable_bytes() -> dict[str, int]:
    """The data-gym alphabet: printable bytes stand for themselves, the others for U+0100 onwards.

    The order is also that of the 256 single-byte tokens' ranks.
    """
    printable = [byte for byte in range(256) if chr(byte).isprintable() and chr(byte) != " "]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    letters.update({chr(256 + i): byte for i, byte in enumerate(others)})
    return letters


_BYTE_OF_LETTER = _printable_bytes()


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_FILE_NBYTES:
            raise TokenizerError(f"larger than {_MAX_FILE_NBYTES} bytes, not a vocabulary", path)
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise TokenizerError(f"cannot be read: {error.strerror or error}", path) from error
    except UnicodeDecodeError as error:
        raise TokenizerError(f"is not UTF-8 text (byte {error.start})", path) from error


def _token_bytes(spelling: str, path: Path) -> bytes:
    try:
        return bytes(_BYTE_OF_LETTER[letter] for letter in spelling)
    except KeyError as error:
        raise TokenizerError(
            f"token {spelling!r} holds {error.args[0]!r}, which is no data-gym byte letter", path
        ) from error


def _read_merges(path: Path) -> dict[bytes, int]:
    ranks = {bytes([byte]): rank for rank, byte in enumerate(_BYTE_OF_LETTER.values())}
    lines = _read_text(path).split("\n")
    first = 1 if lines[0].startswith("#version") else 0
    for number, line in enumerate(lines[first:], start=first + 1):
        if not line:
            continue
        halves = line.split(" ")
        if len(halves) != 2:
            raise TokenizerError(f"line {number} is {line!r}, not two tokens and a space", path)
        left, right = (_token_bytes(half, path) for half in halves)
        for half, spelling in ((left, halves[0]), (right, halves[1])):
            if half not in ranks:
                raise TokenizerError(
                    f"line {number} merges {spelling!r}, which no earlier line makes", path
                )
        if left + right in ranks:
            raise TokenizerError(f"line {number} makes a token that already exists: {line!r}", path)
        ranks[left + right] = len(ranks)
    return ranks


def _read_encoder(path: Path) -> dict[str, int]:
    try:
        return msgspec.json.decode(_read_text(path), type=dict[str, int])
    except msgspec.MsgspecError as error:
        raise TokenizerError(f"is not a JSON object from tokens to ids: {error}", path) from error


class Tokenizer:
    """Text to token ids and back. Immutable; safe to use from several threads.

    `n_vocab` counts ids, special token included; `end_of_text` is the id of `<|endoftext|>`;
    `fingerprint` is a hex SHA-256 of the ranks and the pattern, equal for equal tokenisers.
    """

    def __init__(self, ranks: dict[bytes, int], end_of_text: int, name: str) -> None:
        """Build from mergeable ranks (bytes to id) and the id of the one special token."""
        self.name = name
        self.end_of_text = end_of_text
        self.n_vocab = len(ranks) + 1
        self._encoding = tiktoken.Encoding(
            name=name,
            pat_str=PATTERN,
            mergeable_ranks=ranks,
            special_tokens={END_OF_TEXT: end_of_text},
            explicit_n_vocab=self.n_vocab,
        )
        by_id = {rank: token for token, rank in ranks.items()}
        by_id[end_of_text] = END_OF_TEXT.encode()
        self._bytes_by_id = tuple(by_id[i] for i in range(self.n_vocab))
        digest = hashlib.sha256(PATTERN.encode())
        for token in self._bytes_by_id:
            digest.update(len(token).to_bytes(4, "little") + token)
        digest.update(end_of_text.to_bytes(4, "little"))
        self.fingerprint = digest.hexdigest()

    @classmethod
    def load(cls, directory: Path | str) -> Tokenizer:
        """Read `vocab.bpe` and `encoder.json` of a directory and check that they agree.

        Raises TokenizerError, naming the file, if one is missing, malformed or contradicts the
        other.
        """
        folder = Path(directory)
        vocab_path, encoder_path = folder / VOCAB_FILE, folder / ENCODER_FILE
        ranks = _read_merges(vocab_path)
        encoder = _read_encoder(encoder_path)
        end_of_text = encoder.pop(END_OF_TEXT, None)
        if end_of_text is None:
            raise TokenizerError(f"has no {END_OF_TEXT}", encoder_path)
        listed = {_token_bytes(token, encoder_path): rank for token, rank in encoder.items()}
        for token, rank in ranks.items():
            if listed.get(token) != rank:
                raise TokenizerError(
                    f"gives token {token!r} id {listed.get(token)}, {VOCAB_FILE} gives it {rank}",
                    encoder_path,
                )
        if len(listed) != len(ranks):
            extra = next(token for token in listed if token not in ranks)
            raise TokenizerError(f"lists {extra!r}, which {VOCAB_FILE} never makes", encoder_path)
        if end_of_text != len(ranks):
            raise TokenizerError(
                f"gives {END_OF_TEXT} id {end_of_text}, expected the last id {len(ranks)}",
                encoder_path,
            )
        return cls(ranks, end_of_text, folder.name or str(folder))

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of `text`; `<|endoftext|>` is the special token only with `special=True`.

        Raises TokenizerError for a lone surrogate, which has no UTF-8 bytes, and for a run of
        whitespace longer than MAX_WHITESPACE_RUN.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise TokenizerError(
                f"character {error.start} is the lone surrogate {text[error.start]!r}, "
                "which is not text; decode the input as UTF-8 first"
            ) from error
        if len(text) > MAX_WHITESPACE_RUN:
            run = _TOO_MUCH_WHITESPACE.search(text)
            if run is not None:
                raise TokenizerError(
                    f"more than {MAX_WHITESPACE_RUN} whitespace characters in a row from character "
                    f"{run.start()}; shorten the run"
                )
        if special:
            return self._encoding.encode(text, allowed_special={END_OF_TEXT})
        return self._encoding.encode_ordinary(text)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids; bytes that are not UTF-8 (a token split a character) become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Exact bytes of the ids. Raises TokenizerError for an id outside the vocabulary."""
        return b"".join(self.token_bytes(token_id) for token_id in ids)

    def token_bytes(self, token_id: int) -> bytes:
        """Bytes of one token; the special token's are those of its name."""
        if not 0 <= token_id < self.n_vocab:
            raise TokenizerError(f"token id {token_id} is outside 0..{self.n_vocab - 1}")
        return self._bytes_by_id[token_id]

    def single_token(self, text: str) -> int | None:
        """The id of `text` if it is exactly one token, else None."""
        ids = self.encode(text)
        return ids[0] if len(ids) == 1 else None

    def byte_offsets(self, ids: Sequence[int]) -> np.ndarray:
        """Where each token lies in the UTF-8 text of the ids: int64 [n, 2], start and end in bytes.

        Offsets count bytes, not characters, since a byte-level token may split a code point.
        """
        ends = list(itertools.accumulate(len(self.token_bytes(token_id)) for token_id in ids))
        starts = [0, *ends[:-1]] if ends else []
        return np.array([starts, ends], dtype=np.int64).T.reshape(-1, 2)
