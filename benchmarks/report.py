"""Results as tables for people and as JSON for machines.

A column's key carries its unit as the suffix (`p50_ms`, `rss_mib`), and a goal names the cell it
speaks of, so that both forms say the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from benchmarks.timing import Spread

Cell = float | int | str | Spread | None

_UNITS = {
    "ms": "ms",
    "s": "s",
    "mib": "MiB",
    "kib": "KiB",
    "gib_per_s": "GiB/s",
    "per_s": "1/s",
    "times": "x",
}


@dataclass(frozen=True)
class Goal:
    """What the project set itself for one cell."""

    row: str
    column: str
    limit: float
    sense: Literal["at most", "at least"] = "at most"

    def is_met(self, value: float) -> bool:
        """Whether `value` reaches it."""
        return value <= self.limit if self.sense == "at most" else value >= self.limit


@dataclass(eq=False)
class Table:
    """One table: `columns` are keys, `rows` their cells by the row's name."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: dict[str, dict[str, Cell]] = field(default_factory=dict)
    goals: tuple[Goal, ...] = ()
    notes: list[str] = field(default_factory=list)

    def add(self, row: str, **cells: Cell) -> None:
        """One row; columns it does not name stay empty."""
        if unknown := cells.keys() - set(self.columns):
            raise KeyError(f"table {self.name} has no column {sorted(unknown)}")
        self.rows[row] = cells

    def verdicts(self) -> Iterator[tuple[Goal, float, bool]]:
        """Each goal with the value found and whether that meets it."""
        for goal in self.goals:
            value = self.rows[goal.row][goal.column]
            number = value.median if isinstance(value, Spread) else value
            assert isinstance(number, float | int)  # a goal about text is a mistake of the table
            yield goal, float(number), goal.is_met(float(number))

    def to_json(self) -> dict[str, Any]:
        """Plain values: a spread is a mapping of median, low and high."""
        return {
            "name": self.name,
            "title": self.title,
            "rows": [
                {"row": row, **{k: _plain(v) for k, v in cells.items()}}
                for row, cells in self.rows.items()
            ],
            "goals": [
                {**asdict(goal), "value": value, "met": met} for goal, value, met in self.verdicts()
            ],
            "notes": self.notes,
        }

    def to_markdown(self) -> str:
        """A heading, a table whose columns line up, the goals and the notes."""
        header = ["", *(_heading(column) for column in self.columns)]
        body = [
            [row, *(_text(cells.get(column)) for column in self.columns)]
            for row, cells in self.rows.items()
        ]
        widths = [max(len(line[i]) for line in [header, *body]) for i in range(len(header))]
        rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
        lines = [f"### {self.title}", "", *(_line(row, widths) for row in (header, rule, *body))]
        after = [
            f"- {'Met' if met else '**Missed**'}: {goal.row}, {_heading(goal.column)} "
            f"{goal.sense} {goal.limit:g}; it is {_number(value)}."
            for goal, value, met in self.verdicts()
        ]
        after += [f"- {note}" for note in self.notes]
        return "\n".join([*lines, *([""] if after else []), *after])


def goals_of(tables: Sequence[Table]) -> Table | None:
    """One row for each goal of `tables`, in their order; None where they have none."""
    verdicts = [(table, *verdict) for table in tables for verdict in table.verdicts()]
    if not verdicts:
        return None
    n_met = sum(met for *_, met in verdicts)
    found = Table("goals", f"Goals: {n_met} of {len(verdicts)} met", ("goal", "found", "met"))
    for table, goal, value, met in verdicts:
        found.add(
            f"{table.name}: {goal.row}, {_heading(goal.column)}",
            goal=f"{goal.sense} {goal.limit:g}",
            found=value,
            met="yes" if met else "**no**",
        )
    return found


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = (
        cell.ljust(width) if i == 0 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return f"| {' | '.join([first, *rest])} |"


def _heading(column: str) -> str:
    for suffix in sorted(_UNITS, key=len, reverse=True):
        if column == suffix:
            return _UNITS[suffix]
        if column.endswith(f"_{suffix}"):
            return f"{column.removesuffix(f'_{suffix}').replace('_', ' ')} {_UNITS[suffix]}"
    return column.replace("_", " ")


def _text(cell: Cell) -> str:
    match cell:
        case None:
            return ""
        case str():
            return cell
        case Spread():
            return f"{_number(cell.median)} ({_number(cell.low)}–{_number(cell.high)})"
        case _:
            return _number(cell)


def _number(value: float) -> str:
    """Three significant digits, and whole numbers whole."""
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 3 if abs(value) < 1 else 2 if abs(value) < 10 else 1
    return f"{value:.{digits}f}"


def _plain(cell: Cell) -> Any:
    return asdict(cell) if isinstance(cell, Spread) else cell
