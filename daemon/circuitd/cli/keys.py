"""`circuitd keys`: who may connect over TCP. The local socket needs no keys."""

import sys
from pathlib import Path

import click

from circuitd.cli.command import Command, Group


class _TakesKey(Command):
    """One of whose arguments is a key, which may begin with a dash as options do."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """A key is never an option."""
        from circuit_protocol.keys import KEY_LENGTH

        keys = [arg for arg in args if arg.startswith("-") and len(arg) == KEY_LENGTH]
        if keys and "--" not in args:
            args = [*(arg for arg in args if arg not in keys), "--", *keys]
        return super().parse_args(ctx, args)


@click.group(
    cls=Group,
    examples=[
        "# On the daemon's machine",
        "circuitd keys server                       prints the public key clients must know",
        "circuitd keys allow '<client key>' --name laptop",
        "circuitd restart --listen tcp://0.0.0.0:7341",
        "# On the laptop",
        "circuitd keys client                       prints the public key to allow",
    ],
)
def keys() -> None:
    """Make and manage the CURVE keys of TCP connections.

    The daemon has a key, each client has one, and the daemon lets in the clients on its list. A
    secret never leaves its machine; only public keys are passed on. (Over `ssh -L` no keys are
    needed.)
    """


@keys.command(
    examples=[
        "circuitd keys server",
        "circuitd keys server --new",
    ],
)
@click.option("--new", is_flag=True, help="Replace the key: clients must learn the new one")
def server(new: bool) -> None:
    """Print the daemon's public key; make the key if there is none."""
    _show_or_make("server", new)


@keys.command(
    examples=[
        "circuitd keys client",
        "circuitd keys client gpu-box",
    ],
)
@click.argument("name", default="client")
@click.option("--new", is_flag=True, help="Replace the key: daemons must allow the new one")
def client(name: str, new: bool) -> None:
    """Print a client's public key; make the key if there is none.

    NAME "client" is the key that clients of this user take by themselves.
    """
    if name in ("server", "allowed"):
        raise click.BadParameter(f"{name!r} is the daemon's own", param_hint="NAME")
    _show_or_make(name, new)


@keys.command(
    cls=_TakesKey,
    examples=[
        "circuitd keys allow '<40 characters>' --name laptop",
        "circuitd keys allow client.public --name ana@laptop",
    ],
)
@click.argument("key")
@click.option("--name", required=True, help="Who this is, for the list and for revoking")
def allow(key: str, name: str) -> None:
    """Let a client in. KEY is its public key, or a file that holds it.

    It counts from the next connection on; no restart is needed.
    """
    from circuit_protocol.keys import allow_client, fingerprint, parse_key

    file = Path(key)
    public = (
        parse_key(file.read_text("ascii", "replace"), key) if file.is_file() else parse_key(key)
    )
    allow_client(name, public, _directory())
    click.echo(f"{name} may connect; fingerprint {fingerprint(public)}", err=True)


@keys.command(
    "list",
    examples=[
        "circuitd keys list",
        "circuitd keys list --json",
    ],
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document")
def list_keys(as_json: bool) -> None:
    """List the clients that may connect."""
    from circuit_protocol.keys import allowed_clients, fingerprint
    from circuitd.cli import text

    clients = sorted((name, key) for key, name in allowed_clients(_directory()).items())
    if as_json:
        text.echo_json(
            [{"name": n, "public_key": k, "fingerprint": fingerprint(k)} for n, k in clients]
        )
    elif clients:
        rows = [(name, key, fingerprint(key)) for name, key in clients]
        click.echo(text.table(("NAME", "PUBLIC KEY", "FINGERPRINT"), rows))
    else:
        click.echo("no client may connect over TCP yet: circuitd keys allow --help", err=True)


@keys.command(
    examples=[
        "circuitd keys revoke laptop",
    ],
)
@click.argument("name")
def revoke(name: str) -> None:
    """Take a client off the list. Connections it has open end when the daemon restarts."""
    from circuit_protocol.keys import disallow_client

    disallow_client(name, _directory())
    click.echo(f"{name} may no longer connect", err=True)


def _show_or_make(name: str, new: bool) -> None:
    from circuit_protocol.keys import ensure_key_pair, fingerprint, make_key_pair

    pair = (
        make_key_pair(name, _directory(), replace=True)
        if new
        else ensure_key_pair(name, _directory())
    )
    click.echo(f"fingerprint {fingerprint(pair.public)}, in {_directory()}", err=True)
    click.echo(pair.public)
    if sys.stdout.isatty():
        click.echo("This is the public half: pass it on. The secret stays here.", err=True)


def _directory() -> Path:
    from circuitd.settings import load_settings

    return Path(load_settings().keys_dir)
