"""`circuit generate`."""

import codecs
from typing import Any

import click

from circuit_client.cli.arguments import (
    interventions_option,
    need_prompts,
    prompt_arguments,
    read_interventions,
    read_prompts,
    run_options,
)
from circuit_client.cli.command import command
from circuit_client.cli.output import Output
from circuit_client.render.table import duration
from circuit_client.render.text_width import shown
from circuit_client.sync import Connection


@command(
    "generate",
    examples=[
        "circuit generate 'def add(a, b):' -n 40",
        "circuit generate 'import ' --temperature 0.8 --seed 3",
        "circuit generate 'x = (' --stop ')' --json",
    ],
)
@prompt_arguments
@click.option("-n", "--max-new-tokens", type=int, default=64, show_default=True,
              help="How many tokens at most.")  # fmt: skip
@click.option("--temperature", type=float, default=0.0, help="0 takes the likeliest token.",
              show_default=True)  # fmt: skip
@click.option("--top-k", type=int, default=0, help="Draw from the K likeliest only.")
@click.option("--seed", type=int, default=0, help="What the draws begin with.")
@click.option("--stop", "stop_texts", multiple=True, metavar="TEXT", help="End at this text.")
@interventions_option
@run_options
def generate(
    c: Connection,
    out: Output,
    texts: tuple[str, ...],
    files: tuple[str, ...],
    tokens: tuple[str, ...],
    max_new_tokens: int,
    temperature: float,
    top_k: int,
    seed: int,
    stop_texts: tuple[str, ...],
    interventions: tuple[str, ...],
    model: str | None,
    **options: Any,
) -> None:
    """Continue a text.

    The continuation is printed as it is drawn; with --json, a line per token and a last one with
    the whole.
    """
    prompts = need_prompts(read_prompts(texts, files, tokens))
    if len(next(iter(prompts.values()))) != 1:
        raise click.UsageError("Give one prompt.")
    if "text" in prompts:
        prompts = {"text": prompts["text"][0]}
    stream = c.generate(
        model,
        **prompts,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        seed=seed,
        stop_texts=stop_texts,
        interventions=read_interventions(interventions),
        **options,
    )
    # A token may end within a character: the decoder waits for the rest of it.
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for step in stream:
        if out.json:
            text = step.data.decode(errors="replace")
            out.line({"token": step.token, "text": text, "logprob": step.logprob})
        else:
            _write(out, decoder.decode(step.data))
    result = stream.result()
    if out.json:
        out.line(result.raw)
        return
    _write(out, decoder.decode(b"", final=True) + "\n")
    raw = result.raw
    reason = {"length": "reached --max-new-tokens", "stop": "met a stop", "context": "filled the "
              "model's context"}[raw.stopped_by]  # fmt: skip
    out.note(f"{len(raw.tokens)} tokens in {duration(raw.compute_s)}, {reason}")


def _write(out: Output, text: str) -> None:
    """Text as it is, line ends and tabs included, but nothing else that a terminal obeys."""
    safe = "".join(
        c if c in "\n\t" or c.isprintable() else shown(c, ascii_only=out.ascii_only) for c in text
    )
    if out.ascii_only:
        safe = safe.encode("ascii", "backslashreplace").decode()
    out.stdout.write(safe)
    out.stdout.flush()
