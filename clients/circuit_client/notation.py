"""Nodes and interventions as a person types them, and back.

    2.mlp.post_act[3,5,8-11]        nodes: some channels of a site
    2.mlp.post_act[3] 1.attn.v      several, separated by blanks or semicolons; no brackets: all

    zero:2.mlp.post_act[3,5]@-1     channels 3 and 5, at each row's last position
    mean:*.attn.v{head 3}           one head of every layer
    scale:*.attn.v{head 3}*0.5      times one half
    set:2.mlp.post_act[3]=1.5       to a number
    add:1.resid_mid[7]+0.25         one number, or +0.1,0.2 for several channels
    clamp:0.mlp.post_act=0..2       limits; either side may be missing
    resample:*.resid_mid~7          by a permutation of the rows drawn from seed 7
    freeze:*.attn.pattern           as it is undisturbed
    keep:0.mlp.post_act[1] final_resid[2]   keep a circuit, ablate all else

Channels are in brackets, heads in braces, positions after `@`, rows after `#`. What needs a whole
vector or an activation (patch, project, means) is given in JSON or in Python.
"""

import re
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np

from circuit_protocol import interventions as iv
from circuit_protocol.errors import InvalidRequest
from circuit_protocol.interventions import Intervention, NodeSet, SiteChannels
from circuit_protocol.tensors import INLINE_NBYTES, Tensor, pack, unpack

_NUMBERS = r"-?\d+(?:-\d+)?(?:,-?\d+(?:-\d+)?)*"
_NODE = re.compile(rf"(?P<site>[^\s;\[\]]+)(?:\[(?P<channels>{_NUMBERS})\])?")
_INTERVENTION = re.compile(
    rf"""(?P<site>\S+?)
    (?:\[(?P<channels>{_NUMBERS})\])?
    (?:\{{(?:heads?\s+)?(?P<heads>{_NUMBERS})\}})?
    (?:@(?P<positions>{_NUMBERS}))?
    (?:\#(?P<rows>{_NUMBERS}))?
    (?P<operand>[*=+~](?:[^*=+~]|(?<=[eE])\+)+)?""",
    re.VERBOSE,
)
#: More channels than any site has: a longer range is a slip, and would fill memory.
_MAX_RANGE = 1 << 20
_PLAIN = {"zero": iv.Zero, "mean": iv.Mean, "freeze": iv.Freeze}
_OPERATIONS = ("zero", "mean", "set", "scale", "add", "clamp", "resample", "freeze", "keep")
_HINT = "For example zero:2.mlp.post_act[3,5]@-1 or scale:*.attn.v{head 3}*0.5"

_json = msgspec.json.Decoder(Intervention | tuple[Intervention, ...])


def parse_nodes(text: str) -> NodeSet:
    """Nodes from their notation. Raises InvalidRequest at what is none."""
    nodes: list[SiteChannels] = []
    for word in re.split(r"[\s;]+", text.strip()):
        match = _NODE.fullmatch(word)
        if match is None:
            raise InvalidRequest(
                "these are no nodes", asked=word, hint="Nodes look like 2.mlp.post_act[3,5]"
            )
        nodes.append(SiteChannels(site=match["site"], channels=_numbers(match["channels"])))
    return tuple(nodes)


def format_nodes(nodes: NodeSet) -> str:
    """The notation of `nodes`."""
    return " ".join(_place(n.site, n.channels) for n in nodes)


def parse_interventions(text: str) -> tuple[Intervention, ...]:
    """One intervention in its notation, or one or a list of them in JSON."""
    if text.lstrip().startswith(("{", "[")):
        try:
            parsed = _json.decode(text)
        except msgspec.DecodeError as e:
            raise InvalidRequest("these are no interventions in JSON", found=str(e)) from None
        return parsed if isinstance(parsed, tuple) else (parsed,)
    return (_parse_one(text.strip()),)


def _parse_one(text: str) -> Intervention:
    operation, colon, rest = text.partition(":")
    if not colon or operation not in _OPERATIONS:
        raise InvalidRequest.unknown("operation of an intervention", operation, _OPERATIONS)
    if operation == "keep":
        return iv.Keep(site="*", nodes=parse_nodes(rest))
    match = _INTERVENTION.fullmatch(rest.strip())
    if match is None:
        raise _bad(text, "it does not read OPERATION:SITE[channels]{heads}@positions#rows")
    at: dict[str, Any] = {"site": match["site"]}
    for name in ("channels", "heads", "positions", "rows"):
        if match[name] is not None:
            at[name] = _numbers(match[name])
    sign, operand = (match["operand"] or "")[:1], (match["operand"] or "")[1:]
    wanted = {"set": "=", "scale": "*", "add": "+", "clamp": "="}.get(operation, "")
    if operation == "resample" and sign == "~":
        wanted = "~"
    if sign != wanted:
        raise _bad(
            text,
            f"{operation} needs `{wanted}` and a number" if wanted else f"{operation} takes none",
        )
    return _with_operand(operation, at, operand, text)


