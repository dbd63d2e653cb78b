"""Requests about models that need no worker's answer: list, load, unload, pin, what is resident."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from circuit_protocol import inspection as i
from circuit_protocol import requests as r
from circuit_protocol.errors import CheckpointError, CircuitError, Forbidden, NotFound
from circuit_protocol.replies import Done, ModelList, Resident, ResidentReport
from circuit_protocol.version import MAP_TENSOR
from circuitd.server.catalog import Located
from circuitd.server.replies import OpenRequest
from circuitd.server.residents import Model
from circuitd.store.train_curves import curves_file, read_curves

if TYPE_CHECKING:
    from circuitd.server.front import Front, Handler


def resident_of(model: Model, device: str, now: float) -> Resident:
    """A resident model as clients see it."""
    return Resident(
        model=model.name,
        model_hash=model.model_hash,
        device=device,
        dtype=model.key.dtype,
        nbytes=model.nbytes,
        pinned=model.pinned,
        expires_in_s=None if model.expires_at is None else max(0.0, model.expires_at - now),
        in_use=model.in_use,
        execution=model.execution,
    )


async def list_models(front: Front, entry: OpenRequest, request: r.ListModels) -> None:
    """All models of the roots."""
    paths = {m.key.path for m in front.dispatcher.residency.models.values()}
    found = await asyncio.to_thread(front.dispatcher.catalog.summaries, paths.__contains__)
    front.reply(entry, ModelList(id=request.id, models=tuple(found)))


async def load(front: Front, entry: OpenRequest, request: r.LoadModel) -> None:
    """Make a model resident, and say so when it is."""
    catalog = front.dispatcher.catalog
    located = catalog.locate(request.model, request.dtype)
    if located is None:
        located = await asyncio.to_thread(
            catalog.fetch, request.model, request.dtype, request.sha256
        )
    elif request.sha256 is not None:
        await asyncio.to_thread(catalog.verify, located, request.sha256)
    _load_located(front, entry, request, located)


def _load_located(front: Front, entry: OpenRequest, request: r.LoadModel, located: Located) -> None:
    def stop(error: CircuitError) -> None:  # the model goes on loading: others may want it
        front.fail(entry, error)

    def loaded(error: CircuitError | None) -> None:
        if error is not None:
            front.fail(entry, error)
            return
        residency = front.dispatcher.residency
        now = front.dispatcher.clock()
        residency.set_keep_alive(located.key, request.keep_alive_s, pin=request.pin, now=now)
        model = residency.resident(located.key)
        models = () if model is None else (model,)
        report = _report(front, entry, models)
        front.reply(entry, report)

    entry.stop = stop
    front.dispatcher.load(located, request.device, loaded)


def unload(front: Front, entry: OpenRequest, request: r.UnloadModel) -> None:
    """Free a model, in every dtype it is resident in; answered when its memory has returned."""
    models = _named(front, request.model)
    waiting = len(models)
    if not models:
        _check_exists(front, request.model)
        front.reply(entry, Done(id=request.id, changed=False))
        return

    def unloaded(error: CircuitError | None) -> None:
        nonlocal waiting
        waiting -= 1
        if error is not None:
            front.fail(entry, error)
        elif not waiting:
            front.reply(entry, Done(id=request.id))

    entry.stop = lambda error: front.fail(entry, error)
    for model in models:
        front.dispatcher.unload(model.key, unloaded)


def pin(front: Front, entry: OpenRequest, request: r.PinModel) -> None:
    """Exempt a resident model from eviction and keep_alive, or undo that."""
    models = _named(front, request.model)
    if not models:
        _check_exists(front, request.model)
        raise NotFound(
            "this model is not resident", asked=request.model, hint="Load it with models.load"
        )
    changed = [front.dispatcher.pin(model.key, request.pinned) for model in models]
    front.reply(entry, Done(id=request.id, changed=any(changed)))


def resident_models(front: Front, entry: OpenRequest, request: r.ResidentModels) -> None:
    """What is in memory now."""
    residency = front.dispatcher.residency
    models = tuple(m for m in residency.models.values() if m.state == "resident")
    front.reply(entry, _report(front, entry, models))


async def training(front: Front, entry: OpenRequest, request: i.TrainingCurves) -> None:
    """What was written down while a model was trained; reads files, in a thread."""
    located = front.dispatcher.catalog.locate(request.model, "float32")
    if located is None:
        raise NotFound(
            "this model is not here yet", asked=request.model, hint="Load it: that fetches it"
        )
    directory = Path(located.key.path)

    def read() -> i.TrainingCurvesShown:
        curves = read_curves(curves_file(directory), request.metrics, request.n_points)
        return i.TrainingCurvesShown(
            id=request.id,
            model=request.model,
            path=str(curves.path),
            n_lines=curves.n_lines,
            steps=curves.steps,
            metrics=tuple(i.Metric(name=name, values=v) for name, v in curves.columns.items()),
            notes=curves.notes,
        )

    front.reply(entry, await asyncio.to_thread(read))


def check_destination(
    front: Front, entry: OpenRequest, request: r.PackModel | r.UnpackModel
) -> None:
    """Raise Forbidden for a path from a client that could not write there itself."""
    is_name = request.to == Path(request.to).name and not request.to.startswith(("~", "."))
    if not is_name and MAP_TENSOR not in front.capabilities(entry.client):
        raise Forbidden(
            "only a client of the local socket may say by path where a model is written",
            asked=request.to[:80],
            hint="Give a name: the model goes to the user's artefact tree",
        )


def _report(front: Front, entry: OpenRequest, models: tuple[Model, ...]) -> ResidentReport:
    residency = front.dispatcher.residency
    now = front.dispatcher.clock()
    return ResidentReport(
        id=entry.request_id,
        models=tuple(resident_of(m, residency.places[m.worker].device, now) for m in models),
        budget_nbytes=residency.budget_nbytes,
        used_nbytes=front.dispatcher.placement.used_nbytes,
        notes=tuple(note for m in models for note in m.notes),
    )


def _named(front: Front, name: str) -> list[Model]:
    """The resident models that go by a name, or lie in the directory it leads to."""
    models = [m for m in front.dispatcher.residency.models.values() if m.state == "resident"]
    named = [m for m in models if m.name == name or m.key.path == name]
    if named:
        return named
    try:
        located = front.dispatcher.catalog.locate(name, "float32")
    except (NotFound, CheckpointError):  # gone from the disk, or never there
        return []
    return [] if located is None else [m for m in models if m.key.path == located.key.path]


def _check_exists(front: Front, name: str) -> None:
    """Raise NotFound, with the nearest names, for a model nobody knows."""
    front.dispatcher.catalog.locate(name, "float32")


HANDLERS: Final[Mapping[type[r.Request], Handler]] = {
    r.ListModels: list_models,
    r.LoadModel: load,
    r.UnloadModel: unload,
    r.PinModel: pin,
    r.ResidentModels: resident_models,
    i.TrainingCurves: training,
}
