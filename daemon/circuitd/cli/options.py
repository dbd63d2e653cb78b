"""The options by which a daemon is told its settings: the same for serve, start and restart."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        help="Configuration file  [default: $XDG_CONFIG_HOME/circuitd/config.toml]",
    ),
    click.option(
        "--device",
        "devices",
        multiple=True,
        metavar="DEVICE",
        help="cpu, cuda, cuda:1; may be repeated  [default: every GPU, else cpu]",
    ),
    click.option(
        "--memory-budget",
        "memory_budget_nbytes",
        metavar="SIZE",
        help="Bytes of models and caches per device, like 12GiB  [default: 60 %]",
    ),
    click.option(
        "--keep-alive",
        "keep_alive_s",
        metavar="SECONDS",
        help="How long a model stays after its last request; negative: for ever  [default: 300]",
    ),
    click.option(
        "--listen",
        multiple=True,
        metavar="tcp://HOST:PORT",
        help="Listen there, too, for clients with an allowed key (see circuitd keys)",
    ),
    click.option(
        "--offline", is_flag=True, default=None, help="Never fetch anything from the network"
    ),
    click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        help="[default: info]",
    ),
    click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="KEY=VALUE",
        help="Any other setting: see circuitd serve --print-config",
    ),
)


def daemon_options(command: F) -> F:
    """Give a command all options of a daemon."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def flags_from_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """What `load_settings` calls flags, from the options' values."""
    flags = {
        key: value
        for key, value in options.items()
        if key not in ("config_path", "assignments") and value not in (None, ())
    }
    for assignment in options["assignments"]:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise click.BadParameter(f"{assignment!r} is not KEY=VALUE", param_hint="--set")
        flags[key.strip()] = value
    return flags


def to_arguments(options: Mapping[str, Any]) -> Iterator[str]:
    """The same options as arguments for another process."""
    if options["config_path"] is not None:
        yield from ("--config", str(options["config_path"].absolute()))
    for key, value in flags_from_options(options).items():
        for item in value if isinstance(value, tuple) else (value,):
            if key in ("devices", "listen"):
                yield from ("--device" if key == "devices" else "--listen", item)
            else:
                yield from ("--set", f"{key}={str(item).lower() if item is True else item}")
