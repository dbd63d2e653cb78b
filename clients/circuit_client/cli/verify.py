"""`circuit verify`."""

from typing import Any, Final

import click

from circuit_client.cli.arguments import CircuitName, detach_option, run_options
from circuit_client.cli.command import command
from circuit_client.cli.output import Output, sentence
from circuit_client.cli.struct_options import read_struct, struct_options
from circuit_client.render.card import card_lines
from circuit_client.sync import Connection
from circuit_protocol.circuits import Verdict, VerifySettings

#: Beside the exit codes of all commands.
EXIT_CODES: Final[dict[Verdict, int]] = {"supported": 0, "not supported": 3, "depends": 4}
#: What each setting does. A test holds these against the struct.
SETTING_HELPS = {
    "controls": "Only this control; any number of times. Without it, all of them.",
    "n_pairs": "Pairs of prompts to measure on.",
    "n_bootstrap": "Samples for the intervals.",
    "n_random_circuits": "Random circuits of equal size to compare with.",
    "n_random_subsets": "Random sets of other nodes to leave in.",
    "n_null_runs": "Prune runs for each null (shuffled labels, random weights).",
    "n_seeds": "Other seeds to prune with.",
    "n_null_steps": "Steps of these runs; `none`: as many as the circuit's own.",
    "seed": "Of everything drawn.",
}


@command(
    "verify",
    examples=[
        "circuit verify 3f9a21",
        "circuit verify with_as/learned-mean-0/40 --controls held_out --controls necessity",
        "circuit verify 3f9a21 --n-seeds 4 --json | jq -r .verdict",
    ],
)
@click.argument("circuit", type=CircuitName())
@struct_options(VerifySettings, SETTING_HELPS)
@detach_option
@run_options
def verify(
    c: Connection, out: Output, circuit: str, model: str | None, detach: bool, **options: Any
) -> int | None:
    """Put a circuit to its controls and print its card: whether to believe it, and why.

    CIRCUIT is an id, the beginning of one, or TASK/SWEEP/LABEL, as `circuit circuits list` shows
    them. All ten controls take a few minutes, most of them for the prunes that the nulls and other
    seeds need; the card is kept beside the circuit (`circuit circuits show ID --card`).

    Exit codes beside the usual ones: 3 the verdict is "not supported", 4 it is "depends".
    """
    settings = read_struct(VerifySettings, options)
    if model is None:
        model = c.circuits.show(circuit).circuit.model
    if detach:
        job = c.verify.detach(circuit, model, settings=settings, **options)
        out.give({"job": job.name}, lambda: sentence(job.name))
        return None
    card = c.verify(circuit, model, settings=settings, progress=out.progress, **options)
    out.give(card, lambda: card_lines(card, columns=out.columns, ascii_only=out.ascii_only))
    return EXIT_CODES[card.verdict]
