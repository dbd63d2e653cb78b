"""The tables of the compare page."""

from typing import Final

from circuit_client.render.heat import Scale
from circuit_client.views.comparison import ComparedNode, Comparison
from circuit_tui.views.table import Cell, Column, Row, Tone

COLUMNS: Final = (
    Column("node", shrink=True, least=14),
    Column("A", "right"),
    Column("B", "right"),
    Column("change", "right"),
    Column("kept by", optional=True),
)
_MARKS: Final = {"left": "-", "right": "+", "both": " "}
_TONES: Final[dict[str, Tone]] = {"left": "bad", "right": "good", "both": "plain"}
_WORDS: Final = {"left": "A only", "right": "B only", "both": "both"}


def comparison_rows(comparison: Comparison, scale: Scale) -> list[Row]:
    """Nodes of either circuit, the largest changes first."""
    return [_row(node, scale) for node in comparison.nodes]


def _row(node: ComparedNode, scale: Scale) -> Row:
    name = f"{node.site}[{node.channel}]"
    cells = (
        Cell(name, _TONES[node.where]),
        _delta(node.left, scale, is_kept=node.where != "right"),
        _delta(node.right, scale, is_kept=node.where != "left"),
        _delta(node.change, scale, is_kept=True),
        Cell(_WORDS[node.where], "dim"),
    )
    return Row(name, cells, _MARKS[node.where])


def _delta(delta: float | None, scale: Scale, *, is_kept: bool) -> Cell:
    if not is_kept:
        return Cell("·", "dim")
    return Cell("?", "dim") if delta is None else Cell(f"{delta:+z.3f}", level=scale.level(delta))


def share_line(comparison: Comparison) -> list[Cell]:
    """How much two circuits share."""
    if comparison.jaccard is None:
        return [Cell(" of two models: their sites are compared, their channels are not", "dim")]
    return [
        Cell(f"  {comparison.n_both} in both", "strong"),
        Cell(f"  {comparison.n_left_only} in A only", "bad"),
        Cell(f"  {comparison.n_right_only} in B only", "good"),
        Cell(f"  Jaccard {comparison.jaccard:.2f}", "dim"),
    ]
