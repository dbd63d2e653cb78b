"""The server: between the editor, which speaks LSP, and the workbench, where things happen."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
from lsprotocol import types
from pygls.exceptions import FeatureRequestError
from pygls.lsp.server import LanguageServer
from pygls.uris import to_fs_path

from circuit_lsp.answers import (
    catalogue,
    circuits,
    daemon,
    documents,
    edits,
    jobs,
    samples,
    sessions,
)
from circuit_lsp.features.diagnostics import Diagnosing
from circuit_lsp.features.progress import Reporter
from circuit_lsp.link import Standing
from circuit_lsp.messages import Nothing
from circuit_lsp.messages.daemon import CatalogueChanged, DaemonStatus, JobInfo
from circuit_lsp.messages.documents import Heat
from circuit_lsp.messages.settings import Settings
from circuit_lsp.pairs import Pairs
from circuit_lsp.protocol import CircuitProtocol, decode, typed
from circuit_lsp.workbench import Workbench
from circuit_protocol.errors import CircuitError
from circuit_protocol.replies import SessionEvent

log = logging.getLogger(__name__)

#: What answers each request of our own.
ANSWERS: Final = {
    **daemon.ANSWERS,
    **sessions.ANSWERS,
    **catalogue.ANSWERS,
    **documents.ANSWERS,
    **circuits.ANSWERS,
    **samples.ANSWERS,
    **edits.ANSWERS,
    **jobs.ANSWERS,
}
#: How often a daemon's load is looked at, for an editor that has asked for its status.
_STATUS_EVERY_S: Final = 2.0


class CircuitServer(LanguageServer):
    """One editor's server. Its workbench lives in the event loop that runs it."""

    def __init__(self, version: str, defaults: Settings) -> None:
        super().__init__("circuit", version, protocol_cls=CircuitProtocol)
        self._defaults = defaults
        self.bench = Workbench(self)
        self.pairs = Pairs()
        self._diagnosing = Diagnosing(self.bench, self._publish)
        self._reporters: dict[str, Reporter] = {}
        self._told_status: DaemonStatus | None = None
        self._telling: asyncio.Task[None] | None = None
        self._status_task: asyncio.Task[None] | None = None
        self._register()

    def _register(self) -> None:
        for method, answer in ANSWERS.items():
            self.feature(method)(typed(method, partial(self._answer, method, answer)))
        self.feature("circuit/document/focus")(partial(self._on_focus))
        self.feature(types.INITIALIZE)(partial(self._on_initialize))
        self.feature(types.INITIALIZED)(partial(self._on_initialized))
        self.feature(types.SHUTDOWN)(partial(self._on_shutdown))
        self.feature(types.WORKSPACE_DID_CHANGE_CONFIGURATION)(partial(self._on_configuration))
        self.feature(types.TEXT_DOCUMENT_DID_OPEN)(partial(self._on_open))
        self.feature(types.TEXT_DOCUMENT_DID_CHANGE)(partial(self._on_change))
        self.feature(types.TEXT_DOCUMENT_DID_CLOSE)(partial(self._on_close))

    # ---------------------------------------------------------------------- from the editor

    async def _answer(self, method: str, answer: Any, params: Any) -> Any:
        result = await answer(self.bench, params)
        if method == "circuit/status" and self._status_task is None:
            self._status_task = asyncio.create_task(self._look_at_status())
        return result

    def _on_focus(self, params: Any) -> None:
        focus = decode("circuit/document/focus", params)
        if focus.uri in self.bench.documents:
            self.bench.focused(focus.uri, focus.position)

    def _on_initialize(self, params: types.InitializeParams) -> None:
        self.bench.codec = self.workspace.position_codec
        self._configure(params.initialization_options)

    def _on_initialized(self, _: types.InitializedParams) -> None:
        self.bench.link.start()

    async def _on_shutdown(self, _: None) -> None:
        if self._status_task is not None:
            self._status_task.cancel()
        await self.bench.close()

    async def _on_configuration(self, params: types.DidChangeConfigurationParams) -> None:
        options = _plain(params.settings)
        before = self.bench.link.place, self.bench.link.session_name
        self._configure(options.get("circuit", options) if isinstance(options, dict) else None)
        if before != (self.bench.link.place, self.bench.link.session_name):
            await self.bench.link.connect(self.bench.link.place)

    def _configure(self, options: Any) -> None:
        settings, wrong = read_settings(_plain(options), self._defaults)
        self.bench.configure(settings)
        if wrong:
            self.show(types.MessageType.Warning, "circuit: " + "; ".join(wrong))

    def _on_open(self, params: types.DidOpenTextDocumentParams) -> None:
        self.bench.opened(params.text_document)
        self._diagnosing.look_at(params.text_document.uri)

    def _on_change(self, params: types.DidChangeTextDocumentParams) -> None:
        document = params.text_document
        self.bench.changed(document.uri, params.content_changes, document.version)
        self._diagnosing.look_at(document.uri)

    def _on_close(self, params: types.DidCloseTextDocumentParams) -> None:
        self._diagnosing.forget(params.text_document.uri)
        self.bench.closed(params.text_document.uri)

    # ------------------------------------------------------------------------ to the editor

    def heat_changed(self, heat: Heat) -> None:
        """Tell of heat."""
        self.protocol.notify("circuit/heat", heat)
        document = self.bench.documents.get(heat.uri)
        if document is not None and not document.watch.by_edit:
            self.refresh()

    def standing_changed(self, standing: Standing) -> None:
        """Tell of the daemon's coming and going."""
        self._telling = asyncio.create_task(self._tell_status())
        if standing.state == "connected":
            everything = ("models", "tasks", "circuits", "jobs", "cache", "sessions")
            self.protocol.notify("circuit/catalogueChanged", CatalogueChanged(what=everything))
        self._diagnosing.look_at_all()
        self.refresh()

    def session_changed(self, event: SessionEvent) -> None:
        """Tell of the session."""
        message = sessions.session_message(event.state, event.attached)
        self.protocol.notify("circuit/sessionChanged", message)

    def job_changed(self, job: JobInfo) -> None:
        """Tell of a job, and when it has ended, of the lists it may have changed."""
        self.protocol.notify("circuit/jobChanged", job)
        reporter = self._reporters.get(job.job)
        if reporter is not None:
            share = job.done / job.total if job.total else None
            reporter.report(job_line(job), share)
        if job.state in ("done", "failed", "cancelled"):
            if reporter is not None:
                del self._reporters[job.job]
                reporter.end(job_line(job))
                kind = types.MessageType.Error if job.problem else types.MessageType.Info
                self.show(kind, f"{job.description}: {job_line(job)}")
            self.protocol.notify(
                "circuit/catalogueChanged", CatalogueChanged(what=("jobs", "circuits"))
            )

    async def _tell_status(self) -> None:
        status = await daemon.status(self.bench, Nothing())
        before, self._told_status = self._told_status, status
        if before is None or _without_clocks(status) != _without_clocks(before):
            self.protocol.notify("circuit/statusChanged", status)

    async def _look_at_status(self) -> None:
        """Tell of the daemon's load, and of jobs and models that others brought or took."""
        while True:
            await asyncio.sleep(_STATUS_EVERY_S)
            if not self.bench.link.is_up:
                continue
            before = self._told_status
            try:
                await self._tell_status()
                after = self._told_status
                if before is None or after is None:
                    continue
                what: list[Any] = []
                if {r.model for r in before.resident} != {r.model for r in after.resident}:
                    what.append("models")
                if before.jobs_unfinished != after.jobs_unfinished:
                    what.append("jobs")
                    for job in await self.bench.link.connection.jobs.list(unfinished_only=True):
                        self.bench.jobs.follow(job)
                if what:
                    self.protocol.notify(
                        "circuit/catalogueChanged", CatalogueChanged(what=tuple(what))
                    )
            except CircuitError as e:
                log.info("status: %s", e)

    def follow(self, job: JobInfo, on_cancel: Callable[[], object]) -> None:
        """Show the progress of a job that was started from here."""
        self._reporters[job.job] = Reporter(self, job.description, on_cancel)

    def refresh(self) -> None:
        """Have the editor ask again for what it asks by itself after an edit only."""
        workspace = self.client_capabilities.workspace
        if workspace is None:
            return
        if workspace.semantic_tokens and workspace.semantic_tokens.refresh_support:
            self.workspace_semantic_tokens_refresh(None)
        if workspace.inlay_hint and workspace.inlay_hint.refresh_support:
            self.workspace_inlay_hint_refresh(None)
        if workspace.code_lens and workspace.code_lens.refresh_support:
            self.workspace_code_lens_refresh(None)

    def _publish(self, uri: str, version: int | None, diagnostics: list[types.Diagnostic]) -> None:
        self.text_document_publish_diagnostics(
            types.PublishDiagnosticsParams(uri=uri, version=version, diagnostics=diagnostics)
        )

    @property
    def prefers_markdown(self) -> bool:
        """Whether hovers are Markdown: unless the editor said that it reads none."""
        document = self.client_capabilities.text_document
        formats = document and document.hover and document.hover.content_format
        return not formats or types.MarkupKind.Markdown in formats

    @property
    def root(self) -> Path | None:
        """The first folder of the workspace, if it is one on this machine."""
        folders = [folder.uri for folder in self.workspace.folders.values()]
        for uri in [*folders, self.workspace.root_uri]:
            path = None if uri is None else to_fs_path(uri)
            if path is not None and Path(path).is_dir():
                return Path(path)
        return None

    def show(self, kind: types.MessageType, message: str) -> None:
        """Tell the user."""
        self.window_show_message(types.ShowMessageParams(type=kind, message=message))

    def report_server_error(self, error: Exception, source: Any) -> None:
        """What pygls could not handle goes to the log, not into the user's face."""
        if not (isinstance(source, type) and issubclass(source, FeatureRequestError)):
            log.error("%s: %s", getattr(source, "__name__", source), error)


