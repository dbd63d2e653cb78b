"""A circuit as one self-contained HTML page: the picture, its tables, and a little script.

The page asks for nothing: its content policy allows only its own style and script, by their hashes.
Hovering or focusing a node shows what it is joined to, arrow keys walk along, a slider hides weak
edges. Without script it is a picture with tables below.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence

from circuit_client import caption
from circuit_client.export.colors import style_sheet
from circuit_client.export.markup import escaped
from circuit_client.export.svg import picture
from circuit_client.graph import Graph, graph_of, strongest_first
from circuit_protocol.circuit_replies import CircuitShown
from circuit_protocol.circuits import Card

_PAGE_STYLE = """
body { margin: 1.2rem; background: var(--paper); color: var(--ink);
  font-family: system-ui, sans-serif; line-height: 1.45; }
figure { margin: 0; overflow: auto; }
.controls { display: flex; flex-wrap: wrap; gap: .4rem 1.6rem; align-items: center;
  padding: .6rem 0; border-bottom: 1px solid var(--line); }
.controls label { display: inline-flex; gap: .5rem; align-items: center; }
output { font-family: ui-monospace, monospace; min-width: 9ch; }
.gone, .without-carried .carried[data-source] { display: none; }
.looking [data-source] { opacity: .08; }
.looking .node { opacity: .25; }
.looking .node.near { opacity: 1; }
.looking [data-source].near { opacity: 1; stroke-opacity: 1; }
table { border-collapse: collapse; margin: .5rem 0; }
th, td { text-align: left; padding: .15rem .8rem .15rem 0; font-size: .9rem;
  border-bottom: 1px solid var(--line); }
td.number { text-align: right; font-family: ui-monospace, monospace; }
summary { cursor: pointer; font-weight: 600; margin-top: 1rem; }
:focus-visible { outline: 2px solid var(--focus); outline-offset: 2px; }
.faint { color: var(--faint); }
"""

_SCRIPT = """
"use strict";
const svg = document.querySelector("svg");
const nodes = new Map([...svg.querySelectorAll("[data-node]")].map(e => [e.dataset.node, e]));
const lines = [...svg.querySelectorAll("[data-source]")];
const edges = lines.filter(e => e.dataset.delta !== undefined);
const slider = document.getElementById("least");
const count = document.getElementById("count");

function touching(id) {
  return lines.filter(e => !e.classList.contains("gone")
    && (e.dataset.source === id || e.dataset.target === id));
}
function look(id) {
  forget();
  svg.classList.add("looking");
  nodes.get(id).classList.add("near");
  for (const line of touching(id)) {
    line.classList.add("near");
    nodes.get(line.dataset.source).classList.add("near");
    nodes.get(line.dataset.target).classList.add("near");
  }
}
function forget() {
  svg.classList.remove("looking");
  svg.querySelectorAll(".near").forEach(e => e.classList.remove("near"));
}
function strongest(id, from, to) {
  const found = touching(id).filter(e => e.dataset[from] === id)
    .sort((a, b) => (b.dataset.delta ?? -1) - (a.dataset.delta ?? -1));
  return found.length ? found[0].dataset[to] : undefined;
}
function beside(id, step) {
  return String(Number(id) + step);
}
for (const [id, node] of nodes) {
  node.addEventListener("pointerenter", () => look(id));
  node.addEventListener("pointerleave", forget);
  node.addEventListener("focus", () => look(id));
  node.addEventListener("blur", forget);
  node.addEventListener("keydown", event => {
    const next = {
      ArrowDown: () => strongest(id, "source", "target"),
      ArrowUp: () => strongest(id, "target", "source"),
      ArrowLeft: () => beside(id, -1),
      ArrowRight: () => beside(id, 1),
    }[event.key]?.();
    if (event.key === "Escape") node.blur();
    if (next === undefined || !nodes.has(next)) return;
    event.preventDefault();
    nodes.get(next).focus();
  });
}
function sift() {
  // The slider's place is the share of edges hidden, weakest first.
  const least = Number(slider.value) / 100;
  const sorted = edges.map(e => Number(e.dataset.delta)).sort((a, b) => a - b);
  const limit = sorted[Math.min(sorted.length - 1, Math.floor(least * sorted.length))];
  let shown = 0;
  for (const edge of edges) {
    const gone = Number(edge.dataset.delta) < limit;
    edge.classList.toggle("gone", gone);
    shown += gone ? 0 : 1;
  }
  count.textContent = `${shown} of ${edges.length}, from ${limit.toPrecision(2)} nats`;
}
if (slider) {
  slider.addEventListener("input", sift);
  sift();
}
document.getElementById("carried")?.addEventListener("change", event =>
  svg.classList.toggle("without-carried", !event.target.checked));
