"""The tables of docs/protocol.md, generated from the structs between markers in the page.

`<!-- generated: NAME -->` … `<!-- end -->` holds what `SECTIONS[NAME]()` returns; all else on the
page is written by hand. `python -m circuit_protocol.reference [--check]`.
"""

import ast
import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final, get_args

import msgspec
from msgspec import NODEFAULT
from msgspec import inspect as shapes

from circuit_protocol import (
    ablations,
    circuit_replies,
    circuits,
    daemon,
    errors,
    holding,
    inspection,
    interventions,
    jobs,
    messages,
    models,
    passes,
    replies,
    requests,
    session,
    tasks,
    tensors,
)
from circuit_protocol.answers import ANSWERS
from circuit_protocol.codec import REPLY_TYPES, REQUEST_TYPES
from circuit_protocol.limits import DEFAULT_LIMITS
from circuit_protocol.pages import docs_dir, write_or_check

FILE_NAME: Final = "protocol.md"
#: Where the structs are that are no messages but parts of them.
_VALUE_MODULES: Final = (
    *(tensors, interventions, session, errors, messages, daemon, models, tasks, passes, ablations),
    *(holding, jobs, circuits, circuit_replies, inspection),
)
_MARKED: Final = re.compile(r"(<!-- generated: (?P<name>[\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)

#: What a dtype name means to a reader of another language.
_DTYPE_MEANINGS: Final[dict[str, str]] = {
    "BOOL": "0 or 1, one byte each",
    "U8": "unsigned 8-bit integer",
    "I8": "signed 8-bit integer",
    "U16": "unsigned 16-bit integer",
    "I16": "signed 16-bit integer",
    "I32": "signed 32-bit integer",
    "I64": "signed 64-bit integer",
    "U32": "unsigned 32-bit integer",
    "U64": "unsigned 64-bit integer",
    "F16": "IEEE 754 half precision",
    "BF16": "bfloat16: the upper 16 bits of an F32",
    "F32": "IEEE 754 single precision",
    "F64": "IEEE 754 double precision",
}


def _structs_of(module: Any) -> list[type[msgspec.Struct]]:
    return [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, msgspec.Struct)
        and value.__module__ == module.__name__
        and not value.__name__.startswith("_")
    ]


def _anchor(struct: type[msgspec.Struct]) -> str:
    """The fragment that GitHub makes of the struct's heading."""
    tag = struct.__struct_config__.tag
    is_message = issubclass(struct, (requests.Request, replies.Reply))
    heading = str(tag) if is_message else struct.__name__
    return heading.lower().replace(".", "")


def type_text(shape: shapes.Type) -> str:
    """A field's type as the page shows it: JSON-like, with the bounds."""
    match shape:
        case shapes.UnionType():
            return " or ".join(_union_texts(shape))
        case shapes.StructType():
            return f"[{shape.cls.__name__}](#{_anchor(shape.cls)})"
        case shapes.VarTupleType() | shapes.ListType():
            inner = type_text(shape.item_type)
            bounds = _bounds(("≥", shape.min_length), ("≤", shape.max_length))
            return f"list of {inner}" + (f" ({bounds} of them)" if bounds else "")
        case shapes.TupleType():
            items = ", ".join(map(type_text, shape.item_types))
            return f"list of {len(shape.item_types)}: {items}"
        case shapes.LiteralType() if set(shape.values) == set(tensors.NUMPY_DTYPES):
            return "[dtype](#dtypes)"
        case shapes.LiteralType():
            return ", ".join(f'`"{value}"`' for value in shape.values)
        case shapes.StrType():
            bounds = _bounds(("≥", shape.min_length), ("≤", shape.max_length))
            return "string" + (f" ({bounds} characters)" if bounds else "")
        case shapes.IntType() | shapes.FloatType():
            name = "integer" if isinstance(shape, shapes.IntType) else "number"
            bounds = _bounds((">", shape.gt), ("≥", shape.ge), ("<", shape.lt), ("≤", shape.le))
            return name + (f" {bounds}" if bounds else "")
        case shapes.BoolType():
            return "boolean"
        case shapes.BytesType():
            return "binary"
        case shapes.NoneType():
            return "null"
        case _:
            raise TypeError(f"the page has no words for {shape!r}")


