"""What the messages between editor and language server are made of.

JSON, with camelCase names. Results carry every field; a parameter that has a default may be left
out. Numbers that would be NaN are null. Site names are values, never keys.
"""

from typing import Literal

import msgspec


class Message(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The base of all messages and of their parts."""


class Nothing(Message, frozen=True, kw_only=True):
    """No parameters, or nothing to say."""


class Position(Message, frozen=True, kw_only=True):
    """A place in a document as LSP counts: lines from 0, `character` in the agreed encoding."""

    line: int
    character: int


class Range(Message, frozen=True, kw_only=True):
    """From `start` to just before `end`."""

    start: Position
    end: Position


class Node(Message, frozen=True, kw_only=True):
    """One node: a channel of a site."""

    site: str
    channel: int


class EdgeName(Message, frozen=True, kw_only=True):
    """A weight from a source node to a target node."""

    source: Node
    target: Node


class NodeEffect(Message, frozen=True, kw_only=True):
    """A node of a circuit at one token.

    `activation` is its value there. `delta` is what ablating it alone adds to a loss, in nats: of
    the circuit on its task (a hover), or of this very prediction (an explanation).
    `logit_change` is what that does to right minus wrong logit, where a wrong answer was named.
    """

    node: Node
    #: head.channel for a query, key or value, else the channel.
    label: str
    activation: float | None
    delta: float | None
    logit_change: float | None = None


class Prediction(Message, frozen=True, kw_only=True):
    """A token that might come next."""

    id: int
    #: Its text, blanks and bytes that are no text made visible.
    text: str
    probability: float


class Problem(Message, frozen=True, kw_only=True):
    """An error in words: what was asked, what was found, what to do. Also `data` of each error
    response.
    """

    #: The error's name in docs/protocol.md, like `not_found`.
    code: str
    message: str
    blame: Literal["caller", "daemon", "nobody"] = "nobody"
    retry: bool = False
    asked: str | None = None
    found: str | None = None
    hint: str | None = None
    nearest: tuple[str, ...] = ()
