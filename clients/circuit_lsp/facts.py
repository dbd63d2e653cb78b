"""What the daemon has said about models, circuits and tasks, so as not to ask on each hover.

Valid for one life of the daemon; what can change within it is forgotten after a few seconds, or
when something says that it has changed.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeVar

import msgspec

from circuit_client.graph import Graph, graph_of
from circuit_lsp.link import Link
from circuit_protocol.circuit_replies import CircuitShown
from circuit_protocol.circuits import CircuitSummary
from circuit_protocol.errors import InvalidRequest, NotFound
from circuit_protocol.interventions import Intervention
from circuit_protocol.replies import ModelDescription, ModelSummary, SiteInfo, TaskSummary
from circuit_protocol.session import SelectedNode

_LIST_TTL_S: Final = 5.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Look:
    """Through what a document is looked at: the model, and what the session does to it."""

    model: str | None = None
    circuit: str | None = None
    interventions: tuple[Intervention, ...] = ()
    node: SelectedNode | None = None


class _Config(msgspec.Struct):
    """What is needed of a model's configuration."""

    block_size: int
    vocab_size: int
    d_head: int
    tokenizer_name: str = ""


@dataclass(frozen=True)
class ModelFacts:
    """A model as far as an editor needs to know it."""

    name: str
    model_hash: str
    block_size: int
    vocab_size: int
    d_head: int
    tokenizer: str
    sites: tuple[SiteInfo, ...]

    @cached_property
    def widths(self) -> dict[str, int]:
        """Channels of each site, in the order of the pass."""
        return {site.site: site.width for site in self.sites}


@dataclass(frozen=True)
class CircuitFacts:
    """A circuit, and its graph with heads named."""

    shown: CircuitShown
    d_head: int

    @cached_property
    def graph(self) -> Graph:
        """Nodes in the order of the pass, with what is known of them."""
        return graph_of(self.shown, d_head=self.d_head)

    @property
    def name(self) -> str:
        """What it is called by in requests."""
        return self.shown.summary.id


class Facts:
    """Answers of the daemon that stay true for a while."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._kept: dict[tuple[str, ...], tuple[float, Any]] = {}
        self._instance = ""

    def forget(self, *kinds: str) -> None:
        """Ask again for these kinds of things (none named: for everything)."""
        self._kept = {k: v for k, v in self._kept.items() if kinds and k[0] not in kinds}

    async def _once(
        self, key: tuple[str, ...], ask: Callable[[], Awaitable[T]], ttl_s: float = float("inf")
    ) -> T:
        instance = self._link.connection.welcome.instance
        if instance != self._instance:
            self._kept.clear()
            self._instance = instance
        kept = self._kept.get(key)
        if kept is not None and time.monotonic() - kept[0] < ttl_s:
            return kept[1]
        answer = await ask()
        self._kept[key] = (time.monotonic(), answer)
        return answer

    async def model(self, name: str | None) -> ModelFacts:
        """A model by name; None: the daemon's default."""
        c = self._link.connection
        described: ModelDescription = await self._once(
            ("model", name or ""), lambda: c.models.describe(name), 60.0
        )
        try:
            config = msgspec.json.decode(described.config_json, type=_Config)
        except msgspec.DecodeError as e:
            raise InvalidRequest(
                "this model's configuration cannot be read", asked=described.model, found=str(e)
            ) from None
        return ModelFacts(
            described.model,
            described.model_hash,
            config.block_size,
            config.vocab_size,
            config.d_head,
            config.tokenizer_name,
            described.sites,
        )

    async def circuit(self, reference: str, model: str | None = None) -> CircuitFacts:
        """A circuit by reference."""
        c = self._link.connection
        shown: CircuitShown = await self._once(
            ("circuit", reference, model or ""),
            lambda: c.circuits.show(reference, model=model),
            60.0,
        )
        return CircuitFacts(shown, (await self.model(shown.circuit.model)).d_head)

    async def circuit_if_there(self, look: Look) -> CircuitFacts | None:
        """The circuit of a look; None where there is none, or it has gone since it was chosen."""
        if look.circuit is None:
            return None
        try:
            return await self.circuit(look.circuit, look.model)
        except NotFound:
            return None

    async def circuit_to_explain(self, look: Look, model: str) -> str:
        """The circuit of a look, else that of `model` with the least loss.

        Raises InvalidRequest where there is none.
        """
        if look.circuit is not None:
            return look.circuit
        usable = [s for s in await self.circuits(model) if s.broken is None]
        if not usable:
            raise InvalidRequest(
                "an explanation is in terms of a circuit, and there is none of this model",
                asked=model,
                hint="`circuit prune` finds one",
            )
        return min(usable, key=lambda s: (s.measured.loss, s.measured.k)).id

    async def models(self) -> tuple[ModelSummary, ...]:
        """All models."""
        c = self._link.connection
        return await self._once(("models",), lambda: c.models.list(), _LIST_TTL_S)

    async def tasks(self) -> tuple[TaskSummary, ...]:
        """All tasks."""
        c = self._link.connection
        return await self._once(("tasks",), lambda: c.tasks.list(), _LIST_TTL_S)

    async def circuits(self, model: str | None = None) -> tuple[CircuitSummary, ...]:
        """All circuits, newest first."""
        c = self._link.connection
        return await self._once(
            ("circuits", model or ""), lambda: c.circuits.list(model), _LIST_TTL_S
        )
