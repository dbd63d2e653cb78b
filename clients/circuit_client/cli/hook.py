"""`circuit hook`."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import click
import numpy as np

from circuit_client.answers import HookAnswer
from circuit_client.cli.arguments import (
    SiteName,
    detach_option,
    interventions_option,
    prompt_arguments,
    read_interventions,
    read_prompts,
    run_options,
    task_options,
)
from circuit_client.cli.command import command
from circuit_client.cli.forward import origin
from circuit_client.cli.output import Output, sentence
from circuit_client.cli.tokens import quoted, rows_of, token_bytes
from circuit_client.notation import parse_nodes
from circuit_client.render.heat import legend, number, scale_for, token_heatmap
from circuit_client.render.style import Line, Span
from circuit_client.render.table import Column, bar, table, two_sided_bar
from circuit_client.sync import Connection
from circuit_protocol.errors import InvalidRequest
from circuit_protocol.interventions import SiteChannels
from circuit_protocol.requests import Record

#: Rows of a batch that are drawn as heatmaps; the rest is only counted.
_SHOWN_ROWS = 4


@command(
    "hook",
    examples=[
        "circuit hook -s '2.mlp.post_act[3,5]' 'x = \"hello'",
        "circuit hook -s '*.mlp.post_act' 'for i in range(3):'",
        "circuit hook -s 3.resid_mid 'a = [1' --gradient logit_difference --right ']' --wrong ','",
        "circuit hook -s '*.resid_mid' 'a = (1' --against 'zero:1.mlp.post_act'",
        "circuit hook -s final_resid --task with_as -n 8 --save acts.npz",
    ],
)
@prompt_arguments
@click.option("-s", "--site", "sites", multiple=True, required=True, type=SiteName(),
              metavar="SITE",
              help="A site (name, glob or re:regex), channels in brackets.")  # fmt: skip
@click.option("--channels-shown", type=int, default=1, show_default=True,
              help="Strongest channels to draw where none are named.")  # fmt: skip
@click.option("--reduce", "reduce", type=click.Choice(["none", "mean", "norm", "max_abs", "top_k"]),
              default="none", help="Reduce in the daemon.", show_default=True)  # fmt: skip
@click.option("--top-k", type=int, default=16, help="For --reduce top_k.", show_default=True)
@click.option("--gradient", type=click.Choice(["loss", "two_token_loss", "logit_difference"]),
              help="Also the gradient of this.")  # fmt: skip
@click.option("--right", metavar="TEXT", help="The right next token of each prompt.")
@click.option("--wrong", metavar="TEXT", help="The wrong next token of each prompt.")
@click.option("--against", multiple=True, metavar="WHAT",
              help="Compare with these interventions (`none`: with the plain pass).")  # fmt: skip
@click.option("--rank", type=int, default=16, help="Changes to list with --against.",
              show_default=True)  # fmt: skip
@click.option("--save", type=click.Path(dir_okay=False), metavar="FILE", help="Save as .npz.")
@task_options
@interventions_option
@detach_option
@run_options
def hook(
    c: Connection,
    out: Output,
    texts: tuple[str, ...],
    files: tuple[str, ...],
    tokens: tuple[str, ...],
    sites: tuple[str, ...],
    channels_shown: int,
    reduce: Any,
    top_k: int,
    gradient: Any,
    right: str | None,
    wrong: str | None,
    against: tuple[str, ...],
    rank: int,
    save: str | None,
    task: str | None,
    n: int,
    split: Any,
    seed: int,
    interventions: tuple[str, ...],
    detach: bool,
    model: str | None,
    **options: Any,
) -> None:
    """Record activations and show them on the tokens.

    The scale is centred on zero: one colour is positive, the other negative, and the strongest
    token is framed. Values and gradients are also in --json and in the file of --save.
    """
    prompts = read_prompts(texts, files, tokens)
    if not prompts and task is None:
        raise click.UsageError("Give a text, `-` for stdin, --file, --tokens or --task.")
    arguments: dict[str, Any] = {
        **prompts,
        "sites": _records(sites, reduce, top_k),
        "task": task,
        "n": n,
        "split": split,
        "seed": seed,
        "interventions": read_interventions(interventions),
        "gradient": gradient,
        "rank": rank,
        "progress": out.progress,
        **options,
    }
    if against:
        arguments["against"] = read_interventions(w for w in against if w != "none")
    if prompts:
        arguments |= _scored(c, model, prompts, gradient, right, wrong)
    if detach:
        job = c.hook.detach(model, **arguments)
        out.give({"job": job.name}, lambda: sentence(job.name))
        return
    answer = c.hook(model, **arguments)
    if save is not None:
        _save(save, answer)
        out.note(f"saved {len(answer.sites)} sites to {save}")
    if out.json:
        out.document(document(answer))
        return
    names = token_bytes(c, model, answer.tokens.ravel())
    named = {record.site: record.channels for record in arguments["sites"]}
    out.show(_lines(answer, names, named, reduce, channels_shown, out))


def _records(sites: tuple[str, ...], reduce: Any, top_k: int) -> list[Record]:
    """One record for each site, of all channels that were named of it anywhere."""
    channels: dict[str, tuple[int, ...] | None] = {}
    for text in sites:
        nodes = (SiteChannels(site=text),) if text.startswith("re:") else parse_nodes(text)
        for node in nodes:
            before = channels.get(node.site, ())
            both = None if before is None or node.channels is None else before + node.channels
            channels[node.site] = None if both is None else tuple(dict.fromkeys(both))
    return [
        Record(site=site, channels=some, reduce=reduce, top_k=top_k)
        for site, some in channels.items()
    ]


def _scored(
    c: Connection,
    model: str | None,
    prompts: dict[str, Any],
    gradient: str | None,
    right: str | None,
    wrong: str | None,
) -> dict[str, Any]:
    """Answers or targets for the prompts, as far as the gradient needs them."""
    if (right is None) != (wrong is None):
        raise click.UsageError("Give both --right and --wrong.")
    n_rows = len(next(iter(prompts.values())))
    if right is not None and wrong is not None:
        pair = [one_token(c, model, text) for text in (right, wrong)]
        return {"answers": [pair] * n_rows}
    if gradient == "loss":
        rows = prompts.get("tokens")
        if rows is None:
            rows = [[t.id for t in row] for row in c.tokenize(prompts["text"], model)]
        return {"targets": [[*row[1:], -1] for row in rows]}
    if gradient is not None:
        raise click.UsageError(f"--gradient {gradient} needs --right and --wrong (or --task).")
    return {}


def one_token(c: Connection, model: str | None, text: str) -> int:
    """The token that `text` is; InvalidRequest if it is more than one."""
    (row,) = c.tokenize(text, model)
    if len(row) != 1:
        raise InvalidRequest(
            "an answer must be a single token",
            asked=text,
            found=f"{len(row)} tokens",
            hint="`circuit tokenize` shows how a text is split",
        )
    return row[0].id


def _save(path: str, answer: HookAnswer) -> None:
    arrays: dict[str, np.ndarray] = {"tokens": answer.tokens, "lengths": answer.lengths}
    arrays |= {site: answer[site] for site in answer.sites}
    arrays |= {f"{site}.gradient": answer.gradients[site] for site in answer.gradients}
    np.savez(path, allow_pickle=False, **arrays)


def document(answer: HookAnswer) -> Any:
    """The answer as --json prints it."""
    return {
        "loss": answer.loss,
        "against_loss": answer.against_loss,
        "cached": answer.raw.cached,
        "compute_s": answer.raw.compute_s,
        "tokens": rows_of(answer.tokens, answer.lengths),
        "recorded": [
            {
                "site": site,
                "shape": list(answer[site].shape),
                "values": answer[site],
                "gradient": answer.gradients.get(site),
                "indices": answer.indices.get(site),
            }
            for site in answer.sites
        ],
        "changes": answer.changes,
    }


class _Channel(NamedTuple):
    """One channel of one site: its number, and its activations per row without padding."""

    number: int
    values: list[np.ndarray]

    @property
    def peak(self) -> float:
        """Largest magnitude."""
        return max((float(np.abs(v).max()) for v in self.values if v.size), default=0.0)


def _channels(
    array: np.ndarray, lengths: np.ndarray, numbers: tuple[int, ...] | None
) -> Iterator[_Channel]:
    for column in range(array.shape[2]):
        rows = [array[i, : int(n), column] for i, n in enumerate(lengths)]
        yield _Channel(numbers[column] if numbers else column, rows)


def _lines(
    answer: HookAnswer,
    names: dict[int, bytes],
    named: dict[str, tuple[int, ...] | None],
    reduce: str,
    channels_shown: int,
    out: Output,
) -> list[Line]:
    rows = [[names[t] for t in row] for row in rows_of(answer.tokens, answer.lengths)]
    lines: list[Line] = []
    for site in answer.sites:
        array = answer[site]
        if reduce == "top_k" or array.ndim != 3 or reduce != "none":
            lines += _reduced_lines(site, array, answer, rows, out)
            continue
        numbers = named.get(site)
        if numbers is None and len(named) == 1:
            numbers = next(iter(named.values()))
        channels = list(_channels(array, answer.lengths, numbers))
        if numbers is None:
            channels = sorted(channels, key=lambda ch: -ch.peak)[: max(1, channels_shown)]
            lines += _site_summary(site, array, answer.lengths, channels, out)
        lines += [line for ch in channels for line in _heat(f"{site}[{ch.number}]", ch, rows, out)]
        if site in answer.gradients:
            shown = {ch.number for ch in channels}
            gradients = _channels(answer.gradients[site], answer.lengths, numbers)
            for ch in gradients:
                if ch.number in shown:
                    lines += _heat(f"gradient at {site}[{ch.number}]", ch, rows, out)
    if answer.changes:
        lines += _change_lines(answer, rows, out)
    if answer.loss is not None:
        second = "" if answer.against_loss is None else f", against {answer.against_loss:.4f}"
        lines.append((Span(f"loss {answer.loss:.4f}{second}", bold=True),))
    prompts = "1 prompt" if len(rows) == 1 else f"{len(rows)} prompts"
    lines.append((Span(f"{prompts}{origin(answer.raw)}", color="dim"),))
    return lines


def _heat(title: str, channel: _Channel, rows: list[list[bytes]], out: Output) -> list[Line]:
    scale = scale_for(np.concatenate(channel.values).tolist(), "diverging")
    style = {"depth": out.depth, "theme": out.theme, "ascii_only": out.ascii_only}
    lines: list[Line] = [(Span(title, bold=True), Span("  "), *legend(scale, **style))]
    pairs = list(zip(rows, channel.values, strict=True))
    for data, values in pairs[:_SHOWN_ROWS]:
        # Recorded positions may be fewer than tokens: the last ones are those that were kept.
        shown = data[-len(values) :] if len(values) else []
        lines += token_heatmap(shown, values.tolist(), scale, columns=out.columns, **style)
    if len(pairs) > _SHOWN_ROWS:
        lines.append((Span(f"and {len(pairs) - _SHOWN_ROWS} more prompts", color="dim"),))
    return [*lines, ()]


def _site_summary(
    site: str, array: np.ndarray, lengths: np.ndarray, strongest: list[_Channel], out: Output
) -> list[Line]:
    flat = np.concatenate([array[i, : int(n)] for i, n in enumerate(lengths)])
    active = float((flat != 0).mean()) if flat.size else 0.0
    text = (
        f"{array.shape[2]} channels, {active:.1%} of the values not zero; "
        f"strongest: {', '.join(str(ch.number) for ch in strongest)}"
    )
    return [(Span(site, bold=True), Span(f"  {text}", color="dim"))]


def _reduced_lines(
    site: str, array: np.ndarray, answer: HookAnswer, rows: list[list[bytes]], out: Output
) -> list[Line]:
    if site in answer.indices:
        columns = [Column("value", "right"), Column("node"), Column("row", "right"), Column("at"),
                   Column("")]  # fmt: skip
        limit = float(np.abs(array).max()) if array.size else 0.0
        cells = []
        for value, (row, position, channel) in zip(array, answer.indices[site], strict=True):
            token = f"{position} {quoted(rows[row][position], out)}"
            length = two_sided_bar(float(value), limit, 25, ascii_only=out.ascii_only)
            cells.append((number(float(value)), f"{site}[{channel}]", str(row), token, length))
        return [*table(columns, cells, width_max=out.columns), ()]
    flat = array.reshape(-1)
    lines: list[Line] = [(Span(site, bold=True), Span(f"  {list(array.shape)}", color="dim"))]
    order = np.argsort(-np.abs(flat))[:16]
    limit = float(np.abs(flat).max()) if flat.size else 0.0
    columns = [Column("index"), Column("value", "right"), Column("")]
    cells = [
        (
            ", ".join(str(int(i)) for i in np.unravel_index(int(k), array.shape)),
            number(float(flat[k])),
            two_sided_bar(float(flat[k]), limit, 25, ascii_only=out.ascii_only),
        )
        for k in order
    ]
    return [*lines, *table(columns, cells, width_max=out.columns), ()]


def _change_lines(answer: HookAnswer, rows: list[list[bytes]], out: Output) -> list[Line]:
    columns = [
        Column("changed node", shrink=True),
        Column("rms", "right"),
        Column("mean", "right"),
        Column("largest", "right"),
        Column("there"),
        Column(""),
    ]
    limit = max(change.rms for change in answer.changes)
    cells = [
        (
            f"{change.node.site}[{change.node.channel}]",
            number(change.rms),
            number(change.mean),
            number(change.largest),
            f"{change.row}:{change.position} {quoted(rows[change.row][change.position], out)}",
            bar(change.rms, limit, 20, ascii_only=out.ascii_only),
        )
        for change in answer.changes
    ]
    return [*table(columns, cells, width_max=out.columns), ()]
