"""`models.pack` and `models.unpack`: a model's files in another form, with the same bits."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from circuit_protocol.errors import InternalError
from circuit_protocol.replies import ModelConverted
from circuit_protocol.requests import PackModel, UnpackModel
from circuitd.store.convert import Converted, Stage, convert, destination_of
from circuitd.worker.context import Context
from circuitd.worker.output import Output
from circuitd.worker.registry import Steps


def run(request: PackModel | UnpackModel, context: Context) -> Steps:
    """Convert, one tensor a step; the model need not be resident."""
    key = context.item.model
    if key is None:
        raise InternalError("a conversion came without a model", asked=request.model)
    form = "packed" if isinstance(request, PackModel) else "plain"
    steps = convert(Path(key.path), destination_of(request.to), form, overwrite=request.overwrite)
    converted = yield from _told(context, steps)
    yield context.output(
        ModelConverted(
            id=request.id,
            path=str(converted.directory),
            model_hash=converted.model_hash,
            nbytes_before=converted.nbytes_before,
            nbytes_after=converted.nbytes_after,
        )
    )


def _told(
    context: Context, steps: Generator[Stage, None, Converted]
) -> Generator[Output | None, None, Converted]:
    """What `steps` comes to, its stages told as progress."""
    try:
        while True:
            stage = next(steps)
            yield context.progress(stage.name, stage.n_done, stage.n_tensors, unit="tensors")
    except StopIteration as end:
        return end.value
    finally:
        steps.close()  # a cancelled conversion leaves nothing behind
