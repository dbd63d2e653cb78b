"""The root of the command line: which command is in which module, and what errors exit with."""

import importlib
import os
import sys
import traceback
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from circuit_client.cli.command import Command, Settings, common_options

if TYPE_CHECKING:
    from circuit_protocol.errors import CircuitError

EXIT_DAEMON: Final = 1
EXIT_CALLER: Final = 2
EXIT_INTERRUPTED: Final = 130


class Entry(NamedTuple):
    """A command that is imported when it is used: its module, and the line help shows for it."""

    module: str
    help: str


#: The commands in the order of the help. A test compares each line with the command's own.
COMMANDS: Final[dict[str, Entry]] = {
    "tui": Entry("tui", "Look inside a model from the terminal: circuits, nodes, heatmaps, live."),
    "status": Entry("status", "How the daemon does: processes, queues, memory, models."),
    "models": Entry("models", "What models there are, and which are resident."),
    "tasks": Entry("tasks", "Tasks, and how well a model does them."),
    "tokenize": Entry("tokenize", "Show the tokens of a text."),
    "forward": Entry("forward", "Run text and show the loss of every token."),
    "generate": Entry("generate", "Continue a text."),
    "hook": Entry("hook", "Record activations and show them on the tokens."),
    "ablate": Entry("ablate", "Ablate nodes, heads, layers or sites and see what breaks."),
    "prune": Entry(
        "prune",
        "Find a task's circuit: the few nodes that do it while all others are held at their means.",
    ),
    "verify": Entry(
        "verify",
        "Put a circuit to its controls and print its card: whether to believe it, and why.",
    ),
    "circuits": Entry(
        "circuits", "Circuits that were found: list, draw, compare, change, export, import."
    ),
    "cache": Entry("cache", "What the daemon remembers."),
    "sessions": Entry("sessions", "Looks at a model that several clients share."),
    "jobs": Entry("jobs", "Work that survives clients and daemons."),
    "lsp": Entry("lsp", "Run the language server for editors."),
    "completion": Entry("completion", "Print the script that completes commands in a shell."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used, so that `--help` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module = importlib.import_module(f"circuit_client.cli.{entry.module}")
        return getattr(module, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command named; UsageError with the nearest name if there is none."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean `{near[0]}`?" if near else ""
            ctx.fail(f"There is no command `{args[0]}`.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of commands, without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """What the exit codes mean."""
        formatter.write_paragraph()
        formatter.write_text(
            "Exit codes: 0 done; 1 the daemon is out of reach, busy or at fault; "
            "2 the request is at fault; 130 interrupted. `verify` adds: 3 not supported; "
            "4 it depends."
        )


@click.group(
    cls=LazyGroup,
    params=common_options(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="circuitd", prog_name="circuit")
def circuit() -> None:
    """Ask a circuitd daemon about circuits inside weight-sparse transformers.

    Without --endpoint, the daemon that runs here for you is asked; if there is none, one is
    started.
    """


def run(arguments: list[str]) -> int:
    """Carry out one command line; its exit code."""
    settings = Settings()
    try:
        outcome = circuit.main(arguments, prog_name="circuit", standalone_mode=False, obj=settings)
        sys.stdout.flush()
        return outcome if isinstance(outcome, int) else 0
    except click.ClickException as e:
        e.show()
        return e.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("circuit: interrupted", err=True)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has read enough (`| head`); keep the interpreter from complaining.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as e:
        error = _as_circuit_error(e)
        if settings.debug or error is None:
            traceback.print_exc()
        if error is None:
            return EXIT_DAEMON
        for line in describe(error):
            click.echo(line, err=True)
        return exit_code(error)


def _as_circuit_error(error: Exception) -> "CircuitError | None":
    """What to say of `error`; None for a defect of this program, which keeps its traceback."""
    from circuit_protocol.errors import CircuitError, InvalidRequest, NotFound, StorageFull

    match error:
        case CircuitError():
            return error
        case UnicodeDecodeError():
            return InvalidRequest(
                "this is no text in UTF-8", found=f"{error.reason}, {_near(error)}"
            )
        case FileNotFoundError():
            return NotFound("there is no such file", asked=str(error.filename))
        case OSError(filename=str() as name):
            return StorageFull("a file cannot be used", asked=name, found=error.strerror)
        case _:
            return None


def _near(error: UnicodeDecodeError) -> str:
    """Where the bytes are that are no text."""
    return f"{error.object[error.start : error.end]!r} at byte {error.start}"


def describe(error: "CircuitError") -> list[str]:
    """An error as lines for a person: the sentence, what was asked, found, near, and what to do."""
    lines = [f"circuit: {error.message}"]
    if error.asked is not None:
        lines.append(f"  asked    {error.asked}")
    if error.found is not None:
        lines.append(f"  found    {error.found}")
    if error.nearest:
        lines.append(f"  nearest  {', '.join(error.nearest)}")
    if error.retry_after_s is not None:
        lines.append(f"  retry    in {error.retry_after_s:g} s")
    if error.hint is not None:
        lines.append(f"  hint     {error.hint}")
    return lines


def exit_code(error: "CircuitError") -> int:
    """2 for the caller's errors, else 1."""
    return EXIT_CALLER if error.blame == "caller" else EXIT_DAEMON


__all__ = ["COMMANDS", "Command", "circuit", "run"]
