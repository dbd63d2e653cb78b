"""Tables about circuits: the catalogue, one circuit's facts, a diff, what a prune run found."""

import time
from collections.abc import Mapping, Sequence

from circuit_client import caption
from circuit_client.graph import place_of
from circuit_client.notation import format_nodes
from circuit_client.render.plot import Axis, Curve, plot
from circuit_client.render.style import Line, Named, Span
from circuit_client.render.table import Cell, Column, duration, facts, table
from circuit_client.render.text_width import shown as visible
from circuit_client.render.text_width import truncate
from circuit_protocol.circuit_replies import (
    CircuitDerived,
    CircuitDiff,
    CircuitShown,
    PruneFailure,
    PruneTrial,
)
from circuit_protocol.circuits import CircuitSummary, PruneStep
from circuit_protocol.interventions import NodeSet
from circuit_protocol.messages import Edge

_VERDICT_COLORS: dict[str | None, Named] = {
    "supported": "good",
    "not supported": "bad",
    "depends": "note",
}


def catalogue_lines(found: Sequence[CircuitSummary], *, columns: int) -> list[Line]:
    """One line per circuit; a broken one says why instead of its numbers."""
    headings = [
        Column("circuit"),
        Column("task", shrink=True),
        Column("k", "right"),
        Column("edges", "right"),
        Column("loss", "right"),
        Column("held out", "right"),
        Column("acc", "right"),
        Column("verdict"),
        Column("sweep/label", shrink=True),
        Column("model", shrink=True),
        Column("age", "right"),
    ]
    rows: list[tuple[Cell, ...]] = []
    for s in found:
        m = s.measured
        place = f"{s.sweep}/{s.label}"
        if s.broken is not None:  # its numbers are nobody's
            rows.append((s.id[:8], s.task, "", "", "", "", "", "broken", place, s.model, ""))
            continue
        verdict = Span(s.verdict or "", color=_VERDICT_COLORS.get(s.verdict))
        age = duration(max(0.0, time.time() - s.created_at_s)) if s.created_at_s else ""
        rows.append(
            (s.id[:8], s.task, f"{m.k:,}", f"{m.n_edges:,}", f"{m.loss:.3f}",
             _optional(m.held_out_loss), f"{m.accuracy:.1%}", verdict, place, s.model, age)
        )  # fmt: skip
    kept = [i for i in range(len(headings)) if i < 7 or any(_text(row[i]) for row in rows)]
    # Where the line is short, what says least goes first.
    for i in (10, 9, 5, 8, 7):
        if i in kept and _least_width(headings, rows, kept) > columns:
            kept.remove(i)
    lines = table(
        [headings[i] for i in kept], [[row[i] for i in kept] for row in rows], width_max=columns
    )
    for s in found:
        if s.broken is not None:
            text = truncate(visible(f"{s.id[:8]} is broken: {s.broken}"), columns)
            lines.append((Span(text, color="bad"),))
    return lines


def _text(cell: Cell) -> str:
    return cell.text if isinstance(cell, Span) else cell


def _least_width(
    headings: Sequence[Column], rows: Sequence[Sequence[Cell]], kept: Sequence[int]
) -> int:
    """Columns a table takes whose shrinking columns have given up what they can."""
    total = 2 * (len(kept) - 1)
    for i in kept:
        widest = max([len(headings[i].heading), *(len(_text(row[i])) for row in rows)])
        total += min(widest, 14) if headings[i].shrink else widest
    return total


def _optional(number: float | None) -> str:
    return "" if number is None else f"{number:.3f}"


def fact_lines(shown: CircuitShown) -> list[Line]:
    """One circuit: what it is, how good, how it was found; with the curve if there is one."""
    circuit, m, found = shown.circuit, shown.circuit.measured, shown.circuit.found
    where = (shown.summary.model, circuit.task, shown.summary.sweep, shown.summary.label)
    pairs: list[tuple[str, Cell]] = [
        ("circuit", Span(shown.summary.id, bold=True)),
        ("place", "/".join(where)),
        ("size", caption.sizes(m)),
        ("loss", f"{m.loss:.4f} nats per side; the whole model {m.model_loss:.4f}"),
        ("accuracy", f"{m.accuracy:.1%}; the whole model {m.model_accuracy:.1%}"),
    ]  # fmt: skip
    if m.held_out_loss is not None:
        whole = f"; the whole model {m.model_held_out_loss:.4f}" if m.model_held_out_loss else ""
        pairs.append(("held out", f"{m.held_out_loss:.4f} nats per side{whole}"))
    if circuit.cut_edges:
        pairs.append(("cut", caption.count(len(circuit.cut_edges), "edge")))
    if circuit.calibration is not None:
        c = circuit.calibration
        pairs.append(("calibration", f"answer logits times {c.scale:.4g}, bias {c.bias:+.4g}"))
    pairs.append(("found", f"{caption.how(shown)}, in {duration(found.seconds)}"))
    if found.ranked_under is not None:
        pairs.append(("ranked", f"under {found.ranked_under} ablation, cut under the circuit's"))
    if found.settings is not None:
        import msgspec

        changed = msgspec.to_builtins(found.settings)  # omit_defaults: what was not the default
        text = ", ".join(f"{name}={value}" for name, value in changed.items())
        pairs.append(("settings", text or "the defaults"))
    if found.parents:
        pairs.append(("made from", ", ".join(found.parents)))
    if found.note:
        pairs.append(("note", visible(found.note)))
    if shown.card is not None:
        color = _VERDICT_COLORS.get(shown.card.verdict)
        pairs.append(("verdict", Span(shown.card.verdict, color=color, bold=True)))
    return facts(pairs)


