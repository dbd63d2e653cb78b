"""Answers that are lists: models, tasks, and what is cached."""

from collections import Counter

import msgspec

from circuit_lsp.answers.daemon import resident_model
from circuit_lsp.messages import Nothing
from circuit_lsp.messages.daemon import (
    CacheInfo,
    CacheList,
    CacheParams,
    ModelInfo,
    ModelList,
    ModelParams,
    PinParams,
    TaskDetail,
    TaskInfo,
    TaskList,
    TaskPair,
    TaskParams,
)
from circuit_lsp.workbench import Workbench
from circuit_protocol.replies import TaskSummary


async def models(bench: Workbench, _: Nothing) -> ModelList:
    """Every model, and how those that are resident do."""
    c = bench.link.connection
    bench.facts.forget("models")
    report = await c.models.ps()
    resident = {r.model: resident_model(r) for r in report.models}
    return ModelList(
        models=tuple(
            ModelInfo(
                name=m.name,
                n_layer=m.n_layer,
                d_model=m.d_model,
                n_nodes=m.n_nodes,
                nbytes_on_disk=m.nbytes_on_disk,
                is_default=m.default,
                resident=resident.get(m.name),
                broken=m.broken,
            )
            for m in await bench.facts.models()
        )
    )


async def load(bench: Workbench, params: ModelParams) -> ModelList:
    """Load a model, then list all."""
    await bench.link.connection.models.load(params.model)
    return await models(bench, Nothing())


async def unload(bench: Workbench, params: ModelParams) -> ModelList:
    """Unload a model, then list all."""
    await bench.link.connection.models.unload(params.model)
    return await models(bench, Nothing())


async def pin(bench: Workbench, params: PinParams) -> ModelList:
    """Pin or unpin a model, then list all."""
    await bench.link.connection.models.pin(params.model, pinned=params.pinned)
    return await models(bench, Nothing())


async def tasks(bench: Workbench, _: Nothing) -> TaskList:
    """Every task, and how many circuits of the model in use there are of it."""
    bench.facts.forget("tasks")
    model = await bench.facts.model(bench.look().model)
    counts = Counter(c.task for c in await bench.facts.circuits(model.name))
    return TaskList(tasks=tuple(_task(t, counts[t.name]) for t in await bench.facts.tasks()))


def _task(task: TaskSummary, n_circuits: int = 0) -> TaskInfo:
    return TaskInfo(
        name=task.name,
        description=task.description,
        source=task.source,
        n_circuits=n_circuits,
    )


async def show_task(bench: Workbench, params: TaskParams) -> TaskDetail:
    """One task with some of its pairs."""
    shown = await bench.link.connection.tasks.show(params.task, n=params.n)
    pairs = tuple(TaskPair(prompts=p.prompts, targets=p.targets) for p in shown.pairs)
    return TaskDetail(task=_task(shown.task), pairs=pairs)


async def cache(bench: Workbench, _: Nothing) -> CacheList:
    """Every kind of cache."""
    stats = await bench.link.connection.cache.stats()
    return CacheList(caches=tuple(CacheInfo(**msgspec.structs.asdict(kind)) for kind in stats))


async def clear_cache(bench: Workbench, params: CacheParams) -> CacheList:
    """Forget what is not pinned, then list what is left."""
    await bench.link.connection.cache.clear(params.kind)
    return await cache(bench, Nothing())


ANSWERS = {
    "circuit/models/list": models,
    "circuit/models/load": load,
    "circuit/models/unload": unload,
    "circuit/models/pin": pin,
    "circuit/tasks/list": tasks,
    "circuit/tasks/show": show_task,
    "circuit/cache/list": cache,
    "circuit/cache/clear": clear_cache,
}
