"""Vectors of sixteen lanes as values of compiled kernels: what they mean is written, not hoped for.

LLVM turns a loop over lanes into vector instructions as its estimate for the processor suggests;
on some the estimate is wrong by a factor of two, and a loop whose arrays might overlap loads and
stores its sums in every round. A value of these types is one register of AVX-512, two of AVX, four
of NEON, on any processor that LLVM knows. They exist within kernels only:

    total = splat(np.float32(0))
    for channel in range(x.shape[0]):
        value = load(x, channel, lane)  # lanes `lane` to `lane` + 15 of a row
        total += value * value
    store(total, sums, 0, lane)

`+ - * / & | << >> >= > < <= == !=` work lane by lane on two vectors of one kind; comparisons give a
mask. Products may be fused into sums; nothing else is rearranged.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.extending import intrinsic, lower_builtin, register_model
from numba.core.typing.templates import AbstractTemplate, infer_global, signature

__all__ = [
    "LANES", "MAGNITUDE", "any_of", "bits", "bits_of", "floats", "floor", "halves", "lane_numbers",
    "larger", "load", "load_at", "lowest_bit", "ones", "splat", "splat_of", "square_root", "store",
    "store_at", "sum_of", "to_floats", "to_integers", "transpose", "where", "whole",
]  # fmt: skip

#: Lanes of a vector: a cache line of float32, and a register of AVX-512.
LANES: Final = 16
#: The bits of a float's magnitude, which order like integers: all but its sign.
MAGNITUDE: Final = np.int32(0x7FFFFFFF)

_Build = Callable[..., Any]

_INT32: Final = ir.IntType(32)
_ELEMENTS: Final = {
    "f32": ir.FloatType(), "i32": _INT32, "i16": ir.IntType(16), "mask": ir.IntType(1)
}  # fmt: skip


def _written(function: Callable[..., Any]) -> Any:
    """What compiled kernels call: `function` gives its type, and writes its instructions."""
    return intrinsic(function)


class Vector(types.Type):
    """The type of `n` elements of one kind."""

    def __init__(self, kind: str, n: int) -> None:
        self.kind, self.n = kind, n
        super().__init__(name=f"{kind}x{n}")

    @property
    def llvm(self) -> ir.VectorType:
        """The same to LLVM."""
        return ir.VectorType(_ELEMENTS[self.kind], self.n)


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        super().__init__(dmm, fe_type, fe_type.llvm)


F32: Final = Vector("f32", LANES)
I32: Final = Vector("i32", LANES)
#: Two per lane: the low half of each lane's integer, then the high half.
I16: Final = Vector("i16", 2 * LANES)
_MASK_OF: Final = {vector: Vector("mask", vector.n) for vector in (F32, I32, I16)}
_MASKS: Final = tuple(dict.fromkeys(_MASK_OF.values()))


# ------------------------------------------------------------------------------------- operators


def _operator(operation: Any, builds: dict[Vector, _Build], *, compares: bool = False) -> None:
    """Let `operation` take two vectors of one kind, for each kind that `builds` has."""

    class Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) != 2 or args[0] != args[1] or args[0] not in builds:
                return None
            vector = args[0]
            return signature(_MASK_OF[vector] if compares else vector, vector, vector)

    register: Any = infer_global(operation)
    register(Template)
    for vector, build in builds.items():
        lower_builtin(operation, vector, vector)(
            lambda context, builder, sig, args, build=build: build(builder, *args)
        )


def _plain(name: str, *vectors: Vector) -> dict[Vector, _Build]:
    return dict.fromkeys(vectors, lambda builder, a, b: getattr(builder, name)(a, b))


def _fused(name: str) -> dict[Vector, _Build]:
    return {F32: lambda builder, a, b: getattr(builder, name)(a, b, flags=("contract",))}


def _compared(sign: str) -> dict[Vector, _Build]:
    return {
        # As everywhere: what is not a number is unequal to all, and else compares false.
        F32: lambda builder, a, b: (
            builder.fcmp_unordered(sign, a, b) if sign == "!=" else builder.fcmp_ordered(sign, a, b)
        ),
        **dict.fromkeys((I32, I16), lambda builder, a, b: builder.icmp_signed(sign, a, b)),
    }


_INTEGERS: Final = (I32, I16)
for _name, _in_place in (("add", operator.iadd), ("sub", operator.isub), ("mul", operator.imul)):
    _builds = _fused(f"f{_name}") | _plain(_name, *_INTEGERS)
    _operator(getattr(operator, _name), _builds)
    _operator(_in_place, _builds)
_operator(operator.truediv, _fused("fdiv"))
_operator(operator.and_, _plain("and_", *_INTEGERS, *_MASKS))
_operator(operator.or_, _plain("or_", *_INTEGERS, *_MASKS))
_operator(operator.lshift, _plain("shl", *_INTEGERS))
_operator(operator.rshift, _plain("ashr", *_INTEGERS))
_SIGNS: Final = {"ge": ">=", "gt": ">", "lt": "<", "le": "<=", "eq": "==", "ne": "!="}
for _name, _sign in _SIGNS.items():
    _operator(getattr(operator, _name), _compared(_sign), compares=True)


# ------------------------------------------------------------------------------ memory and scalars


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, *at: Any) -> Any:
    """Where the sixteen elements begin: those of a row lie side by side."""
    struct = context.make_array(array_type)(context, builder, array)
    *outer, lane = at
    nbytes = builder.mul(lane, lane.type(4))
    for index, stride in zip(outer, cgutils.unpack_tuple(builder, struct.strides), strict=False):
        nbytes = builder.add(nbytes, builder.mul(index, stride))
    address = builder.gep(builder.bitcast(struct.data, cgutils.voidptr_t), [nbytes], inbounds=True)
    return builder.bitcast(address, _in(array_type).llvm.as_pointer())


def _in(array: Any) -> Any:
    """What `load` gives of an array; None for one that it does not take. Of a slice it is believed
    that elements of a row lie side by side.
    """
    is_array = isinstance(array, types.Array) and array.layout != "F"
    return {types.float32: F32, types.int32: I32}.get(array.dtype) if is_array else None


def _load(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.load(_pointer(context, builder, sig.args[0], *args), align=4)


def _store(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    builder.store(args[0], _pointer(context, builder, sig.args[1], *args[1:]), align=4)
    return context.get_dummy_value()


@_written
def load(typingctx: Any, array: Any, row: Any, lane: Any) -> Any:
    """Sixteen elements of row `row` of a float32 or int32 `array` [rows, lanes], from `lane` on."""
    vector = _in(array)
    if vector is None or array.ndim != 2:
        return None
    return vector(array, types.intp, types.intp), _load


@_written
def store(typingctx: Any, value: Any, array: Any, row: Any, lane: Any) -> Any:
    """Write `value` where `load` would read it."""
    if value != _in(array) or array.ndim != 2:
        return None
    return types.void(value, array, types.intp, types.intp), _store


@_written
def load_at(typingctx: Any, array: Any, lane: Any) -> Any:
    """Sixteen elements of a float32 or int32 `array` [lanes], from `lane` on."""
    vector = _in(array)
    if vector is None or array.ndim != 1:
        return None
    return vector(array, types.intp), _load


@_written
def store_at(typingctx: Any, value: Any, array: Any, lane: Any) -> Any:
    """Write `value` where `load_at` would read it."""
    if value != _in(array) or array.ndim != 1:
        return None
    return types.void(value, array, types.intp), _store


@_written
def splat(typingctx: Any, scalar: Any) -> Any:
    """A vector whose lanes are all `scalar`: a float32, or an integer as int32."""
    if scalar is types.float32:
        accepts, vector = scalar, F32
    elif isinstance(scalar, types.Integer):
        accepts, vector = types.int32, I32
    else:
        return None

    return vector(accepts), lambda context, builder, sig, args: _splat(builder, vector, args[0])


@_written
def splat_of(typingctx: Any, array: Any, row: Any, lane: Any) -> Any:
    """A vector whose lanes are all what an `array` [rows, lanes] has there."""
    vector = _in(array)
    if vector is None or array.ndim != 2:
        return None

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, sig.args[0], *args)
        element = builder.bitcast(pointer, vector.llvm.element.as_pointer())
        return _splat(builder, vector, builder.load(element))

    return vector(array, types.intp, types.intp), build


def _splat(builder: Any, vector: Vector, scalar: Any) -> Any:
    first = builder.insert_element(vector.llvm(ir.Undefined), scalar, _INT32(0))
    zeros = ir.VectorType(_INT32, LANES)([0] * LANES)
    return builder.shuffle_vector(first, first, zeros)


@_written
def lane_numbers(typingctx: Any) -> Any:
    """The int32 vector 0, 1, .. 15."""
    numbers = I32.llvm(list(range(LANES)))
    return I32(), lambda context, builder, sig, args: numbers


# --------------------------------------------------------------------------------- between vectors


def _unary(gives: dict[Any, types.Type], build: Callable[[Any, Any, Any], Any]) -> Any:
    """A function of one argument: `gives` says the result's type for each that it takes, `build`
    makes it of the builder, the argument and LLVM's type of the result.
    """

    def typed(typingctx: Any, x: Any) -> Any:
        if x not in gives:
            return None
        return gives[x](x), lambda context, builder, sig, args: build(
            builder, args[0], context.get_value_type(sig.return_type)
        )

    return _written(typed)


#: The bit pattern of each float, and back.
bits: Any = _unary({F32: I32}, lambda builder, x, to: builder.bitcast(x, to))
floats: Any = _unary({I32: F32}, lambda builder, x, to: builder.bitcast(x, to))
#: The two halves of each integer, and back.
halves: Any = _unary({I32: I16}, lambda builder, x, to: builder.bitcast(x, to))
whole: Any = _unary({I16: I32}, lambda builder, x, to: builder.bitcast(x, to))
#: The nearest integer towards zero, and back.
to_integers: Any = _unary({F32: I32}, lambda builder, x, to: builder.fptosi(x, to))
to_floats: Any = _unary({I32: F32}, lambda builder, x, to: builder.sitofp(x, to))
#: -1 where a mask is true, else 0.
ones: Any = _unary(
    {_MASK_OF[I32]: I32, _MASK_OF[I16]: I16}, lambda builder, x, to: builder.sext(x, to)
)
#: A mask as an integer: bit i is element i.
bits_of: Any = _unary(
    dict.fromkeys(_MASKS, types.uint64),
    lambda builder, x, to: builder.zext(builder.bitcast(x, ir.IntType(x.type.count)), to),
)
#: The place of the lowest bit that is set in a uint64 other than 0.
lowest_bit: Any = _unary(
    {types.uint64: types.int64}, lambda builder, x, to: builder.cttz(x, ir.IntType(1)(1))
)


def _any(builder: Any, mask: Any, _: Any) -> Any:
    as_integer = builder.bitcast(mask, ir.IntType(mask.type.count))
    return builder.icmp_unsigned("!=", as_integer, as_integer.type(0))


def _sum(builder: Any, x: Any, _: Any) -> Any:
    n = LANES // 2
    while n:
        order = ir.VectorType(_INT32, LANES)([(i + n) % LANES for i in range(LANES)])
        x = builder.fadd(x, builder.shuffle_vector(x, x, order))
        n //= 2
    return builder.extract_element(x, _INT32(0))


#: The sum of the lanes, always in the same order.
sum_of: Any = _unary({F32: types.float32}, _sum)
#: Whether a mask is true anywhere.
any_of: Any = _unary(dict.fromkeys(_MASKS, types.boolean), _any)


def _of_floats(name: str) -> Callable[[Any, Any, Any], Any]:
    def build(builder: Any, x: Any, to: Any) -> Any:
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(to, [to]), f"llvm.{name}.v{LANES}f32"
        )
        return builder.call(function, [x])

    return build


floor: Any = _unary({F32: F32}, _of_floats("floor"))
square_root: Any = _unary({F32: F32}, _of_floats("sqrt"))


@_written
def where(typingctx: Any, mask: Any, chosen: Any, other: Any) -> Any:
    """`chosen` where `mask` is true, else `other`."""
    if chosen != other or mask != _MASK_OF.get(chosen):
        return None
    return chosen(mask, chosen, other), lambda context, builder, sig, args: builder.select(*args)


@_written
def larger(typingctx: Any, a: Any, b: Any) -> Any:
    """The larger of each two elements; `b` where `a` is not a number."""
    if a != b or a not in _MASK_OF:
        return None

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        compare = builder.fcmp_ordered if a == F32 else builder.icmp_signed
        return builder.select(compare(">", *args), *args)

    return a(a, b), build


@_written
def transpose(typingctx: Any, array: Any, row: Any, lane: Any, out: Any, to_row: Any) -> Any:
    """Write the sixteen by sixteen elements of `array` from `row` and `lane` on to `out` from
    `to_row` on, rows for lanes.
    """
    if _in(array) is None or _in(out) != _in(array):
        return None

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source, first, lane, target, to = args
        intp = first.type
        rows = [
            builder.load(
                _pointer(context, builder, sig.args[0], source, builder.add(first, intp(i)), lane),
                align=4,
            )
            for i in range(LANES)
        ]
        # In log2 steps: pairs of rows exchange halves, then quarters, and so on.
        step = LANES // 2
        while step:
            for i in range(LANES):
                if not i & step:
                    a, b = rows[i], rows[i + step]
                    rows[i] = _interleave(builder, a, b, step, 0)
                    rows[i + step] = _interleave(builder, a, b, step, step)
            step //= 2
        for i, value in enumerate(rows):
            pointer = _pointer(
                context, builder, sig.args[3], target, builder.add(to, intp(i)), intp(0)
            )
            builder.store(value, pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, out, types.intp), build


def _interleave(builder: Any, a: Any, b: Any, step: int, offset: int) -> Any:
    """Blocks of `step` elements, those at `offset` of every two, in turn of `a` and of `b`."""
    order = [
        (i // (2 * step)) * 2 * step + offset + i % step + (LANES if i & step else 0)
        for i in range(LANES)
    ]
    return builder.shuffle_vector(a, b, ir.VectorType(_INT32, LANES)(order))
