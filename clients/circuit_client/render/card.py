"""A verification card in lines: the verdict, then why, then every control with its numbers."""

from circuit_client import caption
from circuit_client.render.heat import number
from circuit_client.render.style import Line, Named, Span
from circuit_client.render.table import Cell, Column, duration, table
from circuit_client.render.text_width import width
from circuit_protocol.circuit_replies import CircuitShown
from circuit_protocol.circuits import Card, Control, Measurement, Verdict

_COLORS: dict[Verdict, Named] = {"supported": "good", "not supported": "bad", "depends": "note"}
_WORDS = {True: "pass", False: "FAIL", None: "open"}
_MARKS = {True: "✓", False: "✗", None: "?"}
_MARK_COLORS: dict[bool | None, Named] = {True: "good", False: "bad", None: "note"}


def card_head(shown: CircuitShown) -> list[Line]:
    """What stands above a card: of which circuit it is."""
    measured = shown.circuit.measured
    return [
        (Span(caption.title(shown), bold=True),),
        (Span(f"{caption.sizes(measured)}; {caption.numbers(measured)}"),),
        (Span(caption.how(shown), color="dim"),),
    ]


def card_lines(card: Card, *, columns: int, ascii_only: bool = False) -> list[Line]:
    """The card in lines no wider than `columns`."""
    lines: list[Line] = [_verdict(card)]
    bullet = "- " if ascii_only else "• "
    for reason in card.reasons:
        lines += _wrapped(reason, columns, first=f"  {bullet}", rest="    ")
    lines.append(())
    for control in card.controls:
        lines += _control(control, columns=columns, ascii_only=ascii_only)
    rows: list[tuple[Cell, ...]] = [
        (control.name.replace("_", " ") if i == 0 else "", m.name, _value(m), _interval(m))
        for control in card.controls
        for i, m in enumerate(control.measurements)
    ]
    if rows:
        headings = [
            Column("control", shrink=True),
            Column("measured", shrink=True),
            Column("value", "right"),
            Column("interval", shrink=True),
        ]
        lines += [(), *table(headings, rows, width_max=columns)]
    passed = sum(c.passed is True for c in card.controls)
    failed = sum(c.passed is False for c in card.controls)
    text = (
        f"{passed} passed, {failed} failed, {len(card.controls) - passed - failed} open; "
        f"{card.settings.n_pairs} pairs, seed {card.settings.seed}, {duration(card.seconds)}"
    )
    return [*lines, (), *_wrapped(text, columns, color="dim")]


def _verdict(card: Card) -> Line:
    text = card.verdict.upper() if card.verdict != "depends" else "DEPENDS"
    spans = [Span(text, color=_COLORS[card.verdict], bold=True)]
    if card.depends_on:
        spans.append(Span(f" on {', '.join(card.depends_on)}", color=_COLORS[card.verdict]))
    return (*spans, Span(f"  circuit {card.circuit}", color="dim"))


def _control(control: Control, *, columns: int, ascii_only: bool = False) -> list[Line]:
    """One control: whether it passed, its name, its sentence."""
    word = _WORDS[control.passed]
    mark = word if ascii_only else f"{_MARKS[control.passed]} {word}"
    name = control.name.replace("_", " ")
    indent = width(mark) + 2
    head = f"{name}: " if control.sentence else name
    lines = _wrapped(head + control.sentence, columns - indent)
    first = (Span(mark + "  ", color=_MARK_COLORS[control.passed], bold=True), *lines[0])
    return [first, *((Span(" " * indent), *line) for line in lines[1:])]


def _value(m: Measurement) -> str:
    match m.unit:
        case "share":
            return f"{m.value:.1%}"
        case "nodes" | "edges":
            return f"{m.value:,.0f} {m.unit}"
        case "nats":
            return f"{m.value:.4f} nats"
        case "ratio":
            return number(m.value)


def _interval(m: Measurement) -> str:
    if m.interval is None:
        return ""
    low, high = m.interval.low, m.interval.high
    if m.unit == "share":
        return f"{low:.1%} to {high:.1%} ({m.interval.level:.0%})"
    return f"{number(low)} to {number(high)} ({m.interval.level:.0%})"


def _wrapped(
    text: str, columns: int, *, first: str = "", rest: str = "", color: Named | None = None
) -> list[Line]:
    """`text` broken between words; a word longer than a line is broken within."""
    from textwrap import wrap

    pieces = wrap(text, max(8, columns), initial_indent=first, subsequent_indent=rest)
    return [(Span(piece, color=color),) for piece in pieces or [first]]