def diff_lines(diff: CircuitDiff, *, columns: int, limit: int = 12) -> list[Line]:
    """What changed from one circuit to the other: sizes, loss, nodes, edges, importances."""
    before, after = diff.before, diff.after
    headings = [
        *(Column(""), Column("circuit"), Column("task", shrink=True)),
        *(Column(name, "right") for name in ("k", "edges", "loss", "acc")),
    ]
    rows = [
        (name, s.id[:8], s.task, f"{s.measured.k:,}", f"{s.measured.n_edges:,}",
         f"{s.measured.loss:.4f}", f"{s.measured.accuracy:.1%}")
        for name, s in (("before", before), ("after", after))
    ]  # fmt: skip
    shared = sum(len(n.channels or ()) for n in diff.shared)
    lines = [
        *table(headings, rows, width_max=columns),
        (),
        (
            Span(f"loss {diff.loss_change:+z.4f} nats", bold=True),
            Span(f", {caption.count(shared, 'node')} in both, Jaccard {diff.jaccard:.2f}"),
        ),
    ]
    for name, nodes, color in (("added", diff.added, "good"), ("removed", diff.removed, "bad")):
        lines += _node_lines(name, nodes, color, columns, limit)  # pyright: ignore[reportArgumentType]  # Named
    if not diff.edges_known:
        text = "edges are not compared: one of the two was never measured"
        lines.append((Span(truncate(text, columns), color="note"),))
    for name, edges in (("added", diff.added_edges), ("removed", diff.removed_edges)):
        lines += _edge_lines(name, edges, columns, limit) if diff.edges_known else []
    if diff.changes:
        largest = sorted(diff.changes, key=lambda c: -abs(c.after - c.before))
        cells = [
            (f"{c.site}[{c.channel}]", f"{c.before:+z.4f}", f"{c.after:+z.4f}",
             f"{c.after - c.before:+z.4f}")
            for c in largest[:limit]
        ]  # fmt: skip
        titles = [Column("node of both", shrink=True), Column("before", "right"),
                  Column("after", "right"), Column("change", "right")]  # fmt: skip
        lines += [(), *table(titles, cells, width_max=columns), *_more(len(largest), limit)]
    return lines


def _more(n: int, limit: int) -> list[Line]:
    return [(Span(f"… and {n - limit} more", color="dim"),)] if n > limit else []


def _node_lines(name: str, nodes: NodeSet, color: Named, columns: int, limit: int) -> list[Line]:
    n = sum(len(group.channels or ()) for group in nodes)
    lines: list[Line] = [(Span(f"{caption.count(n, 'node')} {name}", color=color, bold=n > 0),)]
    groups = sorted(nodes, key=lambda g: place_of(g.site).order)
    shown = [truncate(f"  {format_nodes((g,))}", columns) for g in groups[:limit]]
    return [*lines, *((Span(text),) for text in shown), *_more(len(groups), limit)]


def _edge_lines(name: str, edges: Sequence[Edge], columns: int, limit: int) -> list[Line]:
    lines: list[Line] = [(Span(f"{caption.count(len(edges), 'edge')} {name}", color="dim"),)]
    for e in edges[:limit]:
        text = f"  {e.source}[{e.source_channel}] -> {e.target}[{e.target_channel}]"
        lines.append((Span(truncate(text, columns)),))
    return [*lines, *_more(len(edges), limit)]


