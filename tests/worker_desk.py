"""A tiny random model on disk, and a worker's loop around it without a process or a socket."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from circuit_protocol import codec
from circuit_protocol.interventions import Values
from circuit_protocol.replies import AnyReply, Failed
from circuit_protocol.requests import Request
from circuit_protocol.tensors import Frame, Handle, unpack
from circuitd import work
from circuitd.engine.config import GPTConfig
from circuitd.engine.sites import node_sites
from circuitd.engine.weights import expected_shapes
from circuitd.store.model_files import MEANS_FILE
from circuitd.worker.host import Host
from circuitd.worker.inbox import Inbox
from circuitd.worker.loop import Loop
from circuitd.worker.models import ResidentModel
from circuitd.worker.registry import Registry

#: The repository's artefact tree.
DATA = Path(__file__).parents[1] / "data"

CONFIG = GPTConfig(
    block_size=48,
    vocab_size=2048,
    n_layer=2,
    n_head=4,
    d_head=8,
    d_model=32,
    d_mlp=64,
    rms_norm=True,
    afrac=0.5,
    tied_unembed=False,
    tokenizer_name="tinypython_2k",
    sink=True,
)


def write_model(directory: Path, config: GPTConfig = CONFIG, *, means: bool = True) -> Path:
    """A random model in the published form, about a third of its block weights nonzero."""
    directory.mkdir(parents=True)
    draw = torch.Generator().manual_seed(5)
    state: dict[str, torch.Tensor] = {}
    for name, shape in expected_shapes(config).items():
        tensor = torch.randn(shape, generator=draw) * 0.2
        if len(shape) == 2 and ".h." in name:
            tensor = tensor * 2 * (torch.rand(shape, generator=draw) < 0.3)
        state[name] = tensor + 1.0 if "ln_" in name and name.endswith("weight") else tensor
    save_file(state, directory / "final_model.safetensors")
    (directory / "beeg_config.json").write_text(json.dumps(config.to_json()))
    if means:
        save_file(
            {s.name: torch.randn(s.width, generator=draw) for s in node_sites(config)},
            directory / MEANS_FILE,
        )
    return directory


@dataclass(frozen=True)
class Answered:
    """One reply with what came along."""

    reply: AnyReply
    frames: Sequence[Frame]
    answer: work.Answer


@dataclass
class Desk:
    """Asks a loop as the front would, and keeps what it answers."""

    host: Host
    inbox: Inbox
    loop: Loop
    key: work.ModelKey
    sent: list[tuple[work.FromWorker, list[Frame]]]
    segments: dict[str, work.Segment] = field(default_factory=dict)
    n_items: int = 0

    @property
    def model(self) -> ResidentModel:
        return self.host.models.get(self.key)

    def item(self, request: Request, n_frames: int = 0) -> work.Item:
        self.n_items += 1
        return work.Item(
            work=self.n_items,
            header=codec.encode(request),
            n_frames=n_frames,
            model=self.key,
            segments=tuple(self.segments.values()),
        )

    def finish(self) -> None:
        """Take in what was put, and step until nothing is left to do."""
        assert self.loop.take_in()
        while self.loop.is_busy:
            self.loop.step()

    def ask_all(
        self, requests: Sequence[Request], frames: Sequence[Sequence[Frame]] = ()
    ) -> list[list[Answered]]:
        """All replies to each of several requests that arrive as one run."""
        frames = frames or [()] * len(requests)
        items = tuple(self.item(r, len(f)) for r, f in zip(requests, frames, strict=True))
        self.sent.clear()
        self.inbox.put(work.Run(items=items), [f for several in frames for f in several])
        self.finish()
        answers: dict[int, list[Answered]] = {item.work: [] for item in items}
        for message, came in self.sent:
            if isinstance(message, work.Answer):
                reply = codec.decode_reply(message.header)
                answers[message.work].append(Answered(reply, came, message))
                self.segments |= {s.handle: s for s in message.segments}
        assert self.inbox.unanswered == ()
        for replies in answers.values():
            assert [a.reply.final for a in replies] == [False] * (len(replies) - 1) + [True]
            assert [a.reply.seq for a in replies] == list(range(len(replies)))
        return list(answers.values())

    def ask(self, request: Request, frames: Sequence[Frame] = ()) -> Answered:
        """The final reply to one request, which must not have failed."""
        answered = self.ask_all([request], [frames])[0][-1]
        assert not isinstance(answered.reply, Failed), answered.reply.error
        return answered

    def fail(self, request: Request, frames: Sequence[Frame] = ()) -> Failed:
        """The error that ends one request."""
        answered = self.ask_all([request], [frames])[0][-1]
        assert isinstance(answered.reply, Failed)
        assert answered.answer.error
        return answered.reply

    def array(self, values: Values | None, answered: Answered) -> np.ndarray:
        """The numbers of a tensor in a reply, fetched if it is held."""
        assert values is not None
        if isinstance(values, Handle):
            return self.host.segments.read(self.segments[values.handle])
        return unpack(values, answered.frames)


def make_desk(host: Host, key: work.ModelKey, registry: Registry) -> Desk:
    inbox = Inbox()
    sent: list[tuple[work.FromWorker, list[Frame]]] = []
    loop = Loop(inbox, lambda message, frames: sent.append((message, list(frames))), host, registry)
    return Desk(host, inbox, loop, key, sent)
