"""The language server: from an edit to fresh heat, a hover, a shared session, and starting.

The debounce is set to nothing, so that what is measured is what comes after it: tokenizing, the
forward pass, places and levels of all tokens, and their way to the editor as JSON. Beside it the
same tokens are run by a script on the daemon, which is what cannot be saved. No text comes twice,
so that no answer is one that was stored. A session is shared with a real terminal UI on a pty.
"""

import time
from itertools import count

import numpy as np

from benchmarks.bench import Bench
from benchmarks.editor import Editor
from benchmarks.networks import prompt
from benchmarks.report import Goal, Table
from benchmarks.timing import Spread, Subject, Timing, local, take_turns
from benchmarks.tui import opened

N_TOKENS = 300
GOAL_MS = 150.0
GOAL_SESSION_MS = 200.0
_TO_TERMINAL = "from the editor to the terminal UI"
_TO_EDITOR = "from the terminal UI to the editor"
_RIGHT = "\x1b[C"
#: Selected at first, and with others at its right.
_NODE = ("0.attn.v", 219)
#: The terminal UI has painted all when it was silent for so long.
_SILENCE_S = 0.15
_FRESH = f"an edit of {N_TOKENS} tokens, to fresh heat"
_LONG = "an edit in the middle of 5,000 lines, to fresh heat"
_LINE = "    total = total + values[{i}]  # one more\n"


def measure(bench: Bench) -> list[Table]:
    """Three tables: latencies, a shared session, and starting."""
    return [_latencies(bench), _session(bench), _starting(bench)]


def _text(bench: Bench, n_tokens: int) -> str:
    """Python source of about so many tokens: as many whole lines as fit."""
    lines = ["def total_of(values):\n", "    total = 0\n"]
    while True:
        more = [*lines, _LINE.format(i=len(lines))]
        (tokens,) = bench.daemon.client.tokenize("".join(more), bench.shipped.name)
        if len(tokens) > n_tokens:
            return "".join(lines)
        lines = more


def _latencies(bench: Bench) -> Table:
    client, name = bench.daemon.client, bench.shipped.name
    text = _text(bench, N_TOKENS)
    long = "".join(_LINE.format(i=i) for i in range(5000))
    # Two blocks of the model's size, as the server reads 300 tokens of it.
    rows = prompt(bench.shipped.config, 2, 256)
    with Editor(bench.daemon.endpoint, debounceMs=0, enabled=True, session="bench") as editor:
        editor.heard("circuit/statusChanged", state="connected")
        small = _Document(editor, "file:///small.py", text, line=2)
        large = _Document(editor, "file:///large.py", long, line=2500)
        place = {"textDocument": {"uri": small.uri}, "position": {"line": 3, "character": 8}}
        subjects: dict[str, Subject] = {
            "the same tokens, run by a script": local(
                lambda: client.forward(
                    name, tokens=rows, targets="next", logits="none", use_cache=False
                )
            ),
            _FRESH: local(small.edit),
            _LONG: local(large.edit),
            "a hover": local(lambda: editor.ask("textDocument/hover", place)),
            "a status, which asks the daemon": local(lambda: editor.ask("circuit/status", {})),
        }
        timings = take_turns(subjects, rounds=bench.rounds(12), burst=bench.burst(5))
    table = Table(
        "lsp-latency",
        f"The language server on {name}, after the debounce",
        ("p50_ms", "p99_ms"),
        goals=(Goal(_FRESH, "p99_ms", GOAL_MS),),
        notes=[f"The goal is set for p99: {GOAL_MS:g} ms from an edit to fresh highlights."],
    )
    for subject, timing in timings.items():
        table.add(subject, p50_ms=timing.p50_ms, p99_ms=timing.p99_ms)
    return table


class _Document:
    """An open document that is edited at one line, again and again."""

    def __init__(self, editor: Editor, uri: str, text: str, line: int) -> None:
        self.uri = uri
        self._editor = editor
        self._line = line
        self._versions = count(2)
        item = {"uri": uri, "languageId": "python", "version": 1, "text": text}
        editor.tell("textDocument/didOpen", {"textDocument": item})
        editor.heard("circuit/heat", uri=uri, state="fresh")

    def edit(self) -> None:
        """Change five letters to what they never were, and wait for the heat of that text."""
        version = next(self._versions)
        start = {"line": self._line, "character": 4}
        end = {"line": self._line, "character": 9}
        change = {"range": {"start": start, "end": end}, "text": f"{version:05d}"}
        named = {"uri": self.uri, "version": version}
        self._editor.forget()
        self._editor.tell(
            "textDocument/didChange", {"textDocument": named, "contentChanges": [change]}
        )
        self._editor.heard("circuit/heat", uri=self.uri, version=version, state="fresh")


def _session(bench: Bench) -> Table:
    """Who selects a node moves the other: editor and terminal UI, attached to one session."""
    session = "bench-beside"
    site, channel = _NODE
    node = {"site": site, "channel": channel}
    to_terminal: list[float] = []
    to_editor: list[float] = []
    with (
        opened(bench, session) as terminal,
        Editor(bench.daemon.endpoint, session=session) as editor,
    ):
        editor.heard("circuit/statusChanged", state="connected")
        terminal.after("g", _SILENCE_S)
        for _ in range(bench.rounds(25)):
            start_s = time.perf_counter()
            terminal.press(_RIGHT)
            # What it hears of its own change counts for nothing.
            while editor.heard("circuit/sessionChanged")["node"] in (None, node):
                pass
            to_editor.append(time.perf_counter() - start_s)
            terminal.quiet(_SILENCE_S)
            start_s = time.perf_counter()
            editor.ask("circuit/session/update", {"node": node})
            answered_s = time.perf_counter() - start_s
            painted = terminal.quiet(_SILENCE_S)
            if not painted.n_bytes:
                raise RuntimeError("the terminal UI did not follow its session")
            to_terminal.append(answered_s + painted.first_s)
    table = Table(
        "lsp-session",
        "A node selected in one of two that share a session",
        ("p50_ms", "p99_ms"),
        goals=(Goal(_TO_TERMINAL, "p99_ms", GOAL_SESSION_MS),
               Goal(_TO_EDITOR, "p99_ms", GOAL_SESSION_MS)),
        notes=["To the terminal UI: until it paints, which it does not while nothing happens. "
               "To the editor: from the key to the notification."],
    )  # fmt: skip
    for row, seconds in ((_TO_TERMINAL, to_terminal), (_TO_EDITOR, to_editor)):
        timing = Timing(np.array([seconds]))
        table.add(row, p50_ms=timing.p50_ms, p99_ms=timing.p99_ms)
    return table


def _starting(bench: Bench) -> Table:
    endpoint = bench.daemon.endpoint
    ready: list[float] = []
    connected: list[float] = []
    for _ in range(bench.rounds(10)):
        start_s = time.perf_counter()
        with Editor(endpoint, session="bench") as editor:
            ready.append(time.perf_counter() - start_s)
            editor.heard("circuit/statusChanged", state="connected")
            connected.append(time.perf_counter() - start_s)
    table = Table("lsp-starting", "From `circuit lsp` on", ("after_s",))
    table.add("`initialize` answered", after_s=Spread.of(ready))
    table.add("connected to the daemon", after_s=Spread.of(connected))
    return table
