"""What the front refuses before it queues or allocates: sizes and counts over the announced limits.

Only what the message itself tells is judged here; names, token ids and shapes that depend on the
model are judged by the worker that has it.
"""

from collections.abc import Iterator, Sequence

import msgspec
from msgspec import inspect

from circuit_protocol import requests as r
from circuit_protocol.errors import BadTokens, InvalidRequest, MalformedMessage, TooLarge
from circuit_protocol.interventions import Values
from circuit_protocol.limits import INTEGERS, check_tensor
from circuit_protocol.replies import Limits
from circuit_protocol.tensors import Frame, Handle, Tensor

#: Which fields of a struct can hold tensors: most cannot, and need not be looked at each time.
_FIELDS: dict[type, tuple[str, ...]] = {}


def check_request(request: r.Request, frames: Sequence[Frame], limits: Limits) -> None:
    """Raise a RequestError if `request` is over a limit or names frames that did not come."""
    for tensor, field in tensors_in(request):
        check_tensor(tensor, field, limits=limits)
        if isinstance(tensor, Tensor):
            _check_frame(tensor, field, frames)
    match request:
        case r.Forward() | r.Generate():
            _check_prompts(request.prompts, limits)
        case r.Hook() | r.Ablate():
            _check_input(request.input, limits)
            if isinstance(request, r.Hook) and request.against and request.against.prompts:
                _check_prompts(request.against.prompts, limits)
            if isinstance(request, r.Ablate):
                _check_masks(request, limits)
        case r.SampleTask():
            _check_input(request.input, limits)
        case r.Tokenize():
            _check_rows(len(request.texts), limits)
            _check_positions(sum(len(t.encode()) for t in request.texts), limits)
        case r.Detokenize():
            _check_rows(len(request.tokens), limits)
            _check_positions(sum(map(len, request.tokens)), limits)
        case _:
            pass


def prompt_cost(prompts: r.Prompts) -> int:
    """Rows x positions of a batch of prompts; for texts an upper bound (a token has a byte)."""
    if prompts.tokens is not None:
        rows, positions = prompts.tokens.shape
        return rows * positions
    texts = prompts.texts or ()
    return len(texts) * max((len(t.encode()) for t in texts), default=0)


def tensors_in(message: msgspec.Struct, path: str = "") -> Iterator[tuple[Values, str]]:
    """Every tensor and handle in a message, with the path of its field."""
    for name in _fields_of(type(message)):
        yield from _tensors_in_value(getattr(message, name), f"{path}{name}")


def handles_in(message: msgspec.Struct) -> tuple[str, ...]:
    """The held tensors a request names inside its values."""
    return tuple(v.handle for v, _ in tensors_in(message) if isinstance(v, Handle))


def _tensors_in_value(value: object, path: str) -> Iterator[tuple[Values, str]]:
    if isinstance(value, Tensor | Handle):
        yield value, path
    elif isinstance(value, msgspec.Struct):
        yield from tensors_in(value, f"{path}.")
    elif isinstance(value, tuple):
        for i, element in enumerate(value):
            # Numbers and texts hold no tensors: long lists of them are not looked through.
            if isinstance(element, msgspec.Struct | tuple):
                yield from _tensors_in_value(element, f"{path}[{i}]")
            else:
                break


def _fields_of(struct: type[msgspec.Struct]) -> tuple[str, ...]:
    fields = _FIELDS.get(struct)
    if fields is None:
        found = inspect.type_info(struct)
        assert isinstance(found, inspect.StructType)
        fields = tuple(field.name for field in found.fields if _may_hold_tensor(field.type))
        _FIELDS[struct] = fields
    return fields


def _may_hold_tensor(declared: inspect.Type) -> bool:
    """Whether a value of this type can be or contain a tensor or handle."""
    match declared:
        case inspect.StructType(cls=cls):
            return cls in (Tensor, Handle) or bool(_fields_of(cls))
        case inspect.UnionType(types=types):
            return any(map(_may_hold_tensor, types))
        case inspect.VarTupleType(item_type=item):
            return _may_hold_tensor(item)
        case inspect.TupleType(item_types=items):
            return any(map(_may_hold_tensor, items))
        case _:
            return False


def _check_frame(tensor: Tensor, field: str, frames: Sequence[Frame]) -> None:
    if (tensor.frame is None) == (tensor.data is None):
        raise MalformedMessage(f"{field} needs either a frame number or inline data, not both")
    if tensor.frame is not None and not 1 <= tensor.frame <= len(frames):
        raise MalformedMessage(
            f"{field} names a frame that was not sent",
            asked=f"frame {tensor.frame}",
            found=f"{len(frames)} frames",
        )
    buffer = frames[tensor.frame - 1] if tensor.frame is not None else tensor.data or b""
    if memoryview(buffer).nbytes != tensor.nbytes:
        raise MalformedMessage(
            f"the bytes of {field} do not fill its shape",
            asked=f"{tensor.dtype}{list(tensor.shape)}, {tensor.nbytes} bytes",
            found=f"{memoryview(buffer).nbytes} bytes",
        )


def _check_input(given: r.Input, limits: Limits) -> None:
    if isinstance(given, r.PromptInput):
        _check_prompts(given.prompts, limits)
    else:
        _check_rows(2 * given.n, limits)


def _check_prompts(prompts: r.Prompts, limits: Limits) -> None:
    if (prompts.texts is None) == (prompts.tokens is None):
        raise InvalidRequest("prompts need either texts or tokens, not both")
    if prompts.tokens is not None:
        check_tensor(
            prompts.tokens, "prompts.tokens", shape=(None, None), dtypes=INTEGERS, limits=limits
        )
        rows = prompts.tokens.shape[0]
        if prompts.lengths is not None and len(prompts.lengths) != rows:
            raise BadTokens(
                "lengths must have one entry per row",
                asked=f"{len(prompts.lengths)} lengths",
                found=f"{rows} rows",
            )
    else:
        rows = len(prompts.texts or ())
    if rows == 0:
        raise BadTokens("the batch is empty", hint="Give at least one prompt")
    _check_rows(rows, limits)
    _check_positions(prompt_cost(prompts), limits)


def _check_masks(request: r.Ablate, limits: Limits) -> None:
    given = [bool(request.masks), request.packed is not None, request.every is not None]
    if sum(given) > 1:
        raise InvalidRequest("give masks in one way: `masks`, `packed` or `every`")
    n = len(request.masks)
    if request.packed is not None:
        check_tensor(request.packed, "packed", shape=(None, None), dtypes={"BOOL"}, limits=limits)
        n = request.packed.shape[0]
    if n > limits.masks:
        raise _over("masks", limits.masks, n)


def _check_rows(n: int, limits: Limits) -> None:
    if n > limits.rows:
        raise _over("rows", limits.rows, n)


def _check_positions(n: int, limits: Limits) -> None:
    if n > limits.positions:
        raise _over("positions (rows x length)", limits.positions, n)


def _over(what: str, limit: int, found: int) -> TooLarge:
    return TooLarge(f"too many {what}", asked=str(found), hint=f"The limit is {limit}")
