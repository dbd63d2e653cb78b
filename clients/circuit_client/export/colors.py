"""The colours of pictures, as style sheets for light and dark: what a node's delta looks like."""

from circuit_client.render.heat import LEVELS
from circuit_client.render.style import RGB, Theme, letters_on

_BASE: dict[Theme, dict[str, str]] = {
    "light": {
        "paper": "#ffffff",
        "ink": "#1b1f24",
        "faint": "#667079",
        "line": "#c6ccd2",
        "panel": "#f3f5f7",
        "positive": "#b45309",
        "negative": "#1d5fa8",
        "focus": "#7c3aed",
    },
    "dark": {
        "paper": "#14171a",
        "ink": "#e8eaed",
        "faint": "#9aa4ad",
        "line": "#3d454d",
        "panel": "#1d2125",
        "positive": "#f0a04b",
        "negative": "#62a8f0",
        "focus": "#c4a7ff",
    },
}

# Weakest, middle and strongest colour of each sign: orange against blue, as in the terminal, which
# colour-blind eyes tell apart; but smooth, since a picture has all colours there are.
_RAMPS: dict[Theme, dict[int, tuple[RGB, RGB, RGB]]] = {
    "light": {
        +1: ((253, 240, 222), (245, 166, 80), (168, 70, 8)),
        -1: ((226, 239, 252), (100, 166, 232), (22, 74, 140)),
    },
    "dark": {
        +1: ((52, 38, 24), (176, 100, 26), (255, 200, 110)),
        -1: ((22, 40, 58), (34, 112, 182), (150, 212, 255)),
    },
}

#: What the picture looks like apart from its colours.
_SHAPES = """
svg { background: var(--paper); font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas,
  monospace; }
.title { font-size: 17px; font-weight: 700; fill: var(--ink); }
.words { font-size: 12px; fill: var(--ink); }
.faint { font-size: 11px; font-weight: 400; fill: var(--faint); }
.block { font-size: 13px; font-weight: 700; fill: var(--ink); }
.rule { stroke: var(--line); stroke-width: 1; }
.head { fill: var(--panel); stroke: var(--line); stroke-width: 1; }
.node rect { fill: var(--panel); stroke: var(--faint); stroke-width: 1; }
.node text { font-size: 11.5px; fill: var(--ink); text-anchor: middle; }
.node .delta { font-size: 9.5px; }
.swatch { fill: var(--panel); }
.node:focus { outline: none; }
.node:focus rect, .node:hover rect { stroke: var(--focus); stroke-width: 2.5; }
.edge, .carried { fill: none; }
.edge.positive { stroke: var(--positive); }
.edge.negative { stroke: var(--negative); }
.edge:hover { stroke: var(--focus); }
.carried { stroke: var(--faint); stroke-width: 1; stroke-dasharray: 1 4; stroke-linecap: round; }
"""


def style_sheet() -> str:
    """The CSS of a picture: light, or dark where the reader prefers that."""
    dark = "\n".join(f"  {line}" for line in _colors("dark").splitlines())
    return f"{_colors('light')}{_SHAPES}@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n"


def level_class(level: int) -> str:
    """The class of a box whose heat level is `level`; empty for none."""
    return "" if level == 0 else f"{'hot' if level > 0 else 'cold'}{abs(level)}"


def _colors(theme: Theme) -> str:
    names = " ".join(f"--{name}: {value};" for name, value in _BASE[theme].items())
    rules = [f":root {{ color-scheme: {theme}; {names} }}"]
    for level in (*range(-LEVELS, 0), *range(1, LEVELS + 1)):
        color = ramp_color(level, theme)
        name = level_class(level)
        rules.append(f".node.{name} rect, .swatch.{name} {{ fill: {_hex(color)}; }}")
        rules.append(f".node.{name} text {{ fill: {_hex(letters_on(color))}; }}")
    return "\n".join(rules) + "\n"


def ramp_color(level: int, theme: Theme, levels: int = LEVELS) -> RGB:
    """From the weakest colour by the middle one to the strongest, in `levels` even steps."""
    ramp = _RAMPS[theme][1 if level > 0 else -1]
    way = 2 * (abs(level) - 1) / (levels - 1)
    a, b = ramp[:2] if way <= 1 else ramp[1:]
    way -= 0 if way <= 1 else 1
    red, green, blue = (round(x + (y - x) * way) for x, y in zip(a, b, strict=True))
    return red, green, blue


def _hex(color: RGB) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)
