"""A circuit for graph programs: GraphML (networkx, Gephi, yEd) and DOT (Graphviz)."""

from xml.etree import ElementTree

from circuit_client import caption
from circuit_client.export.markup import clean
from circuit_client.graph import Graph, graph_of, place_of
from circuit_protocol.circuit_replies import CircuitShown

_NAMESPACE = "http://graphml.graphdrawing.org/xmlns"
_KEYS = {
    ("graph", "model"): "string",
    ("graph", "task"): "string",
    ("graph", "circuit"): "string",
    ("graph", "loss"): "double",
    ("node", "site"): "string",
    ("node", "layer"): "int",
    ("node", "channel"): "int",
    ("node", "head"): "int",
    ("node", "delta"): "double",
    ("edge", "weight"): "double",
    ("edge", "delta"): "double",
}


def to_graphml(shown: CircuitShown, *, d_head: int | None = None) -> str:
    """Nodes named as in the notation of nodes, with site, layer, channel, head and delta (nats)."""
    graph = graph_of(shown, d_head=d_head)
    root = ElementTree.Element("graphml", xmlns=_NAMESPACE)
    for (of, name), kind in _KEYS.items():
        key = {"id": f"{of}.{name}", "for": of, "attr.name": name, "attr.type": kind}
        ElementTree.SubElement(root, "key", key)
    whole = ElementTree.SubElement(root, "graph", id="circuit", edgedefault="directed")
    _data(whole, "graph", model=shown.circuit.model, task=shown.circuit.task,
          circuit=shown.summary.id, loss=shown.circuit.measured.loss)  # fmt: skip
    for node in graph.nodes:
        element = ElementTree.SubElement(whole, "node", id=clean(node.name))
        layer = place_of(node.site).layer
        _data(element, "node", site=node.site, layer=layer, channel=node.channel, head=node.head,
              delta=node.delta)  # fmt: skip
    for edge in graph.edges:
        ends = {
            "source": clean(graph.nodes[edge.source].name),
            "target": clean(graph.nodes[edge.target].name),
        }
        element = ElementTree.SubElement(whole, "edge", ends)
        _data(element, "edge", weight=edge.weight, delta=edge.delta)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _data(element: ElementTree.Element, of: str, **values: str | float | None) -> None:
    for name, value in values.items():
        if value is not None:
            data = ElementTree.SubElement(element, "data", key=f"{of}.{name}")
            data.text = clean(value) if isinstance(value, str) else repr(value)


def to_dot(shown: CircuitShown, *, d_head: int | None = None) -> str:
    """A digraph with one rank per site; red edges have negative weights, dotted ones are none.

    The dotted ones show what the residual stream carries, so that the drawing holds together.
    """
    graph = graph_of(shown, d_head=d_head)
    label = f"{caption.title(shown)}: {caption.sizes(shown.circuit.measured)}"
    lines = [
        "digraph circuit {",
        f"  label={_quoted(label)}; labelloc=t; rankdir=TB;",
        '  node [shape=box, style="rounded", fontname="monospace"];',
    ]
    for site, nodes in graph.by_site.items():
        lines.append("  { rank=same;")
        lines += [f"    {_node(graph, i, site)}" for i in nodes]
        lines.append("  }")
    top = max((abs(e.delta) for e in graph.edges if e.delta is not None), default=0.0)
    for edge in graph.edges:
        width = 1.0 if edge.delta is None or top == 0 else 0.5 + 3.5 * abs(edge.delta) / top
        color = "#b03a2e" if edge.weight < 0 else "#1f618d"
        tip = f"weight {edge.weight:+.4g}"
        tip += "" if edge.delta is None else f", {edge.delta:+.4g} nats when cut"
        lines.append(
            f"  n{edge.source} -> n{edge.target} "
            f'[color="{color}", penwidth={width:.2f}, tooltip={_quoted(tip)}];'
        )
    for writer, reader in graph.carried:
        lines.append(f'  n{writer} -> n{reader} [style=dotted, arrowhead=none, color="#888888"];')
    return "\n".join([*lines, "}", ""])


def _node(graph: Graph, i: int, site: str) -> str:
    node = graph.nodes[i]
    delta = "" if node.delta is None else f"\n{node.delta:+z.3f}"
    label = f"{site}\n{node.label}{delta}"
    return f"n{i} [label={_quoted(label)}];"


def _quoted(text: str) -> str:
    """A double-quoted string of DOT: only quotes and backslashes mean anything, and line ends."""
    plain = clean(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{plain}"'
