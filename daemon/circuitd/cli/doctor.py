"""`circuitd doctor`: every check, one line each, with what to do where something is wrong."""

import sys
from typing import TYPE_CHECKING, Final

import click

from circuitd.cli.command import Command

if TYPE_CHECKING:
    from circuitd.cli.checks import Check

_COLOURS: Final = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command(cls=Command, examples=["circuitd doctor", "circuitd doctor --json"])
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document")
def doctor(as_json: bool) -> None:
    """Check everything the daemon needs: packages, devices, directories, room, leftovers.

    Exit code 1 if something would keep the daemon from working.
    """
    from circuitd.cli.checks import Check, run_checks
    from circuitd.cli.text import echo_json
    from circuitd.settings import SettingsError, load_settings

    done: list[Check] = []
    try:
        settings = load_settings()
    except SettingsError as error:
        done.append(
            Check(
                name="settings",
                verdict="fail",
                found=str(error),
                advice="Correct it; `circuitd serve --print-config` shows what is in force",
            )
        )
        if not as_json:
            _echo(done[0])
    else:
        for check in run_checks(settings):
            done.append(check)
            if not as_json:
                _echo(check)
    if as_json:
        echo_json(done)
    failures = sum(check.verdict == "fail" for check in done)
    warnings = sum(check.verdict == "warn" for check in done)
    if not as_json:
        click.echo(f"\n{failures} to mend, {warnings} to know of, {len(done)} looked at", err=True)
    if failures:
        sys.exit(1)


def _echo(check: "Check") -> None:
    verdict = click.style(f"{check.verdict:4}", fg=_COLOURS[check.verdict])
    click.echo(f"{verdict}  {check.name:18} {check.found}")
    if check.advice:
        click.echo(f"{'':24} -> {check.advice}")