def _without_clocks(status: DaemonStatus) -> DaemonStatus:
    """A status but for what passes by itself, which is no news."""
    resident = (msgspec.structs.replace(r, expires_in_s=None) for r in status.resident)
    return msgspec.structs.replace(status, resident=tuple(resident))


def job_line(job: JobInfo) -> str:
    """How far a job is, or how it ended, for people."""
    if job.problem is not None:
        return job.problem.message
    parts = [job.stage or job.state]
    if job.loss is not None:
        parts.append(f"loss {job.loss:.3f}")
    if job.k is not None:
        parts.append(f"{job.k} nodes")
    if job.verdict is not None:
        parts.append(job.verdict)
    if job.eta_s is not None:
        parts.append(f"{job.eta_s:.0f} s left")
    return ", ".join(parts)


def read_settings(options: Any, defaults: Settings) -> tuple[Settings, list[str]]:
    """Settings from what an editor sent, and a sentence for each that makes no sense."""
    if options is None:
        return defaults, []
    if not isinstance(options, dict):
        return defaults, ["the settings are no object"]
    wrong: list[str] = []
    fields = {field.encode_name: field for field in msgspec.structs.fields(Settings)}
    values: dict[str, Any] = {}
    for name, value in options.items():
        field = fields.get(name)
        if field is None:
            continue  # another part's, or of another version
        if value is None and field.type is not type(None) and field.default is not None:
            continue  # an editor's way to say that it is not set
        try:
            values[field.name] = msgspec.convert(value, field.type)
        except msgspec.ValidationError as e:
            wrong.append(f"the setting `{name}` makes no sense ({e}), and keeps its default")
    settings = msgspec.structs.replace(defaults, **values)
    if not 0 <= settings.debounce_ms <= 10_000:
        wrong.append("the setting `debounceMs` is from 0 to 10000, and keeps its default")
        settings = msgspec.structs.replace(settings, debounce_ms=defaults.debounce_ms)
    if not settings.session:
        wrong.append("the setting `session` is a name, and keeps its default")
        settings = msgspec.structs.replace(settings, session=defaults.session)
    return settings, wrong


def _plain(value: Any) -> Any:
    """What pygls has made objects of, since it knows no type for it, as plain values again."""
    if hasattr(value, "_asdict"):
        return {k: _plain(v) for k, v in value._asdict().items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value
