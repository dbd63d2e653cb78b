"""`circuit completion`."""

import click
from click.shell_completion import get_completion_class

from circuit_client.cli.command import Command

_INSTALL = {
    "bash": 'eval "$(circuit completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(circuit completion zsh)"    # in ~/.zshrc',
    "fish": "circuit completion fish | source     # in ~/.config/fish/config.fish",
}


@click.command(
    "completion",
    cls=Command,
    examples=["circuit completion bash", 'eval "$(circuit completion bash)"'],
)
@click.argument("shell", type=click.Choice(list(_INSTALL)))
def completion(shell: str) -> None:
    """Print the script that completes commands in a shell.

    Names of models, tasks and sites are completed, too, while a daemon runs.
    """
    from circuit_client.cli.app import circuit

    script = get_completion_class(shell)
    assert script is not None  # click has all the shells offered here
    click.echo(script(circuit, {}, "circuit", "_CIRCUIT_COMPLETE").source())
    click.echo(f"# {_INSTALL[shell]}")
