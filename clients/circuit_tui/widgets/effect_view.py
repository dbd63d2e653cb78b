"""What switching does: loss and accuracy, both answers' logits, and the change of every token."""

from collections.abc import Callable

import numpy as np
from textual.app import ComposeResult
from textual.containers import Vertical

from circuit_client.render.heat import scale_for
from circuit_tui.effect import Effect, Score, Side, changes
from circuit_tui.names import TokenNames
from circuit_tui.paint.glyphs import glyphs
from circuit_tui.paint.look import Look
from circuit_tui.paint.tokens import token_text
from circuit_tui.views.table import Cell
from circuit_tui.widgets.lines import Lines
from circuit_tui.widgets.token_heat import TokenHeat


class EffectView(Vertical):
    """Two lines of numbers, then the two prompts of a pair with what each token's loss became."""

    DEFAULT_CSS = """
    EffectView { height: 1fr; }
    EffectView TokenHeat { height: 1fr; margin: 0 1; }
    """

    def __init__(self, *, look: Look, id: str | None = None) -> None:
        super().__init__(id=id)
        self._look = look

    def compose(self) -> ComposeResult:
        """Numbers and tokens."""
        yield Lines(look=self._look, height=1, id="effect-score")
        for n in (1, 2):
            yield Lines(look=self._look, height=1, id=f"effect-side-{n}")
            heat = TokenHeat(look=self._look, unit="nats", id=f"effect-tokens-{n}")
            heat.add_class("painted")
            yield heat

    def show(self, effect: Effect, names: TokenNames, *, switched: str) -> None:
        """Show another effect."""
        self.query_one("#effect-score", Lines).show([score_line(effect, self._look, switched)])
        has_change = bool(effect.sides_now) and bool(effect.sides_found)
        sides = effect.sides_now if has_change else effect.sides_found
        values: list[np.ndarray] = []
        for n, side in enumerate(sides):
            of = changes(side, effect.sides_found[n]) if has_change else side.losses
            values.append(np.array(of, np.float32))
        finite = [abs(float(x)) for v in values for x in v if np.isfinite(x)]
        kind = "diverging" if has_change else "sequential"
        unit = "nats more" if has_change else "nats"
        scale = scale_for(finite, kind, unit)
        for n in (1, 2):
            line = self.query_one(f"#effect-side-{n}", Lines)
            tokens = self.query_one(f"#effect-tokens-{n}", TokenHeat)
            if n > len(sides):
                why, tone = effect.no_example, "bad" if effect.no_example else "dim"
                text = f" no example: {why}" if why else " waiting for an example"
                line.show([[Cell(text, tone)]] if n == 1 else [])
                tokens.show([], [])
                continue
            side = sides[n - 1]
            found = effect.sides_found[n - 1] if has_change else None
            line.show([side_line(side, found, names.__getitem__, self._look)])
            tokens.show(names.of(side.tokens), values[n - 1], scale=scale)


def what_colours_mean(effect: Effect) -> str:
    """What the colours of the tokens say."""
    if not effect.sides_found:
        return ""
    if effect.sides_now:
        return "colour: change of each token's loss by what is switched, nats"
    return "colour: loss of each token in the circuit, nats"


def score_line(effect: Effect, look: Look, switched: str) -> list[Cell]:
    """Loss and accuracy, before and after."""
    found, now = effect.found, effect.now
    if found is None:
        return [Cell(" no circuit", "dim")]
    arrow = "->" if look.ascii_only else "→"
    line = [Cell(" loss ", "dim"), Cell(f"{found.loss:.3f}", "strong")]
    if now is not None:
        delta = now.loss - found.loss
        tone = "bad" if delta > 0.02 else "good" if delta < -0.02 else "dim"
        line += [Cell(f" {arrow} ", "dim"), Cell(f"{now.loss:.3f}", "strong")]
        line.append(Cell(f" ({delta:+.3f})", tone))
    line += [Cell("   accuracy ", "dim"), *_accuracy(found, now, arrow)]
    if effect.refused:
        line.append(Cell(f"   {effect.refused}", "bad"))
    elif switched:
        line.append(Cell(f"   {switched}", "note"))
    pairs = (now or found).n_pairs
    line.append(Cell(f"   on {pairs} pairs" if pairs else "", "dim"))
    return line


def _accuracy(found: Score, now: Score | None, arrow: str) -> list[Cell]:
    def said(score: Score) -> str:
        return "?" if score.accuracy is None else f"{score.accuracy:.1%}"

    if now is None:
        return [Cell(said(found), "strong")]
    return [Cell(said(found)), Cell(f" {arrow} ", "dim"), Cell(said(now), "strong")]


def side_line(
    side: Side, found: Side | None, name: Callable[[int], bytes], look: Look
) -> list[Cell]:
    """The two answers' logits, right one first, and what comes likeliest."""
    arrow = "->" if look.ascii_only else "→"
    tick = glyphs(look).yes if side.right_logit > side.wrong_logit else glyphs(look).no

    def quoted(token: int) -> str:
        return (
            f"“{token_text(name(token), look.ascii_only)}”"
            if not look.ascii_only
            else (f'"{token_text(name(token), True)}"')
        )

    def logit(now: float, before: float | None) -> list[Cell]:
        if before is None or abs(now - before) < 0.005:
            return [Cell(f" {now:+.2f}", "strong")]
        return [Cell(f" {before:+.2f} {arrow}", "dim"), Cell(f" {now:+.2f}", "strong")]

    line = [Cell(f" {tick} ", "good" if side.right_logit > side.wrong_logit else "bad")]
    line += [Cell("right ", "dim"), Cell(quoted(side.right))]
    line += logit(side.right_logit, found.right_logit if found else None)
    line += [Cell("   wrong ", "dim"), Cell(quoted(side.wrong))]
    line += logit(side.wrong_logit, found.wrong_logit if found else None)
    if side.top:
        line.append(Cell("   next ", "dim"))
        line += [Cell(f" {quoted(t)} {p:.0%}", "dim") for t, p in side.top]
    return line
