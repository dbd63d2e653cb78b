"""The command `circuitd`: runs the daemon and looks after it.

A subcommand's module is imported when it is used, so that `circuitd --help` costs a few tens of
milliseconds and only `serve` and `doctor` ever come near torch.

Exit codes: 0 done; 1 it failed, and standard error says why; 2 the command line was wrong;
3 no daemon runs.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final, NamedTuple

import click

from circuitd.cli.command import Group

#: Said by commands that need a daemon when none runs (as `systemctl status` does).
NOT_RUNNING: Final = 3


class _Command(NamedTuple):
    """A subcommand before it is imported: where it is, and its line in the list."""

    module: str
    summary: str


_COMMANDS: Final = {
    "serve": _Command("serve", "Run the daemon in the foreground."),
    "start": _Command(
        "lifecycle", "Start the daemon in the background and wait until it is ready."
    ),
    "stop": _Command("lifecycle", "End the daemon when its work is done."),
    "restart": _Command("lifecycle", "Stop the daemon, then start it."),
    "status": _Command("status", "Say whether the daemon runs, and how it does."),
    "ps": _Command("status", "List resident models and the daemon's processes."),
    "logs": _Command("logs", "Show the daemon's log."),
    "doctor": _Command("doctor", "Check everything the daemon needs, and say what to do."),
    "keys": _Command("keys", "Make and manage the keys of TCP connections."),
}


class _Commands(Group):
    """The subcommands, imported one at a time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of one command."""
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"circuitd.cli.{_COMMANDS[cmd_name].module}")
        return getattr(module, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list without importing what it lists."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, c.summary) for name, c in _COMMANDS.items()])


@click.group(
    "circuitd",
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    examples=[
        "circuitd start                        in the background; again: says that it runs",
        "circuitd serve --log-level debug      in the foreground",
        "circuitd status --json | jq .queued",
        "circuitd doctor                       when something does not work",
        "# Shell completion, for bash (zsh and fish alike)",
        'eval "$(_CIRCUITD_COMPLETE=bash_source circuitd)"',
    ],
)
@click.version_option(package_name="circuitd", message="%(prog)s %(version)s")
def circuitd() -> None:
    """A resident daemon for circuits in transformers.

    It keeps models in memory and answers forward, hook, ablate and cache requests; `circuit` is
    the command that asks. One daemon runs per user (per $CIRCUITD_RUNTIME_DIR).
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends the process by SystemExit."""
    from circuit_protocol.errors import CircuitError

    try:
        circuitd.main(args=None if arguments is None else list(arguments), prog_name="circuitd")
    except CircuitError as error:
        click.echo(f"circuitd: {error}", err=True)
        sys.exit(1)