def _with_operand(operation: str, at: dict[str, Any], operand: str, text: str) -> Intervention:
    match operation:
        case "set":
            numbers = _floats(operand, text)
            return iv.Set(**at, value=numbers[0] if len(numbers) == 1 else _vector(numbers, text))
        case "scale":
            numbers = _floats(operand, text)
            if len(numbers) != 1:
                raise _bad(text, "scale takes one factor")
            return iv.Scale(**at, factor=numbers[0])
        case "add":
            numbers = _floats(operand, text)
            selected = len(at.get("channels") or ())
            if len(numbers) == 1 and selected:
                numbers *= selected
            return iv.Add(**at, vector=_vector(numbers, text))
        case "clamp":
            low, dots, high = operand.partition("..")
            if not dots or not (low or high):
                raise _bad(text, "clamp takes limits like 0..2, ..2 or 0..")
            return iv.Clamp(
                **at,
                low=_floats(low, text)[0] if low else None,
                high=_floats(high, text)[0] if high else None,
            )
        case "resample":
            if operand and not operand.isdigit():
                raise _bad(text, "a seed is a whole number")
            return iv.Resample(**at, seed=int(operand or 0))
        case _:
            return _PLAIN[operation](**at)


def format_intervention(intervention: Intervention) -> str:
    """The notation of `intervention`; JSON for what the notation does not hold."""
    i = intervention
    name = i.__struct_config__.tag
    where = (
        f"{name}:{_place(i.site, i.channels)}"
        + _group("{head ", i.heads, "}")
        + _group("@", i.positions)
        + _group("#", i.rows)
    )
    match i:
        case iv.Zero() | iv.Mean(values=None) | iv.Freeze(values=None):
            return where
        case iv.Set(value=float() as value):
            return f"{where}={value!r}"
        case iv.Set(value=Tensor() as value) | iv.Add(vector=Tensor() as value) if (
            value.data is not None
        ):
            numbers = [repr(float(x)) for x in unpack(value, ()).ravel()]
            return f"{where}{'=' if name == 'set' else '+'}{','.join(numbers)}"
        case iv.Scale():
            return f"{where}*{i.factor!r}"
        case iv.Clamp():
            low, high = ("" if x is None else repr(float(x)) for x in (i.low, i.high))
            return f"{where}={low}..{high}"
        case iv.Resample(source_rows=None):
            return f"{where}~{i.seed}" if i.seed else where
        case iv.Keep(site="*", fill="mean"):
            return f"keep:{format_nodes(i.nodes)}"
        case _:
            return msgspec.json.encode(i).decode()


def _place(site: str, channels: Iterable[int] | None) -> str:
    return site + _group("[", channels, "]")


def _group(opening: str, numbers: Iterable[int] | None, closing: str = "") -> str:
    return "" if numbers is None else opening + ",".join(map(str, numbers)) + closing


def _numbers(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part[1:].partition("-")
        start = int(part[:1] + first)
        stop = int(last) if dash else start
        if not 0 <= stop - start < _MAX_RANGE:
            raise InvalidRequest(
                "this is no range of numbers",
                asked=part,
                hint=f"The smaller one first, and at most {_MAX_RANGE} numbers",
            )
        numbers.extend(range(start, stop + 1))
    return tuple(numbers)


def _floats(text: str, whole: str) -> list[float]:
    try:
        return [float(x) for x in text.split(",")]
    except ValueError:
        raise _bad(whole, f"`{text}` is no number") from None


def _vector(numbers: list[float], text: str) -> Tensor:
    if 4 * len(numbers) > INLINE_NBYTES:
        raise _bad(text, "so many numbers do not fit the notation: use Python or a file")
    return pack(np.array(numbers, dtype=np.float32), [])


def _bad(text: str, found: str) -> InvalidRequest:
    return InvalidRequest("this is no intervention", asked=text, found=found, hint=_HINT)
