"""The shared state of one look at a model: what a TUI, an editor and a script see together."""

import msgspec
from msgspec import UNSET, UnsetType

from circuit_protocol.interventions import Intervention


class SelectedNode(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One node: a channel of a site."""

    site: str
    channel: int


class SessionState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A session at one revision. Every change makes the next revision."""

    name: str
    revision: int = 0
    model: str | None = None
    task: str | None = None
    circuit: str | None = None
    k: int | None = None
    node: SelectedNode | None = None
    interventions: tuple[Intervention, ...] = ()
    text: str | None = None


class SessionPatch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The fields to change; a field left out stays, `null` empties it."""

    model: str | UnsetType | None = UNSET
    task: str | UnsetType | None = UNSET
    circuit: str | UnsetType | None = UNSET
    k: int | UnsetType | None = UNSET
    node: SelectedNode | UnsetType | None = UNSET
    interventions: tuple[Intervention, ...] | UnsetType = UNSET
    text: str | UnsetType | None = UNSET
