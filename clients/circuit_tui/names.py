"""The bytes of tokens, asked for once each."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from circuit_client.verbs.models import detokenize

if TYPE_CHECKING:
    from circuit_client.call import Call
    from circuit_protocol.replies import TextPiece


class TokenNames:
    """What is known of a model's tokens. Another model begins anew."""

    def __init__(self) -> None:
        self._model: str | None = None
        self._known: dict[int, bytes] = {}

    def missing(self, model: str, ids: Iterable[int]) -> list[int]:
        """Which of `ids` are not known yet."""
        if model != self._model:
            self._model, self._known = model, {}
        return sorted({int(i) for i in ids} - self._known.keys())

    def question(
        self, ids: Sequence[int]
    ) -> "tuple[Call[Any, tuple[TextPiece, ...]], Callable[[tuple[TextPiece, ...]], None]]":
        """What to ask about these ids, and how to take in the answer."""
        model = self._model

        def take(pieces: "tuple[TextPiece, ...]") -> None:
            if model == self._model:
                for i, piece in zip(ids, pieces, strict=True):
                    self._known[i] = piece.data or piece.text.encode()

        return detokenize([[i] for i in ids], model), take

    def __getitem__(self, token: int) -> bytes:
        return self._known.get(int(token), b"\xef\xbf\xbd")

    def of(self, ids: Iterable[int]) -> list[bytes]:
        """The bytes of each."""
        return [self[i] for i in ids]
