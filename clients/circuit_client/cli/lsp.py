"""`circuit lsp`: the language server."""

import importlib.util

import click

from circuit_client.cli.command import Command, Settings

_MISSING = "The language server needs pygls: pip install 'circuitd[lsp]'"


@click.command(
    "lsp",
    cls=Command,
    examples=["circuit lsp", "circuit lsp --tcp 127.0.0.1:7717 --log-level info"],
)
@click.option("--tcp", metavar="HOST:PORT",
              help="Listen here instead of using stdin and stdout; this machine only.")  # fmt: skip
@click.option("--stdio", is_flag=True, expose_value=False,
              help="Use stdin and stdout: the default; many editors say so.")  # fmt: skip
@click.option("--log-level", type=click.Choice(["error", "warning", "info", "debug"]),
              default="warning", show_default=True, help="What goes to stderr.")  # fmt: skip
@click.pass_obj
def lsp(settings: Settings, tcp: str | None, log_level: str) -> None:
    """Run the language server for editors.

    It speaks LSP over stdin and stdout; the editor starts it. Where the daemon is, the editor's
    settings say, else these options. It starts no daemon unless the settings say so.
    """
    if importlib.util.find_spec("pygls") is None:
        raise click.ClickException(_MISSING)
    from circuit_lsp import main, messages

    defaults = messages.Settings(
        endpoint=settings.endpoint, key=settings.key, server_key=settings.server_key
    )
    main.run(tcp=tcp, log_level=log_level, defaults=defaults)
