"""`circuit prune`."""

from typing import Any, get_args

import click

from circuit_client.cli.app import exit_code
from circuit_client.cli.arguments import TaskName, detach_option, run_options
from circuit_client.cli.command import command
from circuit_client.cli.output import Output, sentence
from circuit_client.cli.struct_options import read_struct, struct_options
from circuit_client.render.circuit_tables import pruned_lines, target_name, trial_lines
from circuit_client.sync import Connection
from circuit_protocol.circuit_replies import PruneFailure, PrunePart, PruneResult
from circuit_protocol.circuits import CircuitSummary, Method, PruneSettings
from circuit_protocol.errors import from_info
from circuit_protocol.messages import AblationKind

#: What each hyper-parameter does. A test holds these against the struct.
SETTING_HELPS = {
    "n_steps": "Optimiser steps.",
    "n_pairs_per_step": "Pairs of prompts per step.",
    "k_coef": "Loss per open gate.",
    "init_noise_scale": "Spread of the gates at the start.",
    "init_noise_bias": "Middle of the gates at the start.",
    "weight_decay": "AdamW's weight decay.",
    "lr": "Learning rate, decayed to zero.",
    "beta1": "AdamW's first beta.",
    "beta2": "AdamW's second beta.",
    "lr_warm_up": "Share of the steps in which the rate rises.",
    "heaviside_temp": "Temperature of the surrogate gradient.",
    "clip_norm": "Largest norm of the gradient; `none`: any.",
    "open_at_zero": "Whether a gate at exactly zero is open.",
    "rank_by": "What nodes are ranked by in the end.",
    "stochastic_rest": "Chance with which a closed gate's node is left in during a step.",
    "greedy": "Then remove nodes one by one while the target holds.",
    "prune_edges": "Then cut single edges likewise.",
    "calibrate": "Then fit a scale and a bias of the answers' logits.",
}


@command(
    "prune",
    examples=[
        "circuit prune --task single_double_quote",
        "circuit prune --task with_as --k 40 --seed 1 --greedy --json",
        "circuit prune -t with_as -t for_while --target-loss 0.3 --target-loss 0.15 --seed 0 "
        "--seed 1",
        "circuit prune --task with_as --search 32 --sweep tuned --detach",
        "circuit prune --task with_as --method attribution --target-loss 0.15",
        "circuit prune --task with_as --n-steps 1000 --k-coef 4e-3 --clip-norm none",
    ],
)
@click.option("-t", "--task", "tasks", multiple=True, required=True, type=TaskName(),
              metavar="TASK", help="One of `circuit tasks list`; any number of times.")  # fmt: skip
@click.option("--target-loss", "target_losses", multiple=True, metavar="L",
              type=click.FloatRange(0, 100, min_open=True),
              help="The smallest circuit with this loss, in nats per side; else 0.15.")  # fmt: skip
@click.option("--k", "ks", multiple=True, type=click.IntRange(0), metavar="K",
              help="The best circuit of this many nodes.")  # fmt: skip
@click.option("--seed", "seeds", multiple=True, type=int, metavar="S", default=(0,),
              help="Of the gates' start and each step's prompts; any number of times.")  # fmt: skip
@click.option("--method", type=click.Choice(get_args(Method)), default="learned",
              show_default=True, help="How nodes are ranked.")  # fmt: skip
@click.option("--ablation", type=click.Choice(get_args(AblationKind)), default="mean",
              show_default=True,
              help="What the other nodes are held at. Resampled ones are ranked at their "
              "means.")  # fmt: skip
@click.option("--search", type=click.IntRange(0, 10_000), default=0, metavar="N",
              help="Try N settings around the given ones, keep the best per task.")  # fmt: skip
@click.option("--sweep", metavar="NAME", help="Store under this name; else one is made.")
@click.option("--save/--no-save", default=True, help="Whether to store what is found.")
@click.option("--pairs", "n_pairs", type=click.IntRange(2, 16384), default=256,
              show_default=True, help="Pairs the target is measured on.")  # fmt: skip
