"""The settings of a run as a form fills them in: text in, a request (or a sentence) out."""

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from circuit_client.call import Call
from circuit_client.verbs.prune import prune
from circuit_client.verbs.verify import verify
from circuit_protocol.circuits import Method, PruneSettings, VerifySettings
from circuit_protocol.errors import InvalidRequest
from circuit_protocol.messages import AblationKind
from circuit_tui.state import Scene

Kind = Literal["prune", "verify"]


@dataclass(frozen=True, slots=True)
class Field:
    """A line of the form: its name, what it begins with, and what may be written."""

    name: str
    text: str
    hint: str


def fields(kind: Kind, scene: Scene) -> tuple[Field, ...]:
    """The form of a kind of run, filled in for what is looked at."""
    if kind == "verify":
        usual = VerifySettings()
        return (
            Field("circuit", scene.circuit or "", "an id, or task/sweep/label"),
            Field("pairs", str(usual.n_pairs), "held-out pairs per control"),
            Field("random circuits", str(usual.n_random_circuits), "of equal size"),
            Field("other seeds", str(usual.n_seeds), "fresh prunes"),
            Field("null runs", str(usual.n_null_runs), "fresh prunes on nonsense"),
        )
    steps = PruneSettings()
    return (
        Field("tasks", scene.task or "", "names, comma between them"),
        Field("target losses", "0.15", "nats per side; several make a sweep"),
        Field("sizes k", "", "numbers of nodes, instead of or beside targets"),
        Field("seeds", "0", "several make a run each"),
        Field("method", "learned", ", ".join(get_args(Method))),
        Field("ablation", "mean", ", ".join(get_args(AblationKind))),
        Field("steps", str(steps.n_steps), "of learning"),
        Field("k_coef", f"{steps.k_coef:g}", "what an open gate costs"),
        Field("sweep", "", "the folder it is stored in; empty: named by its settings"),
    )


def request(kind: Kind, scene: Scene, given: dict[str, str]) -> Call[Any, Any]:
    """The request that a filled-in form means. Raises InvalidRequest for what it cannot mean."""
    if kind == "verify":
        if not given["circuit"].strip():
            raise InvalidRequest("which circuit is to be verified?", hint="Give its id")
        settings = VerifySettings(
            n_pairs=_number("pairs", given, 8),
            n_random_circuits=_number("random circuits", given, 1),
            n_seeds=_number("other seeds", given, 1),
            n_null_runs=_number("null runs", given, 1),
        )
        model = scene.model if given["circuit"].strip() == scene.circuit else None
        return verify(given["circuit"].strip(), model, settings=settings)
    tasks = _listed(given["tasks"])
    if not tasks:
        raise InvalidRequest("which task is a circuit wanted for?", hint="Name one, or several")
    return prune(
        scene.model,
        tasks=tasks,
        target_losses=[_real("target losses", x) for x in _listed(given["target losses"])],
        ks=[_whole("sizes k", x) for x in _listed(given["sizes k"])],
        seeds=[_whole("seeds", x) for x in _listed(given["seeds"])] or [0],
        method=_one_of("method", given, get_args(Method)),
        ablation=_one_of("ablation", given, get_args(AblationKind)),
        settings=PruneSettings(
            n_steps=_number("steps", given, 1), k_coef=_real("k_coef", given["k_coef"].strip())
        ),
        sweep=given["sweep"].strip() or None,
    )


_SEPARATORS: Final = str.maketrans(",;", "  ")


def _listed(text: str) -> list[str]:
    return text.translate(_SEPARATORS).split()


def _real(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e3:
        raise InvalidRequest(f"{name}: this is no number of that kind", found=text or "nothing")
    return value


def _whole(name: str, text: str) -> int:
    if not text.isdecimal():
        raise InvalidRequest(f"{name}: whole numbers, please", found=text or "nothing")
    return int(text)


def _number(name: str, given: dict[str, str], least: int) -> int:
    value = _whole(name, given[name].strip())
    if value < least:
        raise InvalidRequest(f"{name}: at least {least}", found=str(value))
    return value


def _one_of(name: str, given: dict[str, str], choices: tuple[Any, ...]) -> Any:
    text = given[name].strip()
    if text not in choices:
        raise InvalidRequest(f"{name}: no such one", found=text, hint=", ".join(choices))
    return text
