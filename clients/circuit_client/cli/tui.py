"""`circuit tui`: the terminal UI."""

import importlib.util
from pathlib import Path

import click

from circuit_client.cli.command import Command, Settings
from circuit_protocol.errors import InvalidRequest

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(
    "tui",
    cls=Command,
    examples=[
        "circuit tui",
        "circuit tui single_double_quote/shipped/34",
        "circuit tui --session mine --color truecolor",
        "circuit tui --ascii --calm",
    ],
)
@click.argument("circuit", required=False)
@click.option("--session", default="tui", show_default=True, metavar="NAME",
              help="The shared look to join: who is in it moves together.")  # fmt: skip
@click.option("--calm", is_flag=True, help="No animation and few updates, for slow lines.")
@click.option("--theme", metavar="NAME", help="circuit-dark, circuit-light, "
              "circuit-high-contrast, or one of Textual's.")  # fmt: skip
@click.option("--keys", type=_FILE, metavar="FILE", help="Other keys, as TOML.")
@click.option("--replay", type=_FILE, metavar="FILE",
              help="Play a recorded session; no daemon is needed.")  # fmt: skip
@click.option("--record", type=_FILE, metavar="FILE", help="Record what the daemon says.")
@click.pass_context
def tui(
    ctx: click.Context,
    circuit: str | None,
    session: str,
    calm: bool,
    theme: str | None,
    keys: Path | None,
    replay: Path | None,
    record: Path | None,
) -> int:
    """Look inside a model from the terminal: circuits, nodes, heatmaps, live.

    CIRCUIT opens one at once. `?` inside says what every screen shows and which keys work there.
    """
    if importlib.util.find_spec("textual") is None:
        raise InvalidRequest(
            "the terminal UI is not installed", hint="`pip install 'circuitd[tui]'` adds it"
        )
    from circuit_tui.options import Options
    from circuit_tui.run import run

    common = ctx.ensure_object(Settings)
    color = {"never": "none", "always": "auto"}.get(common.colors, common.colors)
    options = Options(
        endpoint=common.endpoint,
        key=common.key,
        server_key=common.server_key,
        session=session,
        circuit=circuit,
        ascii=common.ascii_only,
        calm=calm,
        color=color,  # pyright: ignore[reportArgumentType]  # click checked the choice
        theme=theme,
        keys=keys,
        replay=replay,
        record=record,
    )
    return run(options)
