"""What the plots show: circuits by size, the curve of a prune, training metrics, settings."""

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from circuit_protocol.circuit_replies import CircuitShown
from circuit_protocol.circuits import CircuitSummary, PruneStep
from circuit_protocol.inspection import TrainingCurvesShown
from circuit_tui.views.table import Cell
from circuit_tui.widgets.plot import Series

#: Metrics that belong on one plot, the best known first.
_TOGETHER = (
    ("test_xent", "train_xent"),
    ("L0", "L0_non_embed"),
)


def sizes(found: Iterable[CircuitSummary]) -> list[Series]:
    """Loss of circuits by their number of nodes, a series for each sweep; held-out loss beside."""
    by_sweep: dict[str, list[CircuitSummary]] = defaultdict(list)
    for summary in found:
        if summary.broken is None:
            by_sweep[summary.sweep].append(summary)
    series: list[Series] = []
    for sweep, some in sorted(by_sweep.items()):
        x = [s.measured.k for s in some]
        series.append(Series.of(sweep, x, [s.measured.loss for s in some], points=True))
        held_out = [s.measured.held_out_loss for s in some]
        if any(y is not None for y in held_out):
            values = [float("nan") if y is None else y for y in held_out]
            series.append(Series.of(f"{sweep}, held out", x, values, points=True))
    return series


def pruning(curve: Sequence[PruneStep]) -> tuple[list[Series], list[Series]]:
    """Loss, and nodes kept, by the step of the prune."""
    steps = [point.step for point in curve]
    return (
        [Series.of("loss", steps, [point.loss for point in curve])] if curve else [],
        [Series.of("nodes kept", steps, [point.k for point in curve])] if curve else [],
    )


def metric_groups(found: TrainingCurvesShown) -> list[tuple[str, ...]]:
    """Names of metrics that are drawn together, the best known first."""
    names = [metric.name for metric in found.metrics]
    groups = [tuple(n for n in group if n in names) for group in _TOGETHER]
    families: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if not any(name in group for group in groups):
            families[name.rpartition("/")[0] or name].append(name)
    return [*(g for g in groups if g), *(tuple(f) for f in families.values())]


def training(found: TrainingCurvesShown, names: Sequence[str]) -> list[Series]:
    """Some metrics by step; a line that has none of a metric leaves no point of it."""
    by_name = {metric.name: metric.values for metric in found.metrics}
    return [
        Series.of(name, found.steps, [float("nan") if v is None else v for v in by_name[name]])
        for name in names
    ]


def settings_lines(shown: CircuitShown) -> list[list[Cell]]:
    """How a circuit was found: everything its provenance says, a line each."""
    found: dict[str, Any] = msgspec.to_builtins(shown.circuit.found)
    lines: list[list[Cell]] = []

    def say(name: str, value: Any, depth: int) -> None:
        if isinstance(value, dict):
            lines.append([Cell("  " * depth + name, "strong")])
            for inner, item in value.items():
                say(inner, item, depth + 1)
            return
        if isinstance(value, float):
            value = f"{value:.6g}"
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        lines.append([Cell("  " * depth + f"{name}  ", "dim"), Cell(text)])

    if shown.circuit.found.settings is not None:
        # Defaults are left out of messages, and are what one wants to read here.
        found["settings"] = msgspec.structs.asdict(shown.circuit.found.settings)
    if "created_at_s" in found:
        made = time.localtime(found.pop("created_at_s"))
        found["created"] = time.strftime("%Y-%m-%d %H:%M", made)
    for name, value in found.items():
        say(name, value, 0)
    return lines