"""


def to_html(shown: CircuitShown, *, d_head: int | None = None) -> str:
    """The page as one file."""
    graph = graph_of(shown, d_head=d_head)
    style = style_sheet() + _PAGE_STYLE
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(_SCRIPT)}; "
        "base-uri 'none'; form-action 'none'"
    )
    title = escaped(caption.title(shown))
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
        f'<meta http-equiv="Content-Security-Policy" content="{escaped(policy)}">\n',
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
        f"<title>{title}</title>\n<style>{style}</style>\n</head>\n<body>\n<main>\n",
        *_controls(graph),
        f"<figure>\n{picture(shown, d_head=d_head)}</figure>\n",
        *_card(shown.card),
        *_tables(graph),
        f"</main>\n<script>{_SCRIPT}</script>\n</body>\n</html>\n",
    ]
    return "".join(parts)


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _controls(graph: Graph) -> Iterator[str]:
    yield '<div class="controls">\n'
    if any(e.delta is not None for e in graph.edges):
        yield (
            '<label for="least">hide weak edges '
            '<input id="least" type="range" min="0" max="99" step="1" value="0"></label>\n'
            '<output id="count" for="least"></output>\n'
        )
    if graph.carried:
        yield (
            '<label><input id="carried" type="checkbox" checked> '
            "what the residual stream carries</label>\n"
        )
    yield (
        '<span class="faint">hover or focus a node for its edges; '
        "arrow keys: up and down along the strongest edge, left and right to the next node</span>\n"
        "</div>\n"
    )


def _card(card: Card | None) -> Iterator[str]:
    if card is None:
        return
    depends = f" on {', '.join(card.depends_on)}" if card.depends_on else ""
    yield f"<h2>Verdict: {escaped(card.verdict + depends)}</h2>\n<ul>\n"
    yield from (f"<li>{escaped(reason)}</li>\n" for reason in card.reasons)
    yield "</ul>\n"
    words = {True: "pass", False: "fail", None: "open"}
    rows = ((words[c.passed], c.name.replace("_", " "), c.sentence) for c in card.controls)
    yield from _table("Controls", ("", "control", "what it says"), rows, numbers=())


def _tables(graph: Graph) -> Iterator[str]:
    nodes = (graph.nodes[i] for i in strongest_first(graph, range(len(graph.nodes))))
    rows = ((n.name, n.label, "" if n.delta is None else f"{n.delta:+z.4f}") for n in nodes)
    names = ("node", "channel", "nats when ablated")
    yield from _table(f"Nodes ({len(graph.nodes)})", names, rows, numbers=(1, 2))
    edges = sorted(graph.edges, key=lambda e: e.strength, reverse=True)
    lines = (
        (
            graph.nodes[e.source].name,
            graph.nodes[e.target].name,
            f"{e.weight:+.4g}",
            "" if e.delta is None else f"{e.delta:+z.4f}",
        )
        for e in edges
    )
    columns = ("from", "to", "weight", "nats when cut")
    if edges:
        yield from _table(f"Edges ({len(edges)})", columns, lines, numbers=(2, 3))


def _table(
    name: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int]
) -> Iterator[str]:
    yield f"<details><summary>{escaped(name)}</summary>\n<table>\n<thead><tr>"
    yield "".join(f'<th scope="col">{escaped(c)}</th>' for c in columns)
    yield "</tr></thead>\n<tbody>\n"
    for row in rows:
        cells = (
            f'<td class="number">{escaped(c)}</td>' if i in numbers else f"<td>{escaped(c)}</td>"
            for i, c in enumerate(row)
        )
        yield f"<tr>{''.join(cells)}</tr>\n"
    yield "</tbody>\n</table>\n</details>\n"