@click.option("--held-out-pairs", "n_held_out_pairs", type=click.IntRange(2, 16384), default=256,
              show_default=True, help="Pairs of held-out templates.")  # fmt: skip
@click.option("--data-seed", type=int, default=0, show_default=True,
              help="Which pairs these are.")  # fmt: skip
@struct_options(PruneSettings, SETTING_HELPS)
@detach_option
@run_options
def prune(
    c: Connection, out: Output, model: str | None, detach: bool, save: bool, **options: Any
) -> int | None:
    """Find a task's circuit: the few nodes that do it while all others are held at their means.

    Takes some ten seconds per task and seed on the shipped model; the targets share one run. What
    is found is kept: `circuit circuits list` has it, `circuit circuits show ID` draws it, `circuit
    verify ID` says whether to believe it. Without a target the smallest circuit with a loss of 0.15
    is looked for (chance is 0.693). A loss is the mean per side of a pair, in nats.

    With --json, one line per circuit at the end: nodes, edges, loss, held_out_loss, accuracy,
    circuit (its id), seconds, and what it is of; progress is on stderr. If some target has no
    circuit, the exit code says whose fault it is (1 or 2), after what was found.
    """
    settings = read_struct(PruneSettings, options)
    arguments = {**options, "settings": settings, "save": save}
    if detach:
        job = c.prune.detach(model, **arguments)
        out.give({"job": job.name}, lambda: sentence(job.name))
        return None
    stream = c.prune.start(model, **arguments, progress=out.progress)
    for event in stream:
        if isinstance(event, PrunePart):
            _tell(event, out)
    result = stream.result()
    out.clear_progress()
    seconds = _seconds(c, result)
    if out.json:
        for summary in result.circuits:
            out.line(document(summary, seconds.get(summary.id)))
    else:
        out.show(
            [
                *pruned_lines(result.circuits, result.failures, columns=out.columns,
                              seconds=seconds, ascii_only=out.ascii_only),
                *(trial_lines(result.trials, columns=out.columns) if result.trials else ()),
            ]
        )  # fmt: skip
    codes = [exit_code(from_info(f.error)) for f in result.failures]
    return min(codes) if codes else None


def document(summary: CircuitSummary, seconds: float | None) -> dict[str, Any]:
    """A found circuit as --json prints it."""
    m = summary.measured
    return {
        "nodes": m.k,
        "edges": m.n_edges,
        "loss": m.loss,
        "held_out_loss": m.held_out_loss,
        "accuracy": m.accuracy,
        "circuit": summary.id,
        "seconds": seconds,
        "model": summary.model,
        "task": summary.task,
        "seed": summary.seed,
        "target_loss": summary.target_loss,
        "target_k": summary.target_k,
        "sweep": summary.sweep,
        "label": summary.label,
    }


def _seconds(c: Connection, result: PruneResult) -> dict[str, float]:
    """How long each circuit took, which its provenance knows."""
    if result.found:
        found = zip(result.circuits, result.found, strict=True)
        return {summary.id: circuit.found.seconds for summary, circuit in found}
    if len(result.circuits) == 1:
        return {result.circuits[0].id: result.compute_s}
    asked = [(s.id, c.circuits.show.start(s.id, model=s.model)) for s in result.circuits]
    return {name: stream.result().circuit.found.seconds for name, stream in asked}


def _tell(part: PrunePart, out: Output) -> None:
    for s in part.circuits:
        m = s.measured
        target = target_name(s.target_loss, s.target_k)
        out.note(
            f"{s.task}, seed {s.seed}, {target}: {m.k:,} nodes, {m.n_edges:,} edges, "
            f"loss {m.loss:.4f} ({s.id})"
        )
    for failure in part.failures:
        out.note(_failure_words(failure))


def _failure_words(f: PruneFailure) -> str:
    target = target_name(f.target_loss, f.target_k)
    found = f" (found {f.error.found})" if f.error.found else ""
    return f"{f.task}, seed {f.seed}, {target}: {f.error.message}{found}"
