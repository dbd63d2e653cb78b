"""What an editor may set: `initializationOptions`, and the section `circuit` of its settings."""

from circuit_lsp.messages.documents import HeatChoice
from circuit_lsp.messages.shared import Message


class Settings(Message, frozen=True, kw_only=True):
    """Every setting has a default; a setting that makes no sense keeps its default and is said."""

    #: `ipc://PATH`, `tcp://HOST:PORT` or a socket's path; null: the daemon that runs here.
    endpoint: str | None = None
    #: File of this client's secret key, for tcp with CURVE.
    key: str | None = None
    #: File of the daemon's public key.
    server_key: str | None = None
    #: Whether to start a daemon where none runs: not to be set in a workspace that is not trusted.
    start_daemon: bool = False
    #: The session to be in.
    session: str = "editor"
    #: The model that documents are read with; null: the session's, else the daemon's default.
    model: str | None = None
    #: Whether heat is on for every document of `languages`, without being asked.
    enabled: bool = False
    #: Language ids of documents that the model reads.
    languages: tuple[str, ...] = ("python",)
    heat: HeatChoice = HeatChoice()
    #: How long the text must be left alone before it is read again, in milliseconds.
    debounce_ms: int = 150
    #: Show the heat's number behind each token that is not cold.
    inlay_hints: bool = False
    #: Heat as semantic tokens, for editors that have no other decorations.
    semantic_tokens: bool = True
    #: Heat as document highlights: text, read and write are weak, middling and strong.
    document_highlights: bool = False
    #: Lines above the text that offer what can be done with a task, and say what a document costs.
    code_lens: bool = True
    #: Say in a message what a command found: not for editors that show results by themselves.
    say_results: bool = True
    #: Links in hovers that run commands; VS Code's way, which other editors show as dead links.
    command_links: bool = False
