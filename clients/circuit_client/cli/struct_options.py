"""Settings structs on the command line: one option for each field, so that none is forgotten."""

import functools
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import click
import msgspec

from circuit_client.cli.command import SettingOption

F = TypeVar("F", bound=Callable[..., Any])
StructT = TypeVar("StructT", bound=msgspec.Struct)


class _NumberOrNone(click.ParamType):
    """A number, or `none` where the field may be None."""

    name = "number|none"

    def __init__(self, number: type) -> None:
        self.number = number

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number; the word `none` stays, for `read_struct` to understand."""
        if value == "none" or isinstance(value, self.number):
            return value
        try:
            return self.number(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor `none`.", param, ctx)


def struct_options(
    struct: type[msgspec.Struct], helps: Mapping[str, str], *, prefix: str = ""
) -> Callable[[F], F]:
    """Options for every field of `struct`, in its order; the defaults are the struct's own."""

    def decorate(body: F) -> F:
        hints = get_type_hints(struct, include_extras=True)
        for field in reversed(msgspec.structs.fields(struct)):
            flag = f"--{prefix}{field.name.replace('_', '-')}"
            words = helps.get(field.name, "See the protocol's page.")
            body = _option(flag, prefix + field.name, hints[field.name], field.default, words)(body)
        return body

    return decorate


def read_struct(struct: type[StructT], options: dict[str, Any], *, prefix: str = "") -> StructT:
    """Take the struct's options out of `options`. Raises UsageError where a value is refused."""
    given: dict[str, Any] = {}
    for field in msgspec.structs.fields(struct):
        value = options.pop(prefix + field.name)
        if value is not None and value != ():
            given[field.name] = None if value == "none" else value
    try:
        return msgspec.convert(given, struct)
    except msgspec.ValidationError as e:
        problem, _, where = str(e).partition(" - at `$.")
        name = f"--{prefix}{where.rstrip('`').replace('_', '-')}: " if where else ""
        raise click.UsageError(f"{name}{problem}") from None


_setting = functools.partial(click.option, cls=SettingOption)


def _option(flag: str, name: str, hint: Any, default: Any, words: str) -> Callable[[F], F]:
    """No option has a default of its own: what is not given is left to the struct."""
    shown = "none" if default is None else default
    words = words if default in ((), "") else f"{words}  [default: {shown}]"
    plain = _plain(hint)
    if plain is bool:
        return _setting(f"{flag}/--no-{flag[2:]}", name, default=None, help=words)
    if get_origin(plain) is tuple:
        kind = _click_type(get_args(plain)[0])
        return _setting(flag, name, multiple=True, type=kind, help=words)
    return _setting(flag, name, type=_click_type(hint), default=None, help=words)


def _plain(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _click_type(hint: Any) -> Any:
    plain = _plain(hint)
    if get_origin(plain) is Literal:
        return click.Choice(list(get_args(plain)))
    if get_origin(plain) in (Union, types.UnionType):
        members = [_plain(m) for m in get_args(plain) if m is not type(None)]
        return _NumberOrNone(members[0])
    return plain
