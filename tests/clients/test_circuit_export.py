"""Circuits as files: data that is read back, graphs that other programs parse, pictures."""

import csv
import hashlib
import io
import json
import re
from base64 import b64encode
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import networkx
import pytest

from circuit_client.export.documents import edges_csv, nodes_csv, to_json
from circuit_client.export.formats import TEXT_FORMATS, write
from circuit_client.export.graphs import to_dot, to_graphml
from circuit_client.export.layout import BOX_HEIGHT, Layout, lay_out
from circuit_client.export.page import to_html
from circuit_client.export.svg import to_svg
from circuit_client.graph import graph_of, place_of
from circuit_client.verbs.circuit_files import import_file
from circuit_protocol.circuit_replies import CircuitShown
from made_circuits import circuit_card, quote_circuit, random_circuit, shown_of

QUOTE = quote_circuit(card=circuit_card())
LARGE = random_circuit(300)
HOSTILE = "<script>alert(1)</script> & \"quotes' \x00\x1b ]]> \\ \u202e 你"
SVG = "{http://www.w3.org/2000/svg}"


def hostile() -> CircuitShown:
    nodes = {"0.mlp.act_in": (1,), "0.mlp.post_act": (2,), HOSTILE: (3,)}
    edges = [("0.mlp.act_in", 1, "0.mlp.post_act", 2, 1.0, 0.5)]
    return shown_of(nodes, edges, task=HOSTILE, model=HOSTILE)


def unmeasured() -> CircuitShown:
    return msgspec.structs.replace(QUOTE, details=None)


def empty() -> CircuitShown:
    return shown_of({}, [])


# --------------------------------------------------------------------------------------- data


