"""The terminal UI on a pty: first paint, bytes and milliseconds per key, a press to its effect.

What a step takes ends with the last byte that it makes the program write, so a frame that comes in
two parts counts whole; an effect has come when the new loss is on the screen. A large circuit comes
from the scripted daemon of the tests, which answers at once: what is left is the terminal UI.
"""

import os
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.report import Goal, Table
from benchmarks.terminal import Terminal, Written
from benchmarks.timing import Spread
from circuit_protocol.circuit_replies import CircuitShown
from circuit_protocol.circuit_requests import ShowCircuit
from circuit_protocol.session import SelectedNode, SessionPatch

# Made circuits and the scripted daemon belong to the tests, which are no part of the distribution.
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from made_circuits import MATRICES, random_circuit, shown_of
from scripted_daemon import Out, daemon
from tui_scenes import scripts

CIRCUIT = "single_double_quote/shipped/34"
N_NODES, N_EDGES, N_LAYERS = 2_000, 10_000, 11
GOAL_PAINT_MS = 300.0
GOAL_EFFECT_MS = 100.0
GOAL_KEY_MS = 60.0
GOAL_BYTES = 499
#: Nothing more comes after a key when it was silent for so long.
_SILENCE_S = 0.08
#: An effect waits for the daemon.
_EFFECT_SILENCE_S = 0.3
_IDLE_S = 3.0
#: How the new loss shows: its change in parentheses.
_NEW_LOSS = r"\([+-]\d+\.\d{3}\)"
#: Longer than the matrix' cursor takes to rest.
_REST_S = 0.6
_RIGHT, _LEFT, _UP, _DOWN = "\x1b[C", "\x1b[D", "\x1b[A", "\x1b[B"
_PAINT = "`circuit tui`, to the first painted bytes"
_EFFECT = "a node off, to the new loss"
#: Views in which a selection is moved: keys that lead there, keys that move there and back.
VIEWS = {
    "matrix": (("m",), (_DOWN, _UP)),
    "node list": (("m", "\t"), (_DOWN, _UP)),
    "graph": (("g",), (_RIGHT, _LEFT)),
}


def measure(bench: Bench) -> list[Table]:
    """Three tables: starting and switching, bytes, and a large circuit."""
    times = Table(
        "tui",
        f"The terminal UI with {CIRCUIT}",
        ("p50_ms", "most_ms"),
        goals=(Goal(_PAINT, "p50_ms", GOAL_PAINT_MS), Goal(_EFFECT, "p50_ms", GOAL_EFFECT_MS)),
        notes=["From the command on, process included; each node is switched off alone, and none "
               "twice, so no answer is one that was stored."],
    )  # fmt: skip
    paints, circuits = _starts(bench)
    times.add(_PAINT, **_milliseconds(paints))
    times.add("`circuit tui CIRCUIT`, to its nodes", **_milliseconds(circuits))
    sent = Table(
        "tui-bytes",
        "What the terminal UI writes, at 110 by 30 in truecolor",
        ("median_bytes", "most_bytes"),
        goals=(
            Goal(f"idle, {_IDLE_S:g} s", "most_bytes", 0),
            *(Goal(f"a step in the {name}", "most_bytes", GOAL_BYTES) for name in VIEWS),
        ),
        notes=["A step in the matrix goes to another site, whose nodes the list below then shows; "
               "one in the graph to another node. When the cursor rests there, the pane beside it "
               "shows facts and links, and the graph that node's edges in front. One in the list "
               "shows those of the node at once."],
    )  # fmt: skip
    with opened(bench, "bench-bytes") as terminal:
        idle = terminal.quiet(_IDLE_S).n_bytes
        sent.add(f"idle, {_IDLE_S:g} s", median_bytes=idle, most_bytes=idle)
        for name, found in _steps(terminal, bench.rounds(10)):
            _add_bytes(sent, f"a step in the {name}", [w.n_bytes for w in found])
        for name in ("matrix", "graph"):
            terminal.after(name[0], _EFFECT_SILENCE_S)
            rests = [_rested(terminal, key) for key in (_LEFT, _RIGHT) * bench.rounds(3)]
            _add_bytes(sent, f"the cursor rests in the {name}", rests)
    marks, effects, counts = _switches(bench)
    times.add("a node off, to its mark", **_milliseconds(marks))
    times.add(_EFFECT, **_milliseconds(effects))
    _add_bytes(sent, "a node off, and its effect", counts)
    return [times, sent, _large(bench)]


def _milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    return {"p50_ms": 1e3 * Spread.of(seconds).median, "most_ms": 1e3 * max(seconds)}


def _add_bytes(table: Table, row: str, counts: Sequence[int]) -> None:
    table.add(row, median_bytes=int(Spread.of(counts).median), most_bytes=max(counts))


def _tui(bench: Bench, endpoint: str, *arguments: str) -> Terminal:
    command = [sys.executable, "-m", "circuit_client", "tui", "--endpoint", endpoint]
    # Recently opened circuits are kept in a file, which must not be the user's.
    state = {"CIRCUITD_STATE_DIR": str(bench.scratch / "tui-state")}
    return Terminal([*command, *arguments], {**os.environ, **state})


