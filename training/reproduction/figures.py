"""The figures: SVG that reads on a light page and on a dark one, in the same bytes every time."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, get_args

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from circuitd.circuits.verify.thresholds import CHANCE
from training.reproduction.measure import TARGET_LOSSES
from training.reproduction.records import Given
from training.reproduction.summary import METHODS, Edges, Summary, geometric_mean

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

#: Mid tones: at least three to one against white and against near black.
GREY = "#808890"
COLOURS = ("#2f81f7", "#d9730d", "#2da44e", "#a371f7", "#c93c8a", "#8a8f98")
STYLE: dict[RcKeyType, Any] = {
    "svg.fonttype": "none",  # text stays text: small, and in the reader's own font
    "svg.hashsalt": "circuitd",  # else ids differ from run to run
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": GREY,
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
Drawing = Callable[[Axes, Summary], None]


def svg(drawing: Drawing, summary: Summary, size: tuple[float, float]) -> bytes:
    """One figure, `size` in inches, as the bytes of an SVG file."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        drawing(figure.add_subplot(), summary)
        into = io.BytesIO()
        figure.savefig(into, format="svg", transparent=True, metadata={"Date": None})
    lines = (line.rstrip() for line in into.getvalue().decode().splitlines())
    return ("\n".join(lines) + "\n").encode()


def twins(axes: Axes, summary: Summary) -> None:
    """Edges against target loss for both twins: each task thin, their geometric mean bold; dashed
    that of the tuned ones.
    """
    for i, name in enumerate(("sparse", "dense")):
        edges = {t: summary.twins(t, "train", tuned=False)[i] for t in TARGET_LOSSES}
        tuned = {t: summary.twins(t, "train", tuned=True)[i] for t in TARGET_LOSSES}
        for task in sorted(set().union(*edges.values())):
            known = [t for t in TARGET_LOSSES if task in edges[t]]
            counts = [max(1, edges[t][task]) for t in known]
            axes.plot(known, counts, color=COLOURS[i], linewidth=0.7, alpha=0.5)
        _mean_line(axes, edges, name, COLOURS[i])
        _mean_line(axes, tuned, f"{name}, best price", COLOURS[i], "--")
    _loss_axis(axes)
    axes.set_ylabel("edges")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4)


def rankings(axes: Axes, summary: Summary) -> None:
    """Edges against held-out loss for each ranking, geometric mean over tasks."""
    per_target = {t: summary.rankings(t, "held_out") for t in TARGET_LOSSES}
    for method, colour in zip(METHODS, COLOURS, strict=True):
        edges = {target: by_method.get(method, {}) for target, by_method in per_target.items()}
        _mean_line(axes, edges, method.replace("_", " "), colour)
    _loss_axis(axes)
    axes.set_xlabel("held-out loss reached, nats per side")
    axes.set_ylabel("edges, geometric mean")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)


def necessity(axes: Axes, summary: Summary) -> None:
    """Loss of the whole model without the circuit, and without as many random other nodes."""
    ablated = summary.ablated()
    rows = range(len(ablated))
    for row, record in zip(rows, ablated.values(), strict=True):
        others = record.losses_without_others
        axes.plot(others, [row] * len(others), "o", color=COLOURS[1], markersize=3, alpha=0.6)
    axes.plot([], [], "o", color=COLOURS[1], markersize=3, label="without random others")
    losses = [record.loss_without for record in ablated.values()]
    axes.plot(losses, list(rows), "D", color=COLOURS[0], label="without the circuit")
    whole = [record.whole_loss for record in ablated.values()]
    axes.plot(whole, list(rows), "|", color=GREY, markersize=12, label="whole model")
    axes.axvline(CHANCE, color=GREY, linestyle=":", linewidth=1)
    axes.annotate("ln 2", (CHANCE, 1), xycoords=("data", "axes fraction"), ha="center")
    _task_axis(axes, ablated)
    axes.set_xlabel("loss, nats per side")
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.14), ncols=3)


def nulls(axes: Axes, summary: Summary) -> None:
    """Nodes needed by the task, by shuffled labels and on random weights, learned by heart; a cross
    at the right edge where no number of nodes reached the target.
    """
    by_given = {given: summary.nulls(given, is_fitted=True) for given in get_args(Given)}
    tasks = sorted(set().union(*by_given.values()))
    for (given, found), colour, marker in zip(by_given.items(), COLOURS, "Dos", strict=False):
        reached = {task: null.n_nodes for task, null in found.items() if null.n_nodes}
        rows = [tasks.index(task) for task in reached]
        axes.plot(list(reached.values()), rows, marker, color=colour, label=given)
        lower = "Dos".index(marker) * 0.15  # crosses of one task would lie on each other
        missed = [tasks.index(t) + lower for t, null in found.items() if null.n_nodes is None]
        right_edge = axes.get_yaxis_transform()
        axes.plot(
            [1.0] * len(missed), missed, "x", color=colour, transform=right_edge, clip_on=False
        )
    axes.set_xscale("log")
    _task_axis(axes, tasks)
    axes.set_xlabel("nodes needed (cross: no number of nodes is enough)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.14), ncols=3)


FIGURES: dict[str, tuple[Drawing, tuple[float, float]]] = {
    "twins": (twins, (6.4, 4.2)),
    "rankings": (rankings, (6.4, 4.2)),
    "necessity": (necessity, (6.4, 4.4)),
    "nulls": (nulls, (6.4, 4.4)),
}


def _mean_line(
    axes: Axes, edges: dict[float, Edges], name: str, colour: str, line: str = "-"
) -> None:
    """The geometric mean over the tasks that every target has; nothing without any."""
    tasks = set.intersection(*(set(by_task) for by_task in edges.values()))
    if tasks:
        means = [geometric_mean(by_task[task] for task in tasks) for by_task in edges.values()]
        style = f"o{line}"
        axes.plot(list(edges), means, style, color=colour, linewidth=2, markersize=4, label=name)


def _loss_axis(axes: Axes) -> None:
    """Small losses, which are hard to reach, to the right."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.invert_xaxis()
    axes.set_xticks(TARGET_LOSSES, [f"{target:g}" for target in TARGET_LOSSES])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("target loss, nats per side")


def _task_axis(axes: Axes, tasks: Iterable[str]) -> None:
    names = list(tasks)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
