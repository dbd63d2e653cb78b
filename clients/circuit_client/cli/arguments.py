"""Arguments that several commands share: models, tasks, sites, prompts, interventions."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from circuit_client.cli.command import Settings

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from circuit_client.sync import Connection
    from circuit_protocol.interventions import Intervention

F = TypeVar("F", bound=Callable[..., Any])


class _Asked(click.ParamType):
    """A name whose completions the running daemon knows. Never starts one, never complains."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> "list[CompletionItem]":
        from click.shell_completion import CompletionItem

        from circuit_client.connecting import connect
        from circuit_protocol.errors import CircuitError

        settings = ctx.find_object(Settings) or Settings()
        try:
            with connect(settings.endpoint, start=False, timeout_s=1.0, client="completion") as c:
                return [CompletionItem(n) for n in self.names(c) if n.startswith(incomplete)]
        except (CircuitError, OSError):
            return []

    def names(self, c: "Connection") -> Iterable[str]:
        """All names there are."""
        raise NotImplementedError


class ModelName(_Asked):
    """A model's name, directory or address."""

    name = "model"

    def names(self, c: "Connection") -> Iterable[str]:
        """The models in the artefact roots."""
        return (m.name for m in c.models.list())


class TaskName(_Asked):
    """A task's name."""

    name = "task"

    def names(self, c: "Connection") -> Iterable[str]:
        """The tasks there are."""
        return (t.name for t in c.tasks.list())


class CircuitName(_Asked):
    """A circuit's id, a unique beginning of it, or its place task/sweep/label."""

    name = "circuit"

    def names(self, c: "Connection") -> Iterable[str]:
        """Ids, and places, of the catalogue."""
        found = c.circuits.list()
        yield from dict.fromkeys(s.id for s in found)  # one circuit may lie in several places
        yield from (f"{s.task}/{s.sweep}/{s.label}" for s in found)


class SiteName(_Asked):
    """A site selector, or nodes."""

    name = "site"

    def names(self, c: "Connection") -> Iterable[str]:
        """The sites of the daemon's default model."""
        return (s.site for s in c.models.describe().sites)


def model_option(body: F) -> F:
    """`--model`: the daemon's default where it is not given."""
    return click.option(
        "-m",
        "--model",
        type=ModelName(),
        envvar="CIRCUIT_MODEL",
        metavar="MODEL",
        help="Name, directory or address; else $CIRCUIT_MODEL, else the daemon's default.",
    )(body)


def run_options(body: F) -> F:
    """How a request on a model is carried out."""
    for option in (
        click.option("--deadline", "deadline_s", type=float, metavar="S", help="Give up after S."),
        click.option("--no-cache", "use_cache", is_flag=True, flag_value=False, default=True,
                     help="Compute anew, whatever is stored."),
        click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]),
                     default="float32", help="Precision.", show_default=True),
    ):  # fmt: skip
        body = option(body)
    return model_option(body)


def prompt_arguments(body: F) -> F:
    """`TEXT...`, `--file` and `--tokens`."""
    for decorate in (
        click.option("--tokens", multiple=True, metavar="IDS", help="Token ids, like 12,7,1999."),
        click.option("-f", "--file", "files", multiple=True, metavar="FILE",
                     help="Read a prompt from a file (- for stdin)."),
        click.argument("texts", nargs=-1, metavar="[TEXT]..."),
    ):  # fmt: skip
        body = decorate(body)
    return body


def read_prompts(
    texts: tuple[str, ...], files: tuple[str, ...], tokens: tuple[str, ...]
) -> dict[str, Any]:
    """The prompts given on the command line as arguments of a verb; `{}` if there are none."""
    if tokens:
        if texts or files:
            raise click.UsageError("Give either text or tokens.")
        return {"tokens": [_ids(t) for t in tokens]}
    prompts = [sys.stdin.read() if t == "-" else t for t in texts]
    prompts += [sys.stdin.read() if f == "-" else Path(f).read_text("utf-8") for f in files]
    return {"text": prompts} if prompts else {}


def need_prompts(prompts: dict[str, Any]) -> dict[str, Any]:
    """`prompts`, or a sentence that one is needed."""
    if not prompts:
        raise click.UsageError("Give a text, `-` for stdin, --file or --tokens.")
    return prompts


def _ids(text: str) -> list[int]:
    try:
        return [int(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise click.BadParameter(f"`{text}` is no list of token ids like 12,7,1999.") from None


def interventions_option(body: F) -> F:
    """`--interventions`, any number of times."""
    return click.option(
        "-i",
        "--interventions",
        multiple=True,
        metavar="WHAT",
        help="Change the pass: zero:2.mlp.post_act[3,5]@-1, scale:*.attn.v{head 3}*0.5, "
        "JSON, or @FILE with JSON.",
    )(body)


def read_interventions(given: Iterable[str]) -> "list[Intervention]":
    """All interventions given on the command line, in order."""
    from circuit_client.notation import parse_interventions

    found: list[Intervention] = []
    for text in given:
        source = Path(text[1:]).read_text("utf-8") if text.startswith("@") else text
        found.extend(parse_interventions(source))
    return found


def task_options(body: F) -> F:
    """`--task`, `--pairs`, `--split`, `--seed`."""
    for option in (
        click.option("--seed", type=int, default=0, help="Which pairs are drawn."),
        click.option("--split", type=click.Choice(["train", "held_out"]), default="held_out",
                     help="Which templates they come from.", show_default=True),
        click.option("-n", "--pairs", "n", type=int, default=64, help="How many pairs.",
                     show_default=True),
        click.option("-t", "--task", type=TaskName(), metavar="TASK", help="Prompts of a task."),
    ):  # fmt: skip
        body = option(body)
    return body


def detach_option(body: F) -> F:
    """`--detach`."""
    return click.option(
        "--detach", is_flag=True, help="Run as a job: print its name and return at once."
    )(body)
