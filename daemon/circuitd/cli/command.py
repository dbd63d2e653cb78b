"""Commands whose help ends with examples, printed line by line as they were written."""

from collections.abc import Sequence
from typing import Any

import click


class _WithExamples(click.Command):
    """What commands and groups share: the section of examples."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples, unwrapped: they are there to be copied."""
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{example}\n")


class Command(_WithExamples):
    """A command: `@click.command(cls=Command, examples=[...])`."""


class Group(_WithExamples, click.Group):
    """A group of commands: `@click.group(cls=Group, examples=[...])`."""

    command_class = Command