def pruned_lines(
    circuits: Sequence[CircuitSummary],
    failures: Sequence[PruneFailure],
    *,
    columns: int,
    seconds: Mapping[str, float] | None = None,
    ascii_only: bool = False,
) -> list[Line]:
    """What a prune run found, target by target, and for what it found nothing.

    `seconds` are by circuit id, where known. With three sizes or more, loss against k is drawn.
    """
    took = seconds or {}
    headings = [
        Column("task", shrink=True),
        Column("target", "right"),
        Column("seed", "right"),
        Column("loss", "right"),
        Column("k", "right"),
        Column("edges", "right"),
        Column("held out", "right"),
        Column("acc", "right"),
        Column("time", "right"),
        Column("circuit"),
    ]
    rows: list[tuple[Cell, ...]] = [
        (s.task, target_name(s.target_loss, s.target_k), str(s.seed), f"{s.measured.loss:.4f}",
         f"{s.measured.k:,}", f"{s.measured.n_edges:,}", _optional(s.measured.held_out_loss),
         f"{s.measured.accuracy:.1%}", duration(took[s.id]) if s.id in took else "", s.id[:8])
        for s in circuits
    ]  # fmt: skip
    if not took:
        del headings[8]
        rows = [(*row[:8], row[9]) for row in rows]
    lines = table(headings, rows, width_max=columns) if rows else []
    for f in failures:
        what = f"{f.task}, seed {f.seed}, {target_name(f.target_loss, f.target_k)}"
        text = f"{what}: {f.error.message}" + (f" ({f.error.found})" if f.error.found else "")
        lines.append((Span(truncate(text, columns), color="bad"),))
    if len({s.measured.k for s in circuits}) >= 3:
        lines += [(), *loss_against_k(circuits, columns=columns, ascii_only=ascii_only)]
    return lines


def target_name(target_loss: float | None, target_k: int | None) -> str:
    """What a circuit was cut at: a loss, or a number of nodes."""
    if target_k is not None:
        return f"k {target_k}"
    return "" if target_loss is None else f"{target_loss:g}"


def trial_lines(trials: Sequence[PruneTrial], *, columns: int, limit: int = 10) -> list[Line]:
    """The best tries of a search, smallest circuits first, and how many failed."""
    worked = sorted((t for t in trials if t.k is not None), key=lambda t: (t.k or 0, t.loss or 0.0))
    headings = [Column("task", shrink=True), Column("k", "right"), Column("loss", "right"),
                Column("settings", shrink=True)]  # fmt: skip
    rows = [(t.task, f"{t.k:,}", _optional(t.loss), t.settings_json) for t in worked[:limit]]
    failed = len(trials) - len(worked)
    text = f"{len(trials)} settings were tried"
    text += f", {failed} in vain" if failed else ""
    return [(Span(text, color="dim"),), *(table(headings, rows, width_max=columns) if rows else [])]


def loss_against_k(
    circuits: Sequence[CircuitSummary], *, columns: int, ascii_only: bool
) -> list[Line]:
    """Loss against nodes kept, one curve for each task."""
    tasks = dict.fromkeys(s.task for s in circuits)
    curves = [
        Curve(task, tuple((s.measured.k, s.measured.loss) for s in circuits if s.task == task))
        for task in tasks
    ]
    x, y = Axis("nodes kept", log=True), Axis("loss in nats per side", log=True)
    return plot(curves, x, y, columns=min(columns, 72), ascii_only=ascii_only)


def pruning_curve(curve: Sequence[PruneStep], *, columns: int, ascii_only: bool) -> list[Line]:
    """Loss and nodes kept while pruning, step by step."""
    losses = Curve("loss", tuple((s.step, s.loss) for s in curve))
    sizes = Curve("nodes", tuple((s.step, s.k) for s in curve))
    room = min(72, columns)
    lines = plot([losses], Axis("step"), Axis("loss in nats per side"), columns=room, rows=6,
                 ascii_only=ascii_only)  # fmt: skip
    more = plot([sizes], Axis("step"), Axis("nodes kept", log=True), columns=room, rows=6,
                ascii_only=ascii_only)  # fmt: skip
    return [*lines, (), *more]


def derived_lines(derived: CircuitDerived, origin: str, *, ascii_only: bool = False) -> list[Line]:
    """An edited or combined circuit: its loss before and after, its size, where it is kept."""
    m = derived.circuit.measured
    arrow = "->" if ascii_only else "→"
    color: Named = "bad" if derived.delta > 0 else "good"
    kept = f"saved as {derived.sweep}/{derived.label}" if derived.saved else "not saved"
    return [
        (
            Span(f"loss {m.loss - derived.delta:.4f} {arrow} {m.loss:.4f}", bold=True),
            Span(f"  {derived.delta:+z.4f} nats per side", color=color),
            Span(f", accuracy {m.accuracy:.1%}"),
        ),
        (Span(f"{caption.sizes(m)}, from {origin}"),),
        (Span(f"{derived.circuit_id}, {kept}", color="dim"),),
    ]
