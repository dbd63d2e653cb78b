"""The texts of the node page: where a node is active, on pretraining text and on its task."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from circuit_client.circuit_answers import NodeActivity
from circuit_client.render.heat import Scale, number, scale_for
from circuit_tui.views.table import Cell


@dataclass(frozen=True)
class Passage:
    """Tokens and a number for each (NaN: none), under a heading; `framed` is the strongest."""

    heading: str
    tokens: tuple[bytes, ...]
    values: NDArray[np.float32]
    framed: int | None = None
    #: Begins a group: its heading stands apart.
    group: str = ""


Names = Callable[[Sequence[int]], list[bytes]]
Shown = Literal["all", "class 1", "class 2", "difference"]
SHOWN: tuple[Shown, ...] = ("all", "class 1", "class 2", "difference")


def token_ids(activity: NodeActivity) -> set[int]:
    """Every token that its texts are made of."""
    ids = {t for band in activity.bands for w in band.windows for t in w.tokens}
    if activity.raw.task_tokens is not None:
        ids |= set(activity.task_tokens.ravel().tolist())
    return ids


def strongest(values: NDArray[np.float32]) -> int | None:
    """Index of the largest magnitude."""
    size = np.where(np.isfinite(values), np.abs(values), 0.0)
    return int(size.argmax()) if size.size and size.any() else None


def scale_of(passages: Sequence[Passage], *, zero_centred: bool, unit: str = "") -> Scale:
    """One scale for all of them."""
    values = [abs(float(v)) for p in passages for v in p.values if np.isfinite(v)]
    has_negative = any((p.values < 0).any() for p in passages)
    kind = "diverging" if zero_centred and has_negative else "sequential"
    return scale_for(values, kind, unit)


def band_passages(activity: NodeActivity, names: Names) -> list[Passage]:
    """Pretraining text around the largest and the smallest values, the rarest first."""
    bands = sorted(activity.bands, key=lambda b: (b.end != "top", b.fraction))
    found: list[Passage] = []
    for band in bands:
        title = f"{band.end} {100 * band.fraction:g} % of the pretraining text"
        for i, window in enumerate(band.windows):
            values = np.array(window.activations, np.float32)
            at = min(window.position, len(values) - 1) if len(values) else None
            found.append(
                Passage(
                    heading="",
                    tokens=tuple(names(window.tokens)),
                    values=values,
                    framed=strongest(values) if at is None else at,
                    group=title if i == 0 else "",
                )
            )
            if i:
                found[-1] = _separated(found[-1])
    return found


def _separated(passage: Passage) -> Passage:
    return Passage("·", passage.tokens, passage.values, passage.framed)


def task_passages(activity: NodeActivity, names: Names, shown: Shown) -> list[Passage]:
    """The task's prompts: both sides of each pair, and what differs between them."""
    if activity.raw.task_activations is None:
        return []
    tokens, lengths, values = (
        activity.task_tokens, activity.task_lengths, activity.task_activations,
    )  # fmt: skip
    n = len(tokens) // 2
    found: list[Passage] = []
    for i in range(n):
        sides = [(j, int(lengths[j])) for j in (i, i + n)]
        rows: list[tuple[Shown, int, NDArray[np.float32]]] = [
            (SHOWN[1 + s], j, np.asarray(values[j, :length], np.float32))
            for s, (j, length) in enumerate(sides)
        ]
        both = min(length for _, length in sides)
        difference = rows[0][2][:both] - rows[1][2][:both]
        rows.append(("difference", sides[0][0], difference))
        group = f"pair {i + 1}"
        for kind, j, of in rows:
            if shown not in ("all", kind):
                continue
            text = tuple(names(tokens[j, : len(of)].tolist()))
            heading = f"{kind}, class 1 minus class 2" if kind == "difference" else kind
            found.append(Passage(heading, text, of, strongest(of), group))
            group = ""
    return found


def attention_passages(
    activity: NodeActivity,
    names: Names,
    *,
    back: int,
    partner: NodeActivity | None,
    share: bool,
) -> list[Passage]:
    """Where the node's head attends, from the token `back` before the last one of each prompt.

    With `share`, what this channel alone has to do with it: of a value, the attention times the
    value that is moved; of a query or key, its product with its partner channel.
    """
    if activity.raw.attention is None:
        return []
    found: list[Passage] = []
    has_sink = activity.attention.shape[2] > activity.attention.shape[1]
    for row, pattern in zip(activity.attention_rows, activity.attention, strict=True):
        length = int(activity.task_lengths[row])
        at = max(0, length - 1 - back)
        shares = np.asarray(pattern[at, : at + 1], np.float32)
        if share:
            shares = _channel_share(activity, partner, int(row), at, shares)
        tokens = tuple(names(activity.task_tokens[row, : at + 1].tolist()))
        side = "class 1" if row < len(activity.task_tokens) // 2 else "class 2"
        sink = f", {pattern[at, -1]:.0%} to the sink" if has_sink else ""
        heading = f"{side}, from token {at + 1} of {length}{sink}"
        found.append(Passage(heading, tokens, shares, strongest(shares)))
    return found


def _channel_share(
    activity: NodeActivity,
    partner: NodeActivity | None,
    row: int,
    at: int,
    shares: NDArray[np.float32],
) -> NDArray[np.float32]:
    own = np.asarray(activity.task_activations[row], np.float32)
    kind = activity.raw.site.rpartition(".")[2]
    if kind == "v":
        return shares * own[: at + 1]
    if partner is None:
        return np.full(at + 1, np.nan, np.float32)
    other = np.asarray(partner.task_activations[row], np.float32)
    query, key = (own, other) if kind == "q" else (other, own)
    return query[at] * key[: at + 1]


def distribution_lines(activity: NodeActivity, columns: int, bars: str) -> list[list[Cell]]:
    """Quantiles on pretraining text, and a histogram of the task's two classes."""
    lines: list[list[Cell]] = [[Cell(" quantiles on pretraining text", "dim")]]
    for at, value in zip(activity.QUANTILES_AT, activity.quantiles.tolist(), strict=True):
        lines.append([Cell(f"  {100 * at:>6g} %  ", "dim"), Cell(number(value))])
    lines.append([Cell("    mean  ", "dim"), Cell(number(activity.mean), "strong")])
    if activity.raw.task_activations is None:
        return lines
    n = len(activity.task_tokens) // 2
    values = [
        np.concatenate([
            np.asarray(activity.task_activations[j, : int(activity.task_lengths[j])])
            for j in rows
        ])
        for rows in (range(n), range(n, 2 * n))
    ]  # fmt: skip
    low = float(min(v.min() for v in values))
    high = float(max(v.max() for v in values))
    edges = np.linspace(low, high if high > low else low + 1, 13)
    counts = [np.histogram(v, edges)[0] for v in values]
    most = max(1, max(int(c.max()) for c in counts))
    room = max(4, (columns - 28) // 2)
    lines += [[], [Cell(" tokens of the task's prompts, by value", "dim")]]
    titles = [f"{name:<{room + 6}}" for name in ("class 1", "class 2")]
    lines.append([Cell(" " * 24), *(Cell(t, "dim") for t in titles)])
    for i in range(12):
        span = f"  {number(float(edges[i])):>9} .. {number(float(edges[i + 1])):>8} "
        line = [Cell(f"{span:<24}", "dim")]
        for c in counts:
            filled = bars[-1] * -(-room * int(c[i]) // most)
            line.append(Cell(f"{filled:<{room}} {int(c[i]) or '':<5}", "note"))
        lines.append(line)
    return lines
