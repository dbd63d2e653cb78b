"""`circuit ablate`."""

from pathlib import Path
from typing import Any

import click
import numpy as np

from circuit_client.answers import AblateAnswer
from circuit_client.cli.arguments import (
    SiteName,
    detach_option,
    prompt_arguments,
    read_prompts,
    run_options,
    task_options,
)
from circuit_client.cli.command import command
from circuit_client.cli.forward import origin
from circuit_client.cli.hook import one_token
from circuit_client.cli.output import Output, sentence
from circuit_client.render.style import Line, Span
from circuit_client.render.table import Column, bar, table, two_sided_bar
from circuit_client.sync import Connection
from circuit_protocol.replies import AblatedThing

#: Loss of a guess between the two answers, in nats: ln 2.
CHANCE_LOSS = 0.6931


@command(
    "ablate",
    examples=[
        "circuit ablate --task single_double_quote --sites '2.mlp.*'",
        "circuit ablate --task with_as --every head --top 10",
        "circuit ablate --task bracket_counting --every node --among '1.mlp.post_act 2.attn.v'",
        "circuit ablate --task with_as --nodes '0.mlp.post_act[3,5] final_resid[7]' --kind zero",
        "circuit ablate --task with_as --heads 2:0,3 --layers 3 --half mlp",
        "circuit ablate 'x = \"a' --right '\"' --wrong \"'\" --layers 0",
    ],
)
@prompt_arguments
@task_options
@click.option("--right", metavar="TEXT", help="The right next token of the prompts.")
@click.option("--wrong", metavar="TEXT", help="The wrong next token of the prompts.")
@click.option("--nodes", metavar="NODES", help="Ablate these: '2.mlp.post_act[3,5] 1.attn.v'.")
@click.option("--sites", multiple=True, type=SiteName(), metavar="SITE",
              help="Ablate whole node sites (name, glob or re:regex).")  # fmt: skip
@click.option("--heads", multiple=True, metavar="LAYER:HEADS", help="Ablate heads, like 2:0,3.")
@click.option("--layers", metavar="LAYERS", help="Ablate layers, like 0,3.")
@click.option("--half", type=click.Choice(["both", "attn", "mlp"]), default="both",
              help="Which half of --layers.", show_default=True)  # fmt: skip
@click.option("--every", type=click.Choice(["node", "edge", "head", "layer", "site"]),
              help="One mask for each in turn, ranked.")  # fmt: skip
@click.option("--among", metavar="NODES", help="With --every: only among these nodes.")
@click.option("--packed", type=click.Path(exists=True, dir_okay=False), metavar="FILE",
              help="Masks as .npy: booleans [M, n_nodes], True keeps.")  # fmt: skip
@click.option("--keep", metavar="NODES", help="A circuit: everything else is ablated throughout.")
@click.option("--kind", type=click.Choice(["zero", "mean", "resample"]), default="mean",
              help="What ablated nodes become.", show_default=True)  # fmt: skip
@click.option("--top", type=int, default=20, show_default=True, help="Masks to list.")
@detach_option
@run_options
def ablate(
    c: Connection,
    out: Output,
    texts: tuple[str, ...],
    files: tuple[str, ...],
    tokens: tuple[str, ...],
    task: str | None,
    n: int,
    split: Any,
    seed: int,
    right: str | None,
    wrong: str | None,
    nodes: str | None,
    sites: tuple[str, ...],
    heads: tuple[str, ...],
    layers: str | None,
    half: Any,
    every: Any,
    among: str | None,
    packed: str | None,
    keep: str | None,
    kind: Any,
    top: int,
    detach: bool,
    model: str | None,
    **options: Any,
) -> None:
    """Ablate nodes, heads, layers or sites and see what breaks.

    Losses are means per side in nats; a guess between the two answers has 0.693.
    """
    prompts = read_prompts(texts, files, tokens)
    if task is None and not prompts:
        raise click.UsageError("Give --task, or a text with --right and --wrong.")
    if task is None:
        if right is None or wrong is None:
            raise click.UsageError("A text needs --right and --wrong next tokens.")
        pair = [one_token(c, model, t) for t in (right, wrong)]
        prompts["answers"] = [pair] * len(next(iter(prompts.values())))
    arguments: dict[str, Any] = {
        **prompts,
        "task": task,
        "n": n,
        "split": split,
        "seed": seed,
        "nodes": nodes,
        "sites": sites or None,
        "heads": _heads(heads),
        "layers": None if layers is None else _whole_numbers(layers, "--layers"),
        "half": half,
        "every": every,
        "among": among,
        "packed": None if packed is None else np.load(Path(packed), allow_pickle=False),
        "keep": keep,
        "kind": kind,
        "progress": out.progress,
        **options,
    }
    if detach:
        job = c.ablate.detach(model, **arguments)
        out.give({"job": job.name}, lambda: sentence(job.name))
        return
    answer = c.ablate(model, **arguments)
    if out.json:
        out.document(document(answer))
    elif len(answer.losses) == 1:
        out.show(_before_and_after(answer, kind, keep is not None, out))
    else:
        out.show(_ranked(answer, kind, top, out))


