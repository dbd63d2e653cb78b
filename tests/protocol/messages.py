"""Messages of every type, drawn by hypothesis or made in full, from the types of their fields."""

from typing import Any

import hypothesis.strategies as st
import msgspec
from msgspec import UNSET, inspect


def drawn(struct: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Instances of `struct` with any values its field types allow."""
    shape = inspect.type_info(struct)
    assert isinstance(shape, inspect.StructType)
    fields = {}
    for field in shape.fields:
        value = _drawn(field.type)
        # A field of UNSET default is left out now and then.
        has_unset = not field.required and field.default is inspect.NODEFAULT
        fields[field.name] = st.one_of(st.just(UNSET), value) if has_unset else value
    return st.builds(struct, **fields)


def _drawn(shape: inspect.Type) -> st.SearchStrategy[Any]:
    match shape:
        case inspect.UnionType():
            return st.one_of([_drawn(t) for t in shape.types])
        case inspect.StructType():
            return drawn(shape.cls)
        case inspect.VarTupleType():
            items = _drawn(shape.item_type)
            return st.lists(items, min_size=shape.min_length or 0, max_size=3).map(tuple)
        case inspect.TupleType():
            return st.tuples(*map(_drawn, shape.item_types))
        case inspect.LiteralType():
            return st.sampled_from(shape.values)
        case inspect.StrType():
            return st.text(min_size=shape.min_length or 0, max_size=min(shape.max_length or 20, 20))
        case inspect.IntType():
            low = shape.ge if shape.ge is not None else -(2**63)
            return st.integers(low, shape.le if shape.le is not None else 2**63 - 1)
        case inspect.FloatType():
            low = shape.ge if shape.ge is not None else shape.gt
            return st.floats(
                low,
                shape.le if shape.le is not None else shape.lt,
                allow_nan=False,  # JSON, in which the schema speaks, has neither
                allow_infinity=False,
                exclude_min=shape.gt is not None,
                exclude_max=shape.lt is not None,
            )
        case inspect.BoolType():
            return st.booleans()
        case inspect.BytesType():
            return st.binary(max_size=20)
        case inspect.NoneType():
            return st.none()
        case _:
            raise TypeError(f"no strategy for {shape!r}")


def full(struct: type[msgspec.Struct]) -> Any:
    """The one instance of `struct` in which every field has a value that is not its default."""
    shape = inspect.type_info(struct)
    assert isinstance(shape, inspect.StructType)
    return struct(**{f.name: _other_than(f.default, f.type, f.name) for f in shape.fields})


def _other_than(default: Any, shape: inspect.Type, name: str) -> Any:
    for value in _examples(shape, name):
        if value != default or default is inspect.NODEFAULT:
            return value
    raise TypeError(f"{name} can be nothing but its default")


def _examples(shape: inspect.Type, name: str) -> list[Any]:
    match shape:
        case inspect.UnionType():
            return [v for t in shape.types for v in _examples(t, name) if v is not None]
        case inspect.StructType():
            return [full(shape.cls)]
        case inspect.VarTupleType():
            if isinstance(shape.item_type, inspect.UnionType):
                return [tuple(_examples(shape.item_type, name))]
            return [tuple(_examples(shape.item_type, name)[:2])]
        case inspect.TupleType():
            return [tuple(_examples(t, name)[0] for t in shape.item_types)]
        case inspect.LiteralType():
            return list(shape.values)
        case inspect.StrType():
            return [f"{name} é✓", f"{name} 2"]
        case inspect.IntType():
            low = shape.ge if shape.ge is not None else 3
            return [low + 1, low + 2]
        case inspect.FloatType():
            return [0.25, 0.75]
        case inspect.BoolType():
            return [True, False]
        case inspect.BytesType():
            return [bytes([0, 127, 128, 255])]
        case inspect.NoneType():
            return [None]
        case _:
            raise TypeError(f"no example for {shape!r}")
