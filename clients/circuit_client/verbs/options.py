"""The options that all requests on a model share."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypedDict

from circuit_client.call import DEFAULT_MODEL, UNSENT_ID
from circuit_protocol.replies import Progress
from circuit_protocol.requests import DTypeName


class ModelOptions(TypedDict, total=False):
    """How a request on a model is carried out."""

    #: Precision of weights and activations; "float32" by default.
    dtype: DTypeName
    #: Seconds the model stays resident afterwards: 0 unloads it, negative keeps it for ever.
    keep_alive_s: float | None
    #: Whether a stored answer may be used, and this one stored; True by default.
    use_cache: bool
    #: "batch" work waits for "interactive" work (the default).
    priority: Literal["interactive", "batch"]
    #: Seconds after which the daemon gives up with DeadlineExceeded.
    deadline_s: float | None
    #: Called with each progress report, in the calling thread.
    progress: Callable[[Progress], None] | None


class Sorted(NamedTuple):
    """Options sorted by who reads them."""

    request: dict[str, Any]
    progress: Callable[[Progress], None] | None


def sort_options(model: str | None, options: ModelOptions) -> Sorted:
    """The fields of the request that `model` and `options` give, and the progress callback."""
    fields: dict[str, Any] = dict(options)
    progress = fields.pop("progress", None)
    fields["id"] = UNSENT_ID
    fields["model"] = DEFAULT_MODEL if model is None else model
    return Sorted(fields, progress)