def opened(bench: Bench, session: str) -> Terminal:
    """The terminal UI at the shipped circuit, when all is shown and nothing more comes."""
    terminal = _tui(bench, bench.daemon.endpoint, CIRCUIT, "--session", session)
    terminal.until("wrong")  # the example's answers, which take the model
    terminal.quiet(2 * _EFFECT_SILENCE_S)
    return terminal


def _starts(bench: Bench) -> tuple[list[float], list[float]]:
    """Seconds to the first bytes, and to the circuit's nodes."""
    paints: list[float] = []
    circuits: list[float] = []
    bench.daemon.client.circuits.show(CIRCUIT)  # the daemon's files are read
    for i in range(bench.rounds(4)):
        with _tui(
            bench, bench.daemon.endpoint, CIRCUIT, "--session", f"bench-start-{i}"
        ) as terminal:
            paints.append(terminal.first_byte())
            circuits.append(terminal.until("0.attn.v[219]"))
    return paints, circuits


def _steps(terminal: Terminal, n_steps: int) -> Iterator[tuple[str, list[Written]]]:
    """What a step there and back again writes, view by view."""
    for name, (way, there_and_back) in VIEWS.items():
        for key in way:
            terminal.after(key, _EFFECT_SILENCE_S)
        moved = [terminal.after(there_and_back[i % 2], _SILENCE_S) for i in range(n_steps)]
        if not all(w.n_bytes for w in moved):
            raise RuntimeError(f"a key moved nothing in the {name}")
        yield name, moved


def _rested(terminal: Terminal, key: str) -> int:
    """What is written after a step has been shown, when the cursor rests."""
    terminal.after(key, _SILENCE_S)
    return terminal.quiet(_REST_S).n_bytes


def _switches(bench: Bench) -> tuple[list[float], list[float], list[int]]:
    """Nodes switched off one by one: seconds to the mark and to the new loss, and all bytes."""
    client, session = bench.daemon.client, "bench-switches"
    nodes = client.circuits.show(CIRCUIT).circuit.nodes
    places = [(s.site, c) for s in nodes for c in s.channels or ()][: bench.rounds(5) + 1]
    marks: list[float] = []
    effects: list[float] = []
    counts: list[int] = []
    with opened(bench, session) as terminal:
        for site, channel in places:
            patch = SessionPatch(node=SelectedNode(site=site, channel=channel))
            client.sessions.update(session, patch)
            terminal.quiet(_EFFECT_SILENCE_S)
            before = terminal.n_bytes
            mark_s, effect_s = terminal.after_until(" ", _NEW_LOSS)
            terminal.quiet(_EFFECT_SILENCE_S)
            marks.append(mark_s)
            effects.append(effect_s)
            counts.append(terminal.n_bytes - before)
            terminal.after("M", _EFFECT_SILENCE_S)  # all on again
    return marks[1:], effects[1:], counts[1:]  # the first one compiles what the others use


def large_circuit() -> CircuitShown:
    """A made circuit of `N_NODES` nodes and `N_EDGES` edges."""
    nodes = {
        site.site: site.channels or ()
        for site in random_circuit(N_NODES, n_layer=N_LAYERS).circuit.nodes
    }
    draw = random.Random(0)
    pairs = [
        (f"{layer}.{source}", a, f"{layer}.{target}", b)
        for layer in range(N_LAYERS)
        for source, target in MATRICES
        for a in nodes.get(f"{layer}.{source}", ())
        for b in nodes.get(f"{layer}.{target}", ())
    ]
    edges = [(*pair, draw.gauss(0, 0.5), draw.expovariate(30)) for pair in
             draw.sample(pairs, N_EDGES)]  # fmt: skip
    return shown_of(nodes, edges)


def _large(bench: Bench) -> Table:
    shown = large_circuit()
    table = Table(
        "tui-large",
        f"A circuit of {N_NODES:,} nodes and {N_EDGES:,} edges, per key",
        ("p50_ms", "most_ms", "median_bytes"),
        goals=tuple(Goal(f"a step in the {name}", "p50_ms", GOAL_KEY_MS) for name in VIEWS),
    )

    def show(request: ShowCircuit, frames: list[bytes]) -> Iterator[Out]:
        yield shown

    with (
        tempfile.TemporaryDirectory(prefix="tui-") as place,
        daemon(Path(place), scripts() | {ShowCircuit: show}) as scripted,
        _tui(bench, scripted.endpoint, shown.summary.id) as terminal,
    ):
        terminal.until(f"{N_NODES:,} nodes")
        terminal.quiet(2 * _EFFECT_SILENCE_S)
        for name, found in _steps(terminal, bench.rounds(10)):
            table.add(
                f"a step in the {name}",
                **_milliseconds([w.last_s for w in found]),
                median_bytes=int(Spread.of([w.n_bytes for w in found]).median),
            )
    return table
