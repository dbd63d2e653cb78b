"""What views of a circuit show, on the paper's circuit and on random ones."""

from hypothesis import given, settings
from hypothesis import strategies as st

from circuit_client.graph import graph_of, place_of
from circuit_client.views.comparison import compare
from circuit_client.views.edges import edge_rows
from circuit_client.views.ego import ego_graph, nearest_links
from circuit_client.views.layers import half_blocks
from circuit_client.views.matrix import site_matrix
from circuit_client.views.node import node_facts
from circuit_client.views.parts import in_half, part_of
from made_circuits import quote_circuit, random_circuit

GRAPH = graph_of(quote_circuit(), d_head=8)


def test_half_blocks_count_what_is_kept_and_mark_what_matters() -> None:
    blocks = half_blocks(GRAPH)
    assert [(b.name, b.n_nodes, b.n_edges) for b in blocks] == [("0.mlp", 6, 5), ("10.attn", 6, 4)]
    for block in blocks:
        assert block.is_important == (block.delta is not None and block.delta > 0.3)


def test_the_matrix_holds_every_node_once() -> None:
    matrix = site_matrix(GRAPH, n_layer=12)
    assert len(matrix.layers) == 12
    assert sum(c.n_nodes for row in matrix.cells for c in row if c is not None) == 12
    cell = matrix.cells[10][3]
    assert cell is not None
    assert (cell.site, cell.n_nodes) == ("10.attn.v", 1)


def test_the_ego_graph_crosses_layers_through_the_residual_stream() -> None:
    value = GRAPH.index["10.attn.v", 656]
    ego = ego_graph(GRAPH, value, reach=5)
    names = {n.name: s for n, s in zip(ego.graph.nodes, ego.steps, strict=True)}
    assert names["10.attn.act_in[985]"] == -1
    assert names["0.mlp.resid_delta[985]"] == -2  # written ten layers earlier
    assert names["0.mlp.act_in[207]"] == -4
    assert names["10.attn.resid_delta[83]"] == 1
    assert "10.attn.act_in[460]" not in names  # feeds the key, not the value
    links = nearest_links(GRAPH, GRAPH.index["10.attn.act_in", 985])
    assert [(link.node, link.by) for link in links if link.step < 0] == [
        ("0.mlp.resid_delta[985]", "residual 985")
    ]


def test_facts_of_a_node() -> None:
    facts = node_facts(GRAPH, GRAPH.index["10.attn.q", 657])
    assert (facts.head, facts.within, facts.in_degree, facts.out_degree) == (82, 1, 1, 0)


def test_edges_come_strongest_first_and_a_threshold_leaves_out_weak_ones() -> None:
    deltas = [abs(row.delta or 0.0) for row in edge_rows(GRAPH)]
    assert deltas == sorted(deltas, reverse=True)
    assert len(edge_rows(GRAPH, edges_from=0.3)) == sum(d >= 0.3 for d in deltas)
    one = GRAPH.index["10.attn.v", 656]
    assert len(edge_rows(GRAPH, of=[one])) == 2


def test_a_circuit_without_nodes_has_empty_views() -> None:
    empty = part_of(GRAPH, [])
    assert half_blocks(empty) == []
    assert site_matrix(empty).layers == ()
    assert edge_rows(empty) == []


@settings(max_examples=20)
@given(st.integers(1, 150), st.integers(0, 5), st.integers(0, 5))
def test_parts_and_comparisons_add_up(n: int, seed: int, other: int) -> None:
    left = graph_of(random_circuit(n, seed=seed))
    right = graph_of(random_circuit(n, seed=other))
    halves = {(place.layer, place.half) for place in (place_of(node.site) for node in left.nodes)}
    found = [i for layer, half in halves for i in in_half(left, layer, half)]
    assert sorted(found) == list(range(len(left.nodes)))
    comparison = compare(left, right, one_model=True)
    assert comparison.n_left_only + comparison.n_both == len(left.nodes)
    assert comparison.n_right_only + comparison.n_both == len(right.nodes)
    assert (comparison.jaccard == 1.0) == (set(left.index) == set(right.index))
    ego = ego_graph(left, 0)
    assert ego.graph.nodes[ego.center] == left.nodes[0]