def test_json_is_imported_again_as_the_very_circuit(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text(to_json(QUOTE))
    request = import_file(file).request
    assert request.circuit == QUOTE.circuit  # pyright: ignore
    assert json.loads(file.read_text())["card"]["verdict"] == "not supported"
    file.write_bytes(msgspec.json.encode(QUOTE.circuit))
    assert import_file(file).request.circuit == QUOTE.circuit  # pyright: ignore


def test_csv_has_every_node_and_edge_once() -> None:
    nodes = list(csv.DictReader(io.StringIO(nodes_csv(LARGE, d_head=16))))
    kept = {(s.site, c) for s in LARGE.circuit.nodes for c in s.channels or ()}
    assert {(n["site"], int(n["channel"])) for n in nodes} == kept
    assert len(nodes) == len(kept)
    for n in nodes:
        is_head = place_of(n["site"]).kind in ("attn.q", "attn.k", "attn.v")
        assert bool(n["head"]) == is_head
        if is_head:
            assert int(n["head"]) * 16 + int(n["head_channel"]) == int(n["channel"])
    edges = list(csv.DictReader(io.StringIO(edges_csv(LARGE))))
    assert len(edges) == LARGE.circuit.measured.n_edges
    assert LARGE.details is not None
    group = LARGE.details.edges[0]
    first = next(
        e for e in edges
        if (e["source"], e["target"]) == (group.source, group.target)
        and int(e["source_channel"]) == group.source_channels[0]
        and int(e["target_channel"]) == group.target_channels[0]
    )  # fmt: skip
    assert float(first["weight"]) == group.weights[0]
    assert float(first["delta"]) == group.deltas[0]


@pytest.mark.parametrize("form", TEXT_FORMATS)
@pytest.mark.parametrize("make", [hostile, unmeasured, empty])
def test_every_format_writes_every_circuit(form: str, make: object) -> None:
    assert write(make(), form, d_head=8)  # pyright: ignore


# ------------------------------------------------------------------------------------- graphs


def test_graphml_is_read_by_another_program() -> None:
    found = networkx.parse_graphml(to_graphml(LARGE, d_head=16))
    assert isinstance(found, networkx.DiGraph)
    assert found.number_of_nodes() == LARGE.circuit.measured.k
    assert found.number_of_edges() == LARGE.circuit.measured.n_edges
    graph = graph_of(LARGE, d_head=16)
    for edge in graph.edges:
        data = found.edges[graph.nodes[edge.source].name, graph.nodes[edge.target].name]
        assert data == {"weight": edge.weight, "delta": edge.delta}
    node = found.nodes["0.attn.q[48]"] if "0.attn.q[48]" in found else None
    assert node is None or node["head"] == 3


def test_graphml_escapes_what_it_is_given() -> None:
    root = ElementTree.fromstring(to_graphml(hostile()))
    assert root.tag.endswith("graphml")
    assert len(root.findall(".//{*}node")) == 3


def test_dot_has_every_node_and_edge_and_keeps_strings_closed() -> None:
    out = to_dot(LARGE, d_head=16)
    graph = graph_of(LARGE)
    assert len(re.findall(r"^    n\d+ \[", out, re.MULTILINE)) == len(graph.nodes)
    assert len(re.findall(r"-> n\d+ \[color=", out)) == len(graph.edges)
    assert out.count("style=dotted") == len(graph.carried)
    nasty = to_dot(hostile())
    unquoted = re.sub(r'"(?:[^"\\]|\\.)*"', "", nasty)
    assert "alert" not in unquoted
    assert "\x00" not in nasty


# ------------------------------------------------------------------------------------- layout


def overlaps(layout: Layout) -> list[tuple[int, int]]:
    def rectangle(i: int) -> tuple[float, float, float, float]:
        b = layout.boxes[i]
        return b.x - b.width / 2, b.y, b.x + b.width / 2, b.y + BOX_HEIGHT

    found = []
    for i, j in combinations(range(len(layout.boxes)), 2):
        a, b = rectangle(i), rectangle(j)
        if a[0] < b[2] - 1e-6 and b[0] < a[2] - 1e-6 and a[1] < b[3] and b[1] < a[3]:
            found.append((i, j))
    return found


@pytest.mark.parametrize("n_nodes", [12, 60, 300])
@pytest.mark.parametrize("d_head", [16, None])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_two_boxes_overlap_and_all_lie_within(
    n_nodes: int, d_head: int | None, seed: int
) -> None:
    layout = lay_out(graph_of(random_circuit(n_nodes, seed=seed), d_head=d_head))
    assert overlaps(layout) == []
    for box in layout.boxes:
        assert box.x - box.width / 2 >= -1e-6
        assert box.x + box.width / 2 <= layout.width + 1e-6
        assert box.y + BOX_HEIGHT <= layout.height + 1e-6


def test_labels_fit_their_boxes() -> None:
    layout = lay_out(graph_of(LARGE, d_head=16))
    # A monospaced letter of 11.5 px is at most 7 px wide, one of 9.5 px 6 px.
    for box, node in zip(layout.boxes, graph_of(LARGE, d_head=16).nodes, strict=True):
        assert 7 * len(box.text) <= box.width
        assert node.delta is None or 5.8 * len(f"{node.delta:+.3f}") <= box.width


def test_edges_point_down_and_heads_stay_together() -> None:
    graph = graph_of(LARGE, d_head=16)
    layout = lay_out(graph)
    for edge in graph.edges:
        assert layout.boxes[edge.source].y + BOX_HEIGHT < layout.boxes[edge.target].y
    for rank in layout.ranks:
        for row in rank.rows:
            places = [[layout.boxes[i].x for i in group.nodes] for group in row]
            flat = [x for group in places for x in group]
            assert flat == sorted(flat)


def test_edges_are_shorter_than_in_the_order_of_the_channels() -> None:
    graph = graph_of(random_circuit(150), d_head=16)
    layout = lay_out(graph)

    def length(x: list[float]) -> float:
        return sum(abs(x[e.source] - x[e.target]) for e in graph.edges)

    plain = [0.0] * len(graph.nodes)
    for nodes in graph.by_site.values():
        for place, i in enumerate(nodes):
            plain[i] = (place - len(nodes) / 2) * 50.0
    assert length([b.x for b in layout.boxes]) < 0.7 * length(plain)


# ----------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("shown", [QUOTE, LARGE, hostile(), unmeasured(), empty()])
def test_svg_is_well_formed_with_every_node_and_edge_once(shown: CircuitShown) -> None:
    root = ElementTree.fromstring(to_svg(shown, d_head=16).encode())
    graph = graph_of(shown, d_head=16)
    nodes = [g for g in root.iter(f"{SVG}g") if g.get("data-node")]
    assert sorted(int(g.get("data-node", "")) for g in nodes) == list(range(len(graph.nodes)))
    edges = [p for p in root.iter(f"{SVG}path") if p.get("data-delta")]
    ends = sorted((int(p.get("data-source", "")), int(p.get("data-target", ""))) for p in edges)
    assert ends == sorted((e.source, e.target) for e in graph.edges)
    assert all(p.find(f"{SVG}title") is not None for p in edges)
    assert all(g.find(f"{SVG}title") is not None for g in nodes)
    assert not list(root.iter(f"{SVG}script"))


def test_a_wider_edge_matters_more_and_a_sign_has_its_class() -> None:
    root = ElementTree.fromstring(to_svg(QUOTE, d_head=8).encode())
    paths = [p for p in root.iter(f"{SVG}path") if p.get("data-delta")]
    by_delta = sorted(paths, key=lambda p: float(p.get("data-delta", "")))
    widths = [float(p.get("stroke-width", "")) for p in by_delta]
    assert widths == sorted(widths)
    graph = graph_of(QUOTE, d_head=8)
    weights = {(e.source, e.target): e.weight for e in graph.edges}
    for p in paths:
        weight = weights[int(p.get("data-source", "")), int(p.get("data-target", ""))]
        assert ("negative" in p.get("class", "")) == (weight < 0)


def test_the_picture_says_what_it_is() -> None:
    words = " ".join(ElementTree.fromstring(to_svg(QUOTE, d_head=8).encode()).itertext())
    for part in ("single_double_quote in csd-py-sparse", "12 nodes, 9 edges", "loss 0.149",
                 "layer 10 attention", "h82", "nats when ablated", "verdict: not supported",
                 "weight > 0", "10.attn.q[657] (head 82)"):  # fmt: skip
        assert part in words


@pytest.mark.parametrize("form", ["svg", "html"])
def test_pictures_ask_the_network_for_nothing(form: str) -> None:
    out = write(QUOTE, form)  # pyright: ignore
    addresses = set(re.findall(r"https?://[^\"' )]+", out))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|url\(|<link|<img|<iframe|\ssrc=|\sstyle=|\son\w+=", out)
    assert "prefers-color-scheme: dark" in out


class Page(HTMLParser):
    """The elements of a page, and the text of its style, script and policy."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.texts: dict[str, str] = {}
        self.policy = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"]

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] in ("style", "script") and self.tags[-1] not in self.texts:
            self.texts[self.tags[-1]] = data


def test_the_page_allows_its_own_style_and_script_and_nothing_else() -> None:
    page = Page(to_html(QUOTE, d_head=8))
    assert page.tags.count("script") == page.tags.count("style") == 1
    for name in ("style", "script"):
        digest = b64encode(hashlib.sha256(page.texts[name].encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in page.policy
    assert page.policy.startswith("default-src 'none'")
    assert "unsafe" not in page.policy


def test_the_page_escapes_what_it_is_given() -> None:
    page = Page(to_html(hostile()))
    assert page.tags.count("script") == 1
    assert "alert" not in page.texts["script"]


def test_the_page_can_be_used_without_a_pointer() -> None:
    out = to_html(QUOTE, d_head=8)
    assert out.count('tabindex="0"') == QUOTE.circuit.measured.k
    assert "keydown" in out
    assert '<label for="least">' in out
    assert "<title>single_double_quote in csd-py-sparse</title>" in out
    assert "Verdict: not supported" in out
    n_rows = 3 + 3 + 12 + 9
    assert out.count("<tr>") == n_rows, "three headings, controls, nodes, edges"
