"""An editor for tests: a real `circuit lsp` over stdio, spoken to with the client of pygls."""

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Any

from lsprotocol import types
from pygls.lsp.client import LanguageClient
from pygls.protocol import JsonRPCNotification, JsonRPCResponseMessage, default_converter

from circuit_lsp.messages import METHODS

#: How long anything is waited for before a test fails instead of hanging.
PATIENCE_S = 120.0

Event = dict[str, Any]


def _converter() -> Any:
    """As pygls has it, but our own messages stay plain dicts, as they were sent."""
    converter = default_converter()
    # And so do code actions, which lsprotocol takes for commands if they have one.
    actions = types.METHOD_TO_TYPES[types.TEXT_DOCUMENT_CODE_ACTION][1]
    for kind in (JsonRPCResponseMessage, JsonRPCNotification, actions):
        converter.register_structure_hook(kind, lambda obj, cls: cls(**obj))
    return converter


class Editor:
    """One editor with one server. Everything it was told is kept, by method."""

    def __init__(self, client: LanguageClient) -> None:
        self.client = client
        self.told: dict[str, list[Any]] = {}
        self._news = asyncio.Condition()
        self.versions: dict[str, int] = {}
        self.texts: dict[str, str] = {}
        self.result: types.InitializeResult

    @classmethod
    async def start(
        cls,
        environment: dict[str, str] | None = None,
        *,
        options: Event | None = None,
        encodings: list[types.PositionEncodingKind] | None = None,
        arguments: tuple[str, ...] = (),
        capabilities: types.ClientCapabilities | None = None,
    ) -> "Editor":
        """Start a server and introduce ourselves."""
        client = LanguageClient("tests", "1", converter_factory=_converter)
        editor = cls(client)
        own = [name for name, m in METHODS.items() if m.sent_by == "server"]
        for method in [
            *own,
            types.WINDOW_SHOW_MESSAGE,
            types.PROGRESS,
            types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS,
        ]:
            client.feature(method)(editor._listener(method))
        for method in (
            types.WORKSPACE_SEMANTIC_TOKENS_REFRESH,
            types.WORKSPACE_INLAY_HINT_REFRESH,
            types.WORKSPACE_CODE_LENS_REFRESH,
            types.WINDOW_WORK_DONE_PROGRESS_CREATE,
            types.WORKSPACE_APPLY_EDIT,
            types.WINDOW_SHOW_DOCUMENT,
        ):
            client.feature(method)(editor._agreeing(method))
        await client.start_io(
            sys.executable, "-m", "circuit_client", "lsp", *arguments,
            env=environment or dict(os.environ),
        )  # fmt: skip
        capabilities = capabilities or types.ClientCapabilities(
            general=types.GeneralClientCapabilities(position_encodings=encodings),
            window=types.WindowClientCapabilities(
                work_done_progress=True,
                show_document=types.ShowDocumentClientCapabilities(support=True),
            ),
            workspace=types.WorkspaceClientCapabilities(
                semantic_tokens=types.SemanticTokensWorkspaceClientCapabilities(
                    refresh_support=True
                ),
                inlay_hint=types.InlayHintWorkspaceClientCapabilities(refresh_support=True),
                code_lens=types.CodeLensWorkspaceClientCapabilities(refresh_support=True),
            ),
        )
        editor.result = await editor.within(
            client.initialize_async(
                types.InitializeParams(
                    capabilities=capabilities,
                    initialization_options=options,
                    root_uri="file:///work",
                )
            )
        )
        client.initialized(types.InitializedParams())
        return editor

    def _listener(self, method: str) -> Callable[[Any], Any]:
        async def listen(params: Any) -> None:
            async with self._news:
                self.told.setdefault(method, []).append(params)
                self._news.notify_all()

        return listen

    def _agreeing(self, method: str) -> Callable[[Any], Any]:
        listen = self._listener(method)

        async def agree(params: Any) -> Any:
            await listen(params)
            if method == types.WORKSPACE_APPLY_EDIT:
                return types.ApplyWorkspaceEditResult(applied=True)
            if method == types.WINDOW_SHOW_DOCUMENT:
                return types.ShowDocumentResult(success=True)
            return None

        return agree

    async def within(self, waiting: Any) -> Any:
        """The outcome of something that must come."""
        return await asyncio.wait_for(waiting, PATIENCE_S)

    async def ask(self, method: str, params: Event | None = None) -> Any:
        """A request of our own, and its plain result."""
        return await self.within(self.client.protocol.send_request_async(method, params or {}))

    def tell(self, method: str, params: Event) -> None:
        """A notification of our own."""
        self.client.protocol.notify(method, params)

    async def heard(self, method: str, which: Callable[[Any], bool] = lambda _: True) -> Any:
        """The first thing told by `method` that `which` accepts, told already or yet to come."""

        async def wait() -> Any:
            async with self._news:
                while True:
                    for params in self.told.get(method, []):
                        if which(params):
                            return params
                    await self._news.wait()

        return await self.within(wait())

    def forget(self, *methods: str) -> None:
        """Do not count what was told so far."""
        for method in methods or list(self.told):
            self.told.pop(method, None)

    async def connected(self) -> Event:
        """Wait until the server has found its daemon."""
        return await self.heard("circuit/statusChanged", lambda s: s["state"] == "connected")

    def open(self, text: str, uri: str = "file:///project/a.py", language: str = "python") -> str:
        """Open a document."""
        self.versions[uri], self.texts[uri] = 1, text
        item = types.TextDocumentItem(uri=uri, language_id=language, version=1, text=text)
        self.client.text_document_did_open(types.DidOpenTextDocumentParams(text_document=item))
        return uri

    def change(self, uri: str, text: str, at: types.Range | None = None) -> int:
        """Replace a range, or everything; the new version."""
        self.versions[uri] += 1
        change = (
            types.TextDocumentContentChangeWholeDocument(text=text)
            if at is None
            else types.TextDocumentContentChangePartial(range=at, text=text)
        )
        self.client.text_document_did_change(
            types.DidChangeTextDocumentParams(
                text_document=types.VersionedTextDocumentIdentifier(
                    uri=uri, version=self.versions[uri]
                ),
                content_changes=[change],
            )
        )
        return self.versions[uri]

    async def fresh(self, uri: str, version: int | None = None) -> Event:
        """Fresh heat of a document, of its latest version unless told otherwise."""
        wanted = self.versions[uri] if version is None else version
        return await self.heard(
            "circuit/heat",
            lambda h: h["uri"] == uri and h["version"] == wanted and h["state"] == "fresh",
        )

    async def stop(self) -> None:
        """Say good-bye, and wait for the server's end."""
        await self.within(self.client.shutdown_async(None))
        self.client.exit(None)
        await self.within(self.client.stop())


def at(line: int, character: int) -> Event:
    """A position as JSON."""
    return {"line": line, "character": character}
