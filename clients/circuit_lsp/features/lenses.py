"""Code lenses: what a watched document costs the model, and what can be done with a task."""

from collections.abc import AsyncIterator, Iterator

from lsprotocol import types

from circuit_lsp.features.actions import command
from circuit_lsp.features.words import heat_name
from circuit_lsp.messages.circuits import DrawParams
from circuit_lsp.messages.commands import HintsParams, PairParams, TaskRunParams
from circuit_lsp.messages.daemon import PruneParams
from circuit_lsp.messages.documents import Heat, WatchParams
from circuit_lsp.own_files.task_files import Pair, TaskFile, read_task_file
from circuit_lsp.protocol import quiet
from circuit_lsp.server import CircuitServer
from circuit_lsp.texts import Text
from circuit_lsp.workbench import Workbench
from circuit_protocol.circuits import CircuitSummary

#: Pairs of a file that have lenses: a screen or two.
_PAIRS_MAX = 100


def register(server: CircuitServer) -> None:
    """Answer for watched documents and task files."""
    bench = server.bench

    @server.feature(types.TEXT_DOCUMENT_CODE_LENS)
    @quiet
    async def lenses(params: types.CodeLensParams) -> list[types.CodeLens] | None:
        document = bench.documents.get(params.text_document.uri)
        if document is None or not bench.settings.code_lens or not bench.link.is_up:
            return None
        if document.watch.is_on:
            heat = await bench.fresh_heat(params.text_document.uri)
            return None if heat is None else list(_of_heat(heat, hints_on=bench.hints_on))
        task = read_task_file(document.text)
        return None if task is None else [x async for x in _of_task(bench, document.text, task)]


def _lens(place: types.Range, what: types.Command) -> types.CodeLens:
    return types.CodeLens(range=place, command=what)


def _of_heat(heat: Heat, *, hints_on: bool) -> Iterator[types.CodeLens]:
    top = types.Position(line=0, character=0)
    place = types.Range(start=top, end=top)
    mean = "" if heat.mean_loss is None else f", {heat.mean_loss:.2f} nats per token"
    some = "" if heat.is_whole else ", around the cursor"
    title = f"{heat.model}: {heat_name(heat.choice.of)}{mean}{some}"
    yield _lens(place, command(title, "circuit.heat", WatchParams(uri=heat.uri, on=False)))
    numbers = "hide numbers" if hints_on else "show numbers"
    yield _lens(place, command(numbers, "circuit.hints", HintsParams(on=not hints_on)))


async def _of_task(bench: Workbench, text: Text, task: TaskFile) -> AsyncIterator[types.CodeLens]:
    top = types.Position(line=0, character=0)
    place = types.Range(start=top, end=top)
    known = {t.name for t in await bench.facts.tasks()}
    model = await bench.facts.model(bench.look().model)
    circuits = [
        c
        for c in await bench.facts.circuits(model.name)
        if c.task == task.task and c.broken is None
    ]
    smallest = min(circuits, key=lambda c: c.measured.k, default=None)
    if task.task in known:
        for lens in _of_known(place, task.task, model.name, smallest):
            yield lens
    for pair in task.pairs[:_PAIRS_MAX]:
        for lens in _of_pair(text, pair, smallest):
            yield lens


def _of_known(
    place: types.Range, task: str, model: str, smallest: CircuitSummary | None
) -> Iterator[types.CodeLens]:
    yield _lens(place, command(f"run on {model}", "circuit.runTask", TaskRunParams(task=task)))
    if smallest is not None:
        size = f"circuit of {smallest.measured.k} nodes"
        yield _lens(place, command(size, "circuit.showCircuit", DrawParams(circuit=smallest.id)))
        only = TaskRunParams(task=task, circuit=smallest.id)
        yield _lens(place, command("ablate all else", "circuit.runTask", only))
    yield _lens(place, command("find a circuit", "circuit.prune", PruneParams(task=task)))


def _of_pair(text: Text, pair: Pair, smallest: CircuitSummary | None) -> Iterator[types.CodeLens]:
    prompts = tuple(p.data for p in pair.prompts)
    targets = tuple(t.data for t in pair.targets)
    if not all(isinstance(x, str) for x in (*prompts, *targets)):
        return  # ids, which no command carries
    place = text.lsp_range(pair.value.start, pair.value.start)
    first = PairParams(prompts=prompts, targets=targets)
    yield _lens(place, command("run", "circuit.runPair", first))
    if smallest is not None:
        only = PairParams(prompts=prompts, targets=targets, circuit=smallest.id)
        title = f"with only {smallest.measured.k} nodes"
        yield _lens(place, command(title, "circuit.runPair", only))
