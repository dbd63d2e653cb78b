"""What all commands have in common: where the daemon is, how to print, examples in the help."""

import functools
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from circuit_client.cli.output import Output
    from circuit_client.sync import Connection


@dataclass
class Settings:
    """The options that may stand before or after any command."""

    endpoint: str | None = None
    key: str | None = None
    server_key: str | None = None
    start: bool = True
    json: bool = False
    color: str = "auto"
    ascii: bool = False
    plain: bool = False
    debug: bool = False

    @property
    def colors(self) -> str:
        """The choice of colours, which `--plain` has the last word on."""
        return "never" if self.plain else self.color

    @property
    def ascii_only(self) -> bool:
        """Whether nothing beyond ASCII may be printed."""
        return self.ascii or self.plain

    def connect(self) -> "Connection":
        """Connect as these options say."""
        from circuit_client.connecting import connect

        return connect(
            self.endpoint,
            key=self.key,
            server_key=self.server_key,
            start=self.start,
            client="circuit",
        )

    def output(self) -> "Output":
        """Where this command's data and narration go."""
        from circuit_client.cli.output import Output

        return Output.for_terminal(
            sys.stdout,
            sys.stderr,
            os.environ,
            json=self.json,
            color=self.colors,
            ascii_only=self.ascii_only,
        )


#: Of the common options' names inside click, so that a command's own argument may be called "key".
_PREFIX = "common_"


def _store(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Keep an option for the whole command line; the one nearest to the command wins."""
    settings = ctx.ensure_object(Settings)
    name = param.name or ""
    given = ctx.get_parameter_source(name)
    if given is not None and given.name == "COMMANDLINE":
        setattr(settings, name.removeprefix(_PREFIX), value)


def common_options() -> list[click.Parameter]:
    """Fresh copies of the options every command takes."""

    def option(flag: str, **attributes: Any) -> click.Option:
        name = _PREFIX + flag.partition("/")[0].removeprefix("--").replace("-", "_")
        return click.Option([flag, name], expose_value=False, callback=_store, **attributes)

    return [
        option(
            "--endpoint",
            metavar="ADDRESS",
            help="ipc://PATH or tcp://HOST:PORT; else $CIRCUIT_ENDPOINT, else the local daemon.",
        ),
        option("--key", metavar="FILE", help="This client's secret key, for TCP."),
        option("--server-key", metavar="KEY", help="The daemon's public key (text or file)."),
        option("--start/--no-start", default=True, help="Start a daemon if none runs here."),
        option("--json", is_flag=True, help="Print JSON: a document, or a line per event."),
        option(
            "--color",
            type=click.Choice(["auto", "always", "never", "truecolor", "256", "16"]),
            default="auto",
            help="Colours; auto heeds NO_COLOR, TERM and COLORTERM.",
        ),
        option("--ascii", is_flag=True, help="Print nothing beyond ASCII."),
        option("--plain", is_flag=True, help="Both: no colours, and nothing beyond ASCII."),
        option("--debug", is_flag=True, help="Show the traceback of an error."),
    ]


class SettingOption(click.Option):
    """An option that sets one field of a settings struct: help shows these by themselves."""


class Command(click.Command):
    """A command with the common options at the end of its help, and examples below."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.own_params = list(self.params)
        self.params = [*self.params, *common_options()]
        #: Command lines as a person would type them; a test parses each.
        self.examples = tuple(examples)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The command's own options, its settings, then the options that all commands have."""
        sections: dict[str, list[tuple[str, str]]] = {
            "Options": [], "Settings": [], "Options of every command": []
        }  # fmt: skip
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                is_setting = isinstance(param, SettingOption)
                own = "Settings" if is_setting else "Options"
                sections[own if param in self.own_params else "Options of every command"].append(
                    record
                )
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples."""
        super().format_epilog(ctx, formatter)
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


def command(
    name: str, *, examples: Sequence[str]
) -> Callable[[Callable[..., int | None]], Command]:
    """Make a command of a function of a connection, an output and its own options."""

    def decorate(body: Callable[..., int | None]) -> Command:
        @functools.wraps(body)
        @click.pass_context
        def connected(ctx: click.Context, /, **params: Any) -> int | None:
            settings = ctx.ensure_object(Settings)
            out = settings.output()
            with settings.connect() as c:
                return body(c, out, **params)

        return click.command(name, cls=Command, examples=examples)(connected)

    return decorate


class Group(click.Group):
    """A group of commands; a wrong name offers the nearest."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command named; UsageError with the nearest name if there is none."""
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            from difflib import get_close_matches

            near = get_close_matches(args[0], self.commands, n=1)
            known = ", ".join(self.commands)
            hint = f"Did you mean `{near[0]}`?" if near else f"There are: {known}."
            ctx.fail(f"There is no command `{ctx.command_path} {args[0]}`. {hint}")
        return super().resolve_command(ctx, args)


def group(name: str) -> Callable[[Callable[..., None]], Group]:
    """Make a group of commands."""

    def decorate(body: Callable[..., None]) -> Group:
        made = click.group(name, cls=Group)(body)
        made.params.extend(common_options())
        return made

    return decorate
