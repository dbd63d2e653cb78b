"""A scripted daemon with the paper's circuit in it, for tests of the terminal UI."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from textual.pilot import Pilot

from circuit_client.connecting import connect_async
from circuit_protocol import circuit_replies, circuit_requests, replies, requests
from circuit_protocol.circuits import CircuitSummary, circuit_id
from circuit_protocol.errors import NotFound
from circuit_protocol.session import SessionState
from circuit_protocol.tensors import Frame, pack, unpack
from circuit_tui.app import CircuitApp
from circuit_tui.options import Options
from made_circuits import quote_circuit, random_circuit
from scripted_daemon import Out, Script, ScriptedDaemon, daemon

R = TypeVar("R")

QUOTE = quote_circuit()
#: Names of tokens; all others are "?".
WORDS = {1: b"print", 2: b"('", 3: b'("', 4: b"size", 5: b"')\n", 6: b'")\n', 7: b"\x1b[31m"}
MODEL = QUOTE.circuit.model
_D_HEAD = 8


def summaries() -> tuple[CircuitSummary, ...]:
    other = random_circuit(40, seed=1)
    return QUOTE.summary, other.summary


def _list_models(request: Any, frames: list) -> Iterator[Out]:
    yield replies.ModelList(
        id="x",
        models=(
            replies.ModelSummary(name=MODEL, path="/m", nbytes_on_disk=2_700_000, n_layer=11,
                                 d_model=1024, n_nodes=11_520, default=True),
            replies.ModelSummary(name="broken", path="/b", nbytes_on_disk=1, n_layer=0, d_model=0,
                                 n_nodes=0, broken="no tensor `lm_head.weight`"),
        ),
    )  # fmt: skip


def _describe(request: Any, frames: list) -> Iterator[Out]:
    sites = [
        replies.SiteInfo(site=f"{layer}.{kind}", width=1024, n_heads=128 if "q" in kind else 0)
        for layer in range(11)
        for kind in ("attn.act_in", "attn.q", "attn.k", "attn.v")
    ]
    yield replies.ModelDescription(
        id="x", model=request.model, path="/m", model_hash="h", config_json="{}", n_nodes=1,
        n_parameters=1, n_nonzeros=1, block_density=0.1, nbytes_on_disk=1, sites=tuple(sites),
        matrices=(),
    )  # fmt: skip


def _list_tasks(request: Any, frames: list) -> Iterator[Out]:
    yield replies.TaskList(
        id="x",
        tasks=tuple(
            replies.TaskSummary(name=name, description=f"About {name}.", source="built-in")
            for name in ("single_double_quote", "bracket_counting", "with_as")
        ),
    )


def _show_task(request: Any, frames: list) -> Iterator[Out]:
    task = replies.TaskSummary(name=request.task, description="Close a string.", source="built-in")
    pair = replies.PairText(prompts=("print('size", 'print("size'), targets=("')\n", '")\n'))
    yield replies.TaskShown(id="x", task=task, pairs=(pair,))


def _list_circuits(request: Any, frames: list) -> Iterator[Out]:
    yield circuit_replies.CircuitList(id="x", circuits=summaries())


def _show_circuit(request: circuit_requests.ShowCircuit, frames: list) -> Iterator[Out]:
    other = random_circuit(40, seed=1)
    for shown in (QUOTE, other):
        place = f"{shown.circuit.task}/{shown.summary.sweep}/{shown.summary.label}"
        if shown.summary.id.startswith(request.circuit) or request.circuit == place:
            yield shown
            return
    yield NotFound("no circuit has this name", asked=request.circuit)


def _edit(request: circuit_requests.EditCircuit, frames: list) -> Iterator[Out]:
    """Each node that is dropped costs a tenth of a nat, each edge a hundredth."""
    n = sum(len(group.channels or ()) for group in request.drop)
    delta = 0.1 * n + 0.01 * len(request.drop_edges)
    m = QUOTE.circuit.measured
    measured = msgspec.structs.replace(m, loss=m.loss + delta, k=m.k - n)
    circuit = msgspec.structs.replace(QUOTE.circuit, measured=measured)
    yield circuit_replies.CircuitDerived(
        id="x", circuit_id=circuit_id(circuit), circuit=circuit, delta=delta, saved=request.save,
        sweep=request.sweep, label="11",
    )  # fmt: skip


def _sample(request: Any, frames: list) -> Iterator[Out]:
    body: list[Frame] = []
    tokens = np.array([[1, 2, 4], [1, 3, 4]], np.int32)
    answers = np.array([[5, 6], [6, 5]], np.int32)
    yield (
        replies.TaskSample(
            id="x", tokens=pack(tokens, body), lengths=pack(np.array([3, 3]), body),
            answers=pack(answers, body),
        ),
        body,
    )  # fmt: skip


def _forward(request: requests.Forward, frames: list) -> Iterator[Out]:
    body: list[Frame] = []
    tokens = np.array([[1, 2, 4], [1, 3, 4]], np.int32)
    if request.prompts.texts is not None:
        tokens = tokens[:1]
    elif request.prompts.tokens is not None:
        tokens = unpack(request.prompts.tokens, frames)
    rows = len(tokens)
    kept = sum(
        len(g.channels or ()) for i in request.interventions for g in getattr(i, "nodes", ())
    )
    logits = np.zeros((rows, 1, 8), np.float32)
    logits[:, 0, 5] = 2.0
    logits[:, 0, 6] = 0.25 * kept
    top = replies.TopK(
        ids=pack(np.tile(np.array([[[5, 6, 1]]], np.int32), (rows, 1, 1)), body),
        logprobs=pack(np.log(np.tile([[[0.6, 0.3, 0.1]]], (rows, 1, 1)).astype(np.float32)), body),
    )
    losses = np.tile(np.array([0.5, 3.0, np.nan], np.float32), (rows, 1)) + 0.1 * kept
    yield (
        replies.ForwardResult(
            id="x", tokens=pack(tokens, body), lengths=pack(np.full(rows, 3), body),
            logits=pack(logits, body) if request.logits != "none" else None, loss=1.0,
            token_loss=pack(losses, body), top_k=top,
        ),
        body,
    )  # fmt: skip


def _detokenize(request: requests.Detokenize, frames: list) -> Iterator[Out]:
    yield replies.Texts(
        id="x",
        rows=tuple(
            replies.TextPiece(text="", data=b"".join(WORDS.get(t, b"?") for t in row))
            for row in request.tokens
        ),
    )


def _samples(request: circuit_requests.NodeSamples, frames: list) -> Iterator[Out]:
    body: list[Frame] = []
    is_head = request.site.endswith(("q", "k", "v"))
    window = circuit_replies.SampleWindow(
        tokens=(1, 2, 4), activations=(0.1, -2.0, 0.3), position=1
    )
    bands = tuple(
        circuit_replies.SampleBand(fraction=f, end=end, windows=(window, window))
        for f in (0.001, 0.5)
        for end in ("bottom", "top")
    )
    values = np.array([[0.0, 3.0, 1.0], [0.0, -1.0, 0.5]], np.float32)
    pattern = np.zeros((2, 3, 4), np.float32)
    pattern[:, :, 1], pattern[:, :, 3] = 0.75, 0.25
    yield (
        circuit_replies.NodeSampled(
            id="x", site=request.site, channel=request.channel, mean=0.125, bias=0.375,
            quantiles=(-3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0), bands=bands,
            task_tokens=pack(np.array([[1, 2, 4], [1, 3, 4]], np.int32), body),
            task_lengths=pack(np.array([3, 3]), body), task_activations=pack(values, body),
            head=request.channel // _D_HEAD if is_head else None,
            attention=pack(pattern, body) if is_head else None,
        ),
        body,
    )  # fmt: skip


def _status(request: Any, frames: list) -> Iterator[Out]:
    yield replies.StatusReport(
        id="x", version="0", instance="first", uptime_s=1.0, endpoints=(), processes=(), clients=1,
        queued=0, running=0, completed=0, failed=0,
    )  # fmt: skip


def _attach(request: requests.AttachSession, frames: list) -> Iterator[Out]:
    state = SessionState(name=request.session)
    yield replies.SessionEvent(id="x", state=state, attached=1, final=False)


class Sessions:
    """Answers updates as a daemon would: every patch makes the next revision."""

    def __init__(self) -> None:
        self.state = SessionState(name="tui")

    def update(self, request: requests.UpdateSession, frames: list) -> Iterator[Out]:
        fields = msgspec.structs.asdict(request.patch)
        changed = {k: v for k, v in fields.items() if v is not msgspec.UNSET}
        revision = self.state.revision + 1
        self.state = msgspec.structs.replace(self.state, revision=revision, **changed)
        yield replies.SessionEvent(id="x", state=self.state, attached=1)


def scripts() -> dict[type, Script]:
    """What the daemon of these tests answers."""
    return {
        requests.ListModels: _list_models,
        requests.DescribeModel: _describe,
        requests.ListTasks: _list_tasks,
        requests.ShowTask: _show_task,
        circuit_requests.ListCircuits: _list_circuits,
        circuit_requests.ShowCircuit: _show_circuit,
        circuit_requests.EditCircuit: _edit,
        requests.SampleTask: _sample,
        requests.Forward: _forward,
        requests.Detokenize: _detokenize,
        circuit_requests.NodeSamples: _samples,
        requests.Status: _status,
        requests.AttachSession: _attach,
        requests.UpdateSession: Sessions().update,
    }


@asynccontextmanager
async def running(
    tmp_path: Path,
    *,
    size: tuple[int, int] = (120, 40),
    answers: dict[type, Script] | None = None,
    **options: Any,
) -> AsyncIterator[tuple[CircuitApp, Pilot[None], ScriptedDaemon]]:
    """The app on a scripted daemon."""
    with daemon(tmp_path, scripts() | (answers or {})) as d:
        app = app_for(d.endpoint, **options)
        async with app.run_test(size=size) as pilot:
            yield app, pilot, d


def app_for(endpoint: str, **options: Any) -> CircuitApp:
    """An app that connects there."""

    async def connect() -> Any:
        return await connect_async(endpoint, start=False, timeout_s=5.0)

    return CircuitApp(Options(**({"color": "truecolor"} | options)), connect)


async def until(pilot: Pilot[None], holds: Callable[[], Any], *, tries: int = 600) -> None:
    """Let the app go on until `holds()`: there is no event that a test could wait for."""
    for _ in range(tries):
        if holds():
            return
        await pilot.pause(0.02)
    raise AssertionError("the app did not come to that")


async def asked(d: ScriptedDaemon, kind: type[R]) -> R:
    """The next request of a kind: waited for in a thread, while the app goes on in the loop."""
    return await asyncio.to_thread(d.wait_for, kind)


async def opened(pilot: Pilot[None], app: CircuitApp) -> None:
    """Until the circuit, the example and its effect are there."""
    await until(pilot, lambda: app.loaded is not None and app.loaded.model is not None)
    await until(pilot, lambda: bool(app.measuring.effect.sides_found))
    await until(pilot, lambda: app.page is not None and app.page.is_ready)


def screen_text(app: CircuitApp) -> str:
    """What is on the screen, line by line."""
    strips = app.screen._compositor.render_strips(app.size)
    lines = ["".join(segment.text for segment in strip).rstrip() for strip in strips]
    return "\n".join(lines)
