"""The look at a model as a value: what is chosen, what is selected, what is switched off.

Events go in, a new `Scene` comes out; nothing here knows of Textual, sockets or files. The part of
it that others may see is the session's state: `patch_between` says what a change means for it,
`Adopt` takes in what somebody else changed.
"""

from dataclasses import dataclass, replace
from typing import Final

from msgspec import UNSET

from circuit_client.switching import (
    NONE_SWITCHED,
    NodeId,
    Part,
    Switched,
    as_interventions,
    read_switched,
)
from circuit_protocol.interventions import Intervention
from circuit_protocol.messages import AblationKind
from circuit_protocol.session import SelectedNode, SessionPatch, SessionState

#: Changes that can be undone.
_HISTORY_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Scene:
    """One look at a model. What is None is not chosen."""

    model: str | None = None
    task: str | None = None
    #: Id of the circuit.
    circuit: str | None = None
    k: int | None = None
    node: SelectedNode | None = None
    switched: Switched = NONE_SWITCHED
    text: str | None = None
    #: What others intervene with that is no switching: passed on, not understood.
    foreign: tuple[Intervention, ...] = ()
    #: Earlier and undone switchings, the nearest last.
    past: tuple[Switched, ...] = ()
    future: tuple[Switched, ...] = ()

    @property
    def interventions(self) -> tuple[Intervention, ...]:
        """All interventions, as the session has them."""
        return (*as_interventions(self.switched), *self.foreign)


@dataclass(frozen=True, slots=True)
class Choose:
    """Another model, task or circuit. What belonged to the one before is dropped with it."""

    model: str | None = None
    task: str | None = None
    circuit: str | None = None
    k: int | None = None


@dataclass(frozen=True, slots=True)
class Select:
    """The node that is looked at."""

    node: SelectedNode | None


@dataclass(frozen=True, slots=True)
class Toggle:
    """Switch parts off, or on again if all of them are off."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Grow:
    """Have nodes in the circuit that it does not keep, or no longer if all of them were added."""

    nodes: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class UseKind:
    """What a part that is off is held at; None: what the circuit holds its other nodes at."""

    kind: AblationKind | None


@dataclass(frozen=True, slots=True)
class Mend:
    """Switch everything on again."""


@dataclass(frozen=True, slots=True)
class Undo:
    """Take the last switching back."""


@dataclass(frozen=True, slots=True)
class Redo:
    """Do again what was taken back last."""


@dataclass(frozen=True, slots=True)
class Write:
    """The text that is tried."""

    text: str | None


@dataclass(frozen=True, slots=True)
class Adopt:
    """What the shared session says."""

    state: SessionState


Event = Choose | Select | Toggle | Grow | UseKind | Mend | Undo | Redo | Write | Adopt


def step(scene: Scene, event: Event) -> Scene:
    """The look after `event`; the same object if nothing changed."""
    match event:
        case Choose():
            return _chosen(scene, event)
        case Select(node=node):
            return scene if node == scene.node else replace(scene, node=node)
        case Toggle(parts=parts):
            return _switch(scene, scene.switched.toggled(parts)) if parts else scene
        case Grow(nodes=nodes):
            return _switch(scene, scene.switched.grown(nodes)) if nodes else scene
        case UseKind(kind=kind):
            return _switch(scene, replace(scene.switched, kind=kind))
        case Mend():
            return _switch(scene, replace(scene.switched, off=frozenset(), added=frozenset()))
        case Undo() if scene.past:
            future = (*scene.future, scene.switched)
            return replace(scene, switched=scene.past[-1], past=scene.past[:-1], future=future)
        case Redo() if scene.future:
            past = (*scene.past, scene.switched)
            return replace(scene, switched=scene.future[-1], past=past, future=scene.future[:-1])
        case Write(text=text):
            return scene if text == scene.text else replace(scene, text=text)
        case Adopt(state=state):
            return _adopted(scene, state)
        case _:
            return scene


def _switch(scene: Scene, switched: Switched) -> Scene:
    if switched == scene.switched:
        return scene
    past = (*scene.past, scene.switched)[-_HISTORY_MAX:]
    return replace(scene, switched=switched, past=past, future=())


def _chosen(scene: Scene, choice: Choose) -> Scene:
    asked = (choice.model, choice.task, choice.circuit, choice.k)
    if asked == (scene.model, scene.task, scene.circuit, scene.k):
        return scene
    kept_node = scene.node if choice.model == scene.model else None
    return Scene(
        model=choice.model,
        task=choice.task,
        circuit=choice.circuit,
        k=choice.k,
        node=kept_node,
        text=scene.text,
    )


def _adopted(scene: Scene, state: SessionState) -> Scene:
    if _shared(scene) == _fields(state):
        return scene
    base = step(scene, Choose(state.model, state.task, state.circuit, state.k))
    base = replace(base, node=state.node, text=state.text)
    if base.interventions != state.interventions:
        switched, foreign = read_switched(state.interventions)
        base = replace(_switch(base, switched), foreign=foreign)
    return base


_Fields = tuple[
    str | None,
    str | None,
    str | None,
    int | None,
    SelectedNode | None,
    tuple[Intervention, ...],
    str | None,
]


def _shared(scene: Scene) -> _Fields:
    return (
        *(scene.model, scene.task, scene.circuit, scene.k, scene.node),
        *(scene.interventions, scene.text),
    )


def _fields(state: SessionState) -> _Fields:
    return (
        *(state.model, state.task, state.circuit, state.k, state.node),
        *(state.interventions, state.text),
    )


def patch_between(before: Scene, after: Scene) -> SessionPatch | None:
    """What a change of the look means for the shared session; None if nothing."""
    if _shared(before) == _shared(after):
        return None
    return SessionPatch(
        model=UNSET if before.model == after.model else after.model,
        task=UNSET if before.task == after.task else after.task,
        circuit=UNSET if before.circuit == after.circuit else after.circuit,
        k=UNSET if before.k == after.k else after.k,
        node=UNSET if before.node == after.node else after.node,
        interventions=(
            UNSET if before.interventions == after.interventions else after.interventions
        ),
        text=UNSET if before.text == after.text else after.text,
    )