def _union_texts(shape: shapes.UnionType) -> Iterable[str]:
    members = [t for t in shape.types if not isinstance(t, shapes.NoneType)]
    structs = {t.cls for t in members if isinstance(t, shapes.StructType)}
    if structs == set(get_args(interventions.Intervention)):
        yield "[intervention](#interventions)"
    elif structs == set(get_args(requests.Ablation)):
        yield "[ablation](#ablations)"
    else:
        yield from (type_text(t) for t in members if isinstance(t, shapes.StructType))
    yield from (type_text(t) for t in members if not isinstance(t, shapes.StructType))
    if shape.includes_none:
        yield "null"


def _bounds(*bounds: tuple[str, float | None]) -> str:
    return ", ".join(f"{sign} {bound}" for sign, bound in bounds if bound is not None)


def _default_text(field: shapes.Field) -> str:
    if field.required:
        return "**required**"
    if field.default is NODEFAULT and field.default_factory is NODEFAULT:
        return "unchanged"  # msgspec shows a default of UNSET as none, yet not required
    default = field.default_factory() if field.default is NODEFAULT else field.default
    return f"`{msgspec.json.encode(default).decode()}`"


@functools.cache
def _class_sources(module: str) -> dict[str, list[str]]:
    """The lines of each class of a module, which `inspect.getsource` would parse for each class."""
    source = inspect.getsource(sys.modules[module])
    lines = source.splitlines()
    return {
        node.name: lines[node.lineno - 1 : node.end_lineno]
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef)
    }


def _comments(struct: type[msgspec.Struct]) -> dict[str, str]:
    """What `#:` comments above the fields in a struct's source say."""
    found: dict[str, str] = {}
    pending: list[str] = []
    for line in _class_sources(struct.__module__)[struct.__name__]:
        text = line.strip()
        if text.startswith("#:"):
            pending.append(text[2:].strip())
        elif (match := re.match(r"(\w+): ", text)) and pending:
            found[match[1]] = " ".join(pending)
            pending = []
        else:
            pending = []
    return found


def _own_fields(struct: type[msgspec.Struct]) -> list[shapes.Field]:
    """The fields a struct adds to those of its base, in order."""
    inherited: set[str] = set()
    for base in struct.__bases__:
        if issubclass(base, msgspec.Struct) and base is not msgspec.Struct:
            inherited.update(base.__struct_fields__)
    shape = shapes.type_info(struct)
    assert isinstance(shape, shapes.StructType)
    return [field for field in shape.fields if field.name not in inherited]


