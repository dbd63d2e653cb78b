"""What the front process and a worker say to each other, over a private ipc socket.

The front keeps the clients, the queues and the decisions; a worker keeps models and computes. A
work item carries its client's request unchanged (header bytes and frames), so a request is decoded
once more in the worker instead of translated; what the front decided about it stands beside it.
Frames: the msgpack of one message here, then the raw frames it announces, in order.

Big tensors never travel through the front: a worker writes them to a *segment*, a file in the
daemon's private segment directory (tmpfs where there is one), and names it; the front maps the file
and sends its bytes to clients, also while the worker is busy or gone.
"""

from typing import Literal

import msgspec

from circuit_protocol.errors import ErrorInfo
from circuit_protocol.requests import DTypeName
from circuit_protocol.tensors import DType


def worker_address(number: int, front_pid: int) -> bytes:
    """By what a worker is known on its front's socket, and on no other front's at the same path."""
    return f"worker-{number}-of-{front_pid}".encode()


class _Message(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="message"
):
    pass


class ModelKey(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A resident model: one checkpoint at one state of its files, in one dtype.

    `signature` changes when a file of the checkpoint changes (path, size, mtime, inode).
    """

    path: str
    signature: str
    dtype: DTypeName = "float32"


class Segment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A held tensor: a file of the segment directory. `handle` is its public name."""

    handle: str
    file: str
    dtype: DType
    shape: tuple[int, ...]
    nbytes: int
    description: str = ""


class Item(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request to carry out. `work` is the front's number for it.

    `header` is the client's frame 0; `n_frames` frames follow the message for this item, in the
    order of the items. `segments` are the held tensors the request names by handle.
    `checkpoint_dir` is where a job keeps what it needs to resume (it may hold some already).
    """

    work: int
    header: bytes
    n_frames: int = 0
    model: ModelKey | None = None
    segments: tuple[Segment, ...] = ()
    checkpoint_dir: str | None = None


# ------------------------------------------------------------------------------ front -> worker


class Run(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="run"):
    """Carry out `items`; several items are compatible forwards to be computed as one batch.

    Interactive work goes before batch work, at the step boundaries of the latter.
    """

    items: tuple[Item, ...]
    priority: Literal["interactive", "batch"] = "interactive"


class Load(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="load"):
    """Make a model resident; answered by `Loaded` or `LoadFailed`."""

    model: ModelKey


class Unload(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="unload"):
    """Free a model; answered by `Unloaded` when its memory has returned."""

    model: ModelKey


class CancelWork(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="cancel"):
    """End a work item at its next step; it still answers, with the error of that name."""

    work: int
    reason: Literal["cancelled", "deadline_exceeded"] = "cancelled"


class Exit(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="exit"):
    """End the process."""


# ------------------------------------------------------------------------------ worker -> front


class Ready(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="ready"):
    """The worker is up; `memory_nbytes` is what its device has in all."""

    pid: int
    device: str
    memory_nbytes: int


class Heartbeat(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="heartbeat"):
    """Sent once a second by the worker's I/O thread: alive, also in the middle of a long step."""

    rss_nbytes: int
    device_used_nbytes: int = 0


class Loaded(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="loaded"):
    """A model is resident. `nbytes` was measured."""

    model: ModelKey
    model_hash: str
    nbytes: int
    block_size: int
    vocab_size: int
    notes: tuple[str, ...] = ()
    execution: str = ""


class Resized(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="resized"):
    """A resident model takes other memory than was told: a request has made its weights dense."""

    model: ModelKey
    nbytes: int


class LoadFailed(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="load_failed"):
    """A model could not be loaded; nothing of it stays in memory."""

    model: ModelKey
    error: ErrorInfo


class Unloaded(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="unloaded"):
    """A model's memory has returned; `freed_nbytes` was measured."""

    model: ModelKey
    freed_nbytes: int = 0


class Answer(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="answer"):
    """A reply to a work item: `header` is an encoded reply of the protocol, `n_frames` follow.

    `segments` are tensors newly held for it. Exactly one answer per item has `final`. `error` marks
    the final answer of an item that failed.
    """

    work: int
    header: bytes
    n_frames: int = 0
    final: bool = True
    error: bool = False
    segments: tuple[Segment, ...] = ()


ToWorker = Run | Load | Unload | CancelWork | Exit
FromWorker = Ready | Heartbeat | Loaded | Resized | LoadFailed | Unloaded | Answer