def _heads(given: tuple[str, ...]) -> dict[int, list[int]] | None:
    heads: dict[int, list[int]] = {}
    for text in given:
        layer, colon, some = text.partition(":")
        if not colon or not layer.isdigit():
            raise click.BadParameter(f"`{text}` is not like 2:0,3.", param_hint="--heads")
        heads.setdefault(int(layer), []).extend(_whole_numbers(some, "--heads"))
    return heads or None


def _whole_numbers(text: str, option: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"`{text}` is not like 0,3.", param_hint=option) from None


def thing_name(thing: AblatedThing) -> str:
    """What a mask ablated, in the notation of nodes."""
    if thing.edge is not None:
        e = thing.edge
        return f"{e.source}[{e.source_channel}] -> {e.target}[{e.target_channel}]"
    if thing.site is not None:
        return thing.site if thing.channel is None else f"{thing.site}[{thing.channel}]"
    if thing.head is not None:
        return f"layer {thing.layer} head {thing.head}"
    return f"layer {thing.layer}"


def _names(answer: AblateAnswer) -> list[str]:
    if answer.things:
        return [thing_name(t) for t in answer.things]
    return [f"mask {i}" for i in range(len(answer.losses))]


def document(answer: AblateAnswer) -> Any:
    """The answer as --json prints it."""
    raw = answer.raw
    accuracies = None if raw.accuracies is None else answer.accuracies
    return {
        "model_loss": raw.model_loss,
        "model_accuracy": raw.model_accuracy,
        "base_loss": raw.base_loss,
        "base_accuracy": raw.base_accuracy,
        "cached": raw.cached,
        "compute_s": raw.compute_s,
        "masks_per_s": raw.masks_per_s,
        "execution": raw.execution,
        "masks": [
            {
                "name": name,
                "thing": answer.things[i] if answer.things else None,
                "loss": float(answer.losses[i]),
                "delta": float(answer.deltas[i]),
                "accuracy": None if accuracies is None else float(accuracies[i]),
            }
            for i, name in enumerate(_names(answer))
        ],
    }


def _before_and_after(
    answer: AblateAnswer, kind: str, with_circuit: bool, out: Output
) -> list[Line]:
    raw = answer.raw
    after_accuracy = None if raw.accuracies is None else float(answer.accuracies[0])
    states: list[tuple[str, float, float | None]] = [
        ("model", raw.model_loss, raw.model_accuracy),
        (f"{kind}-ablated", float(answer.losses[0]), after_accuracy),
    ]
    if with_circuit:
        states.insert(1, ("circuit alone", raw.base_loss, raw.base_accuracy))
        if answer.deltas[0] == 0:
            states.pop()
    limit = max(CHANCE_LOSS, *(loss for _, loss, _ in states))
    columns = [Column(""), Column("loss", "right"), Column("accuracy", "right"), Column("")]
    rows = [
        (
            name,
            f"{loss:.4f}",
            "" if accuracy is None else f"{accuracy:.1%}",
            Span(
                bar(loss, limit, 30, ascii_only=out.ascii_only),
                color="bad" if loss >= CHANCE_LOSS else "note",
            ),
        )
        for name, loss, accuracy in states
    ]
    before, after = states[0][1], states[-1][1]
    verdict = f"{after - before:+.4f} nats per side"
    if after >= CHANCE_LOSS > before:
        verdict += ": worse than a guess"
    return [
        *table(columns, rows, width_max=out.columns),
        (Span(verdict, bold=True), Span(origin(raw), color="dim")),
    ]


def _ranked(answer: AblateAnswer, kind: str, top: int, out: Output) -> list[Line]:
    order = np.argsort(-np.abs(answer.deltas), kind="stable")[: max(1, top)]
    limit = float(np.abs(answer.deltas).max()) if len(answer.deltas) else 0.0
    names = _names(answer)
    has_accuracy = answer.raw.accuracies is not None
    columns = [
        Column("#", "right"),
        Column(f"{kind}-ablated", shrink=True),
        Column("loss", "right"),
        Column("delta", "right"),
        Column("accuracy", "right"),
        Column("better | worse" if out.ascii_only else "better │ worse"),
    ]
    rows = []
    for place, i in enumerate(order, 1):
        delta = float(answer.deltas[i])
        drawn = two_sided_bar(delta, limit, 31, ascii_only=out.ascii_only)
        rows.append(
            (
                str(place),
                names[i],
                f"{answer.losses[i]:.4f}",
                f"{delta:+.4f}",
                f"{answer.accuracies[i]:.1%}" if has_accuracy else "",
                Span(drawn, color="bad" if delta > 0 else "good"),
            )
        )
    rest = len(answer.losses) - len(order)
    summary = f"base loss {answer.base_loss:.4f}"
    if answer.base_accuracy is not None:
        summary += f", accuracy {answer.base_accuracy:.1%}"
    more = f"; {rest} more, --top shows them" if rest else ""
    return [
        *table(columns, rows, width_max=out.columns),
        (),
        (Span(summary, bold=True), Span(f"{more}{origin(answer.raw)}", color="dim")),
    ]