def table(rows: Iterable[Iterable[str]], *header: str) -> str:
    """A table of the page."""
    lines = [f"| {' | '.join(header)} |", f"|{'|'.join('---' for _ in header)}|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _fields_table(struct: type[msgspec.Struct]) -> str:
    comments = _comments(struct)
    rows = [
        (f"`{f.encode_name}`", type_text(f.type), _default_text(f), comments.get(f.name, ""))
        for f in _own_fields(struct)
    ]
    if any(row[3] for row in rows):
        return table(rows, "field", "type", "default", "meaning")
    return table((row[:3] for row in rows), "field", "type", "default") if rows else ""


def _prose(struct: type[msgspec.Struct]) -> str:
    text = inspect.cleandoc(struct.__doc__ or "")
    for python, name in (("None", "null"), ("True", "true"), ("False", "false")):
        text = re.sub(rf"\b{python}\b", name, text)
    return text


def entry(struct: type[msgspec.Struct], heading: str, extra: str = "") -> str:
    """A struct on the page: its heading, what it says of itself, and its fields."""
    parts = [f"#### {heading}\n", _prose(struct) + "\n"]
    if extra:
        parts.append(extra + "\n")
    if fields := _fields_table(struct):
        parts.append(fields)
    return "\n".join(parts)


def _link(struct: type[msgspec.Struct]) -> str:
    return f"[`{struct.__struct_config__.tag}`](#{_anchor(struct)})"


def _answered_by(struct: type[requests.Request]) -> str:
    answer = ANSWERS[struct]
    kind = "Runs on a model. " if issubclass(struct, requests.ModelRequest) else ""
    if struct is requests.WatchJob:
        return "Answered by the job's `progress` and partial replies, then its final reply."
    if answer.final is None:
        return "Never answered."
    if answer.partial is None:
        return f"{kind}Answered by {_link(answer.final)}."
    if answer.partial is answer.final:
        return f"{kind}Answered by any number of {_link(answer.final)}, the last one final."
    return f"{kind}Answered by any number of {_link(answer.partial)}, then {_link(answer.final)}."


def _requests() -> str:
    common = _fields_table(requests.Request)
    model = _fields_table(requests.ModelRequest)
    entries = (
        entry(struct, f"`{tag}`", _answered_by(struct)) for tag, struct in REQUEST_TYPES.items()
    )
    return "\n".join(
        [
            "#### Fields of every request\n",
            common,
            "#### Fields of every request that runs on a model\n",
            _prose(requests.ModelRequest) + "\n",
            model,
            *entries,
        ]
    )


def _replies() -> str:
    entries = (entry(struct, f"`{tag}`") for tag, struct in REPLY_TYPES.items())
    return "\n".join(["#### Fields of every reply\n", _fields_table(replies.Reply), *entries])


def _values() -> str:
    tagged = {*get_args(interventions.Intervention), *get_args(requests.Ablation)}
    structs = [
        struct
        for module in _VALUE_MODULES
        for struct in _structs_of(module)
        if not issubclass(struct, (requests.Request, replies.Reply)) and struct not in tagged
    ]
    return "\n".join(entry(s, s.__name__, _tag_sentence(s)) for s in structs)


def _tag_sentence(struct: type[msgspec.Struct]) -> str:
    config = struct.__struct_config__
    return f'Carries `"{config.tag_field}": "{config.tag}"`.' if config.tag is not None else ""


def _interventions() -> str:
    where = interventions.Zero
    shape = shapes.type_info(where)
    assert isinstance(shape, shapes.StructType)
    common = table(
        ((f"`{f.encode_name}`", type_text(f.type), _default_text(f)) for f in shape.fields),
        "field",
        "type",
        "default",
    )
    entries = (
        entry(struct, struct.__name__, _tag_sentence(struct))
        for struct in get_args(interventions.Intervention)
    )
    return "\n".join(["Fields of every intervention:\n", common, *entries])


def _ablations() -> str:
    return "\n".join(
        entry(struct, struct.__name__, _tag_sentence(struct))
        for struct in get_args(requests.Ablation)
    )


def _errors() -> str:
    return table(
        (
            (
                f"`{error.code}`",
                error.blame,
                "yes" if error.retry else "no",
                inspect.cleandoc(error.__doc__ or "").splitlines()[0],
            )
            for error in errors.ERRORS_BY_CODE.values()
        ),
        "code",
        "blame",
        "retry",
        "meaning",
    )


def _dtypes() -> str:
    return table(
        (
            (f"`{name}`", str(dtype.itemsize), _DTYPE_MEANINGS[name])
            for name, dtype in tensors.NUMPY_DTYPES.items()
        ),
        "dtype",
        "bytes",
        "meaning",
    )


def _limits() -> str:
    values = msgspec.structs.asdict(DEFAULT_LIMITS)
    return table(((f"`{k}`", f"{v:,}") for k, v in values.items()), "limit", "default")


SECTIONS: Final[dict[str, Callable[[], str]]] = {
    "requests": _requests,
    "replies": _replies,
    "values": _values,
    "interventions": _interventions,
    "ablations": _ablations,
    "errors": _errors,
    "dtypes": _dtypes,
    "limits": _limits,
}


def fill(page: str) -> str:
    """`page` with every generated section as it must be today.

    Raises ValueError for a marker without a section and a section without a marker.
    """
    named = {match["name"] for match in _MARKED.finditer(page)}
    if named != set(SECTIONS):
        raise ValueError(f"markers and sections differ: {sorted(named ^ set(SECTIONS))}")
    return _MARKED.sub(lambda m: f"{m[1]}\n{SECTIONS[m['name']]()}\n{m[3]}", page)


def main(arguments: list[str]) -> int:
    """Write the page's tables, or compare them (`--check`)."""
    path = docs_dir() / FILE_NAME
    return write_or_check(
        path, fill(path.read_text("utf-8")), arguments, "circuit_protocol.reference"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
