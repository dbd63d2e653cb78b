"""`circuit cache`."""

from typing import Any, get_args

import click

from circuit_client.cli.command import command, group
from circuit_client.cli.output import Output, sentence
from circuit_client.render.style import Line, Span
from circuit_client.render.table import Column, duration, nbytes, table
from circuit_client.sync import Connection
from circuit_protocol.replies import CacheEntry, CacheFreed, CacheKindStats
from circuit_protocol.requests import CacheKind

_KINDS = click.Choice(get_args(CacheKind))
_kind = click.argument("kind", type=_KINDS)


@group("cache")
def cache() -> None:
    """What the daemon remembers."""


@command("stats", examples=["circuit cache stats"])
def stats(c: Connection, out: Output) -> None:
    """Entries, bytes, budget, hits and misses of each kind."""
    kinds = c.cache.stats()
    out.give({"kinds": kinds}, lambda: _stats_lines(kinds, out))


def _stats_lines(kinds: tuple[CacheKindStats, ...], out: Output) -> list[Line]:
    columns = [
        Column("kind"),
        Column("entries", "right"),
        Column("memory", "right"),
        Column("budget", "right"),
        Column("on disk", "right"),
        Column("hits", "right"),
        Column("misses", "right"),
        Column("hit rate", "right"),
        Column("evicted", "right"),
    ]
    rows = []
    for k in kinds:
        asked = k.hits + k.misses
        rows.append(
            (
                k.kind,
                str(k.entries),
                nbytes(k.nbytes),
                nbytes(k.budget_nbytes),
                nbytes(k.disk_nbytes),
                str(k.hits),
                str(k.misses),
                f"{k.hits / asked:.0%}" if asked else "",
                str(k.evictions),
            )
        )
    return table(columns, rows, width_max=out.columns)


@command("list", examples=["circuit cache list results", "circuit cache list activations --json"])
@_kind
@click.option("--limit", type=int, default=100, show_default=True, help="Entries at most.")
def list_entries(c: Connection, out: Output, kind: Any, limit: int) -> None:
    """Entries of one kind, most recently used first."""
    entries = c.cache.list(kind, limit=limit)
    out.give({"kind": kind, "entries": entries}, lambda: _entry_lines(entries, out))


def _entry_lines(entries: tuple[CacheEntry, ...], out: Output) -> list[Line]:
    if not entries:
        return sentence("nothing")
    columns = [
        Column("key", shrink=True),
        Column("size", "right"),
        Column("hits", "right"),
        Column("age", "right"),
        Column(""),
        Column("what", shrink=True),
    ]
    rows = [
        (
            e.key,
            nbytes(e.nbytes),
            str(e.hits),
            duration(e.age_s),
            Span("pinned", color="note") if e.pinned else "",
            e.description,
        )
        for e in entries
    ]
    return table(columns, rows, width_max=out.columns)


@command("pin", examples=["circuit cache pin results 3f9a", "circuit cache pin results 3f9a --off"])
@_kind
@click.argument("key")
@click.option("--off", is_flag=True, help="Undo it.")
def pin(c: Connection, out: Output, kind: Any, key: str, off: bool) -> None:
    """Exempt an entry from eviction."""
    changed = c.cache.pin(kind, key, pinned=not off)
    out.give(
        {"pinned": not off, "changed": changed},
        lambda: sentence("no longer pinned" if off else "pinned"),
    )


@command("evict", examples=["circuit cache evict activations 3f9a"])
@_kind
@click.argument("key")
def evict(c: Connection, out: Output, kind: Any, key: str) -> None:
    """Drop one entry."""
    freed = c.cache.evict(kind, key)
    out.give(freed, lambda: _freed(freed))


@command("clear", examples=["circuit cache clear", "circuit cache clear results"])
@click.argument("kind", type=_KINDS, required=False)
def clear(c: Connection, out: Output, kind: Any) -> None:
    """Drop every unpinned entry of a kind, or of all kinds."""
    freed = c.cache.clear(kind)
    out.give(freed, lambda: _freed(freed))


def _freed(freed: CacheFreed) -> list[Line]:
    return sentence(f"{freed.entries} entries dropped, {nbytes(freed.nbytes)} freed")


for _command in (stats, list_entries, pin, evict, clear):
    cache.add_command(_command)
