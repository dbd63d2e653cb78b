"""What the server works on: the documents that are open, the daemon, the session, the settings.

It carries out the orders of each document's `Watch`, and tells its listener what an editor should
hear: fresh heat, a changed session, another standing with the daemon.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from lsprotocol import types
from pygls.workspace import PositionCodec

from circuit_lsp.errors import as_circuit_error
from circuit_lsp.facts import Facts, Look
from circuit_lsp.following import Following
from circuit_lsp.heat import heat_of
from circuit_lsp.link import Link, Place, Standing
from circuit_lsp.messages.daemon import JobInfo
from circuit_lsp.messages.documents import Heat, HeatChoice
from circuit_lsp.messages.settings import Settings
from circuit_lsp.messages.shared import Position
from circuit_lsp.reading import Reading, read
from circuit_lsp.texts import Text
from circuit_lsp.watching import Order, Read, Say, Stop, Wait, Watch
from circuit_protocol.errors import CircuitError, NotFound
from circuit_protocol.replies import SessionEvent

log = logging.getLogger(__name__)


class Listener(Protocol):
    """Who tells the editor."""

    def heat_changed(self, heat: Heat) -> None:
        """There is fresh heat, or none any more."""
        ...

    def standing_changed(self, standing: Standing) -> None:
        """The line to the daemon came up or went down."""
        ...

    def session_changed(self, event: SessionEvent) -> None:
        """The session has a new revision."""
        ...

    def job_changed(self, job: JobInfo) -> None:
        """A job got further, or ended."""
        ...


@dataclass
class Document:
    """An open document: its text, whether it is watched, and what is known about it."""

    text: Text
    watch: Watch
    #: The character that long documents are read around.
    focus: int = 0
    heat: Heat | None = None
    problem: CircuitError | None = None
    timer: asyncio.TimerHandle | None = None
    task: asyncio.Task[None] | None = None
    #: Set while the heat is as fresh as it can be: what pulls it waits for this.
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    reading: Reading | None = None


class Workbench:
    """The state of one server. Lives in one event loop."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.settings = Settings()
        self.link = Link(self._on_standing, self._on_session)
        self.facts = Facts(self.link)
        self.jobs = Following(self.link, self._on_job)
        self.documents: dict[str, Document] = {}
        self.codec = PositionCodec()
        #: Whether heat is on for every document from now on, and of what.
        self.everywhere = False
        self.choice = HeatChoice()
        self._looked = Look()
        #: Whether numbers stand behind tokens.
        self.hints_on = False

    # ------------------------------------------------------------------------------- settings

    def configure(self, settings: Settings) -> None:
        """Take over settings; what is open follows them."""
        before, self.settings = self.settings, settings
        self.link.session_name = settings.session
        self.link.place = Place(settings.endpoint, settings.key, settings.server_key)
        self.link.start_wanted = settings.start_daemon
        if settings.heat != before.heat:
            self.choice = settings.heat
        if settings.inlay_hints != before.inlay_hints:
            self.hints_on = settings.inlay_hints
        if settings.enabled != before.enabled or settings.languages != before.languages:
            self.everywhere = settings.enabled
            for document in self.documents.values():
                if self._is_wanted(document.text) and not document.watch.is_on:
                    self._do(document, document.watch.turned_on(self.choice))
        if settings.model != before.model or settings.heat != before.heat:
            self.look_again()

    def look(self) -> Look:
        """Through what documents are looked at now."""
        session = self.link.session
        if session is None:
            return Look(self.settings.model)
        model = self.settings.model or session.model
        return Look(model, session.circuit, session.interventions, session.node)

    # ------------------------------------------------------------------------------ documents

    def opened(self, item: types.TextDocumentItem) -> None:
        """The editor opened a document."""
        text = Text(item.uri, item.version, item.text, item.language_id, self.codec)
        document = Document(text, Watch(self.choice, is_up=self.link.is_up))
        self.documents[item.uri] = document
        if self._is_wanted(text):
            self._do(document, document.watch.turned_on())

    def changed(
        self, uri: str, changes: Iterable[types.TextDocumentContentChangeEvent], version: int
    ) -> None:
        """The editor changed a document."""
        document = self.document(uri)
        before = document.text
        document.text = before.changed(changes, version)
        document.focus = document.text.first_difference(before)
        document.heat, document.reading = None, None
        self._do(document, document.watch.edited(self.settings.debounce_ms / 1000))

    def closed(self, uri: str) -> None:
        """The editor closed a document."""
        document = self.documents.pop(uri, None)
        if document is not None:
            self._stop(document)
            document.settled.set()

    def document(self, uri: str) -> Document:
        """An open document. Raises NotFound."""
        try:
            return self.documents[uri]
        except KeyError:
            raise NotFound.unknown("open document", uri, self.documents) from None

    def watch(self, uri: str | None, *, on: bool, choice: HeatChoice | None) -> list[Document]:
        """Turn heat on or off for one document, or for all and those to come."""
        if uri is not None:
            chosen = [self.document(uri)]
        else:
            self.everywhere = on
            chosen = [d for d in self.documents.values() if self._reads(d.text) or d.watch.is_on]
        if choice is not None:
            self.choice = choice
        for document in chosen:
            watch = document.watch
            self._do(document, watch.turned_on(choice) if on else watch.turned_off())
        return chosen

    def focused(self, uri: str, position: Position) -> None:
        """The cursor is here now; a long document is read again if it left what was read."""
        document = self.document(uri)
        document.focus = document.text.offset_at(position)
        heat = document.heat
        if heat is not None and heat.covered is not None and not heat.is_whole:
            start = document.text.offset_at(heat.covered.start)
            end = document.text.offset_at(heat.covered.end)
            if not start <= document.focus <= end:
                self._do(document, document.watch.moved(self.settings.debounce_ms / 1000))

    def look_again(self) -> None:
        """The model, the session or what is wanted of them changed: read what is watched."""
        for document in self.documents.values():
            self._do(document, document.watch.outdated())

    def heat_of(self, document: Document) -> Heat:
        """The heat of a document as far as it is known."""
        watch = document.watch
        if watch.phase == "fresh" and document.heat is not None:
            return document.heat
        note, state = None, "waiting"
        if watch.phase == "off":
            state = "off"
        elif watch.phase == "away":
            state, note = "unavailable", self.link.standing.sentence
        elif watch.phase == "failed":
            state, note = "unavailable", str(document.problem)
        return Heat(
            uri=document.text.uri,
            version=document.text.version,
            state=state,
            choice=watch.choice,
            note=note,
        )

    async def fresh_heat(self, uri: str) -> Heat | None:
        """The heat of a watched document once it is fresh; None where there will be none."""
        document = self.documents.get(uri)
        if document is None or not document.watch.is_on:
            return None
        await document.settled.wait()
        return document.heat if document.watch.phase == "fresh" else None

    async def reading_at(self, document: Document, offset: int) -> Reading:
        """The tokens around a character, as they were run last where that covers it."""
        model = await self.facts.model(self.look().model)
        kept = document.reading
        if kept is not None and kept.text is document.text and kept.model.name == model.name:
            spots = kept.spots
            if spots and spots[0].start <= offset <= spots[-1].end:
                return kept
        reading = await read(self.link.connection, model, document.text, offset)
        if reading.text is document.text:
            document.reading = reading
        return reading

    def _reads(self, text: Text) -> bool:
        return text.language in self.settings.languages

    def _is_wanted(self, text: Text) -> bool:
        return self.everywhere and self._reads(text)

    # --------------------------------------------------------------------------------- orders

    def _do(self, document: Document, orders: list[Order]) -> None:
        for order in orders:
            match order:
                case Stop():
                    self._stop(document)
                case Wait(ticket, seconds):
                    document.settled.clear()
                    loop = asyncio.get_running_loop()
                    document.timer = loop.call_later(seconds, self._due, document, ticket)
                case Read(ticket):
                    document.settled.clear()
                    document.task = asyncio.create_task(self._read(document, ticket))
                case Say():
                    document.heat = None
                    document.settled.set()
                    self._listener.heat_changed(self.heat_of(document))

    def _due(self, document: Document, ticket: int) -> None:
        self._do(document, document.watch.due(ticket))

    def _stop(self, document: Document) -> None:
        if document.timer is not None:
            document.timer.cancel()
            document.timer = None
        if document.task is not None:
            document.task.cancel()  # and with it the request, in the daemon
            document.task = None

    async def _read(self, document: Document, ticket: int) -> None:
        choice = document.watch.choice
        try:
            heat = await heat_of(
                self.link.connection,
                self.facts,
                document.text,
                document.focus,
                choice,
                self.look(),
            )
        except Exception as e:  # a document that cannot be read must not end the others
            if not document.watch.failed(ticket):
                return
            document.heat, document.problem = None, as_circuit_error(e)
            log.info("%s: %s", document.text.uri, e, exc_info=not isinstance(e, CircuitError))
        else:
            if not document.watch.answered(ticket):
                return
            document.heat, document.problem = heat, None
        document.settled.set()
        self._listener.heat_changed(self.heat_of(document))

    # --------------------------------------------------------------------------------- events

    def _on_standing(self, standing: Standing) -> None:
        self._looked = self.look()
        is_up = standing.state == "connected"
        for document in self.documents.values():
            watch = document.watch
            self._do(document, watch.came_up() if is_up else watch.went_away())
        self._listener.standing_changed(standing)

    def _on_session(self, event: SessionEvent) -> None:
        self._listener.session_changed(event)
        if (look := self.look()) != self._looked:
            self._looked = look
            self.look_again()

    def _on_job(self, job: JobInfo) -> None:
        if job.state in ("done", "failed", "cancelled"):
            self.facts.forget("circuit", "circuits")
        self._listener.job_changed(job)

    async def close(self) -> None:
        """Let go of everything."""
        self.jobs.close()
        for uri in list(self.documents):
            self.closed(uri)
        with contextlib.suppress(CircuitError):
            await self.link.close()
