"""Deltas against edited weights and plain interventions; edits, unions, intersections."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from circuit_protocol.circuit_requests import CombineCircuits, EditCircuit
from circuit_protocol.circuits import Calibration, Circuit, Measured, Provenance, circuit_id
from circuit_protocol.errors import InvalidRequest
from circuit_protocol.interventions import SiteChannels
from circuit_protocol.messages import Edge
from circuitd.circuits.ablate import CODES
from circuitd.circuits.edit import combined, edited
from circuitd.circuits.gated import Gated
from circuitd.circuits.measure import measure_parts
from circuitd.circuits.nodes import node_space
from circuitd.circuits.problem import Problem
from circuitd.circuits.prompts import ScoredPrompts
from circuitd.circuits.value import (
    check_model,
    edges_in,
    edges_of,
    kept_nodes,
    mask_of,
    n_edges,
    node_set,
    proper,
)
from circuitd.engine.errors import InterventionError, UnknownSite
from circuitd.engine.gpt import forward
from circuitd.engine.interventions import Keep
from circuitd.engine.nonzeros import WeightMatrix
from circuitd.engine.plan import Plan
from circuitd.engine.steps import finish
from circuitd.engine.weights import Weights

NOT_MEASURED = Measured(
    k=0, n_edges=0, loss=0.0, accuracy=0.0, model_loss=0.0, model_accuracy=0.0
)  # fmt: skip


@pytest.fixture(scope="module")
def prompts(config) -> ScoredPrompts:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, config.vocab_size, (6, 9), generator=generator)
    first = torch.randint(0, config.vocab_size // 2, (3,), generator=generator)
    second = first + config.vocab_size // 2
    answers = torch.stack([torch.cat([first, second]), torch.cat([second, first])], dim=1)
    return ScoredPrompts(tokens, torch.tensor([9, 7, 9, 4, 9, 8]), answers=answers)


@pytest.fixture(scope="module")
def means(config) -> torch.Tensor:
    return torch.randn(node_space(config).n_nodes, generator=torch.Generator().manual_seed(2)) / 4


def random_circuit(config, share: float = 0.4, seed: int = 3, **fields) -> Circuit:
    space = node_space(config)
    kept = np.random.default_rng(seed).random(space.n_nodes) < share
    values = {"ablation": "mean", "measured": NOT_MEASURED, "found": Provenance(origin="random")}
    return Circuit(
        model="m", model_hash="h", task="t", nodes=node_set(space, kept), **values | fields
    )


def problem(weights, prompts, means, ablation="mean", **fields) -> Problem:
    ablated = means if ablation == "mean" else torch.zeros_like(means)
    return Problem(Gated(weights, ablated, **fields), prompts, prompts, prompts, ablation)


def plain_loss(
    weights: Weights,
    prompts: ScoredPrompts,
    kept: np.ndarray,
    ablated: torch.Tensor,
    calibration: Calibration = Calibration(scale=1.0, bias=0.0),  # noqa: B008 - frozen
) -> float:
    """The loss of a node set by a plain forward with plain interventions, side by side."""
    space = node_space(weights.config)
    keeps = tuple(
        Keep(s.name, torch.from_numpy(kept[space.span(s.name)]), ablated[space.span(s.name)])
        for s in space.sites
    )
    run = forward(weights, prompts.tokens, Plan(interventions=keeps, lengths=prompts.lengths))
    assert run.logits is not None
    assert prompts.answers is not None
    n = len(prompts)
    total = 0.0
    for row in range(n):
        logits = run.logits[row, prompts.lengths[row] - 1].double()
        right, wrong = (float(logits[token]) * calibration.scale for token in prompts.answers[row])
        if row < n // 2:
            right += calibration.bias
        else:
            wrong += calibration.bias
        total += float(np.logaddexp(0.0, wrong - right))
    return total / n


def without_edge(weights: Weights, edge: Edge, fill: float) -> Weights:
    """The same weights with one entry zero and its constant flow moved into the bias."""
    layer_name, _, kind = edge.target.partition(".")
    field, part = {
        "attn.q": ("c_attn", 0),
        "attn.k": ("c_attn", 1),
        "attn.v": ("c_attn", 2),
        "attn.resid_delta": ("attn_proj", 0),
        "mlp.post_act": ("c_fc", 0),
        "mlp.resid_delta": ("mlp_proj", 0),
    }[kind]
    row = edge.target_channel + part * weights.config.d_attn
    layer = weights.layers[int(layer_name)]
    matrix, bias = getattr(layer, field).clone(), getattr(layer, f"{field}_bias").clone()
    bias[row] += matrix[row, edge.source_channel] * fill
    matrix[row, edge.source_channel] = 0
    layers = list(weights.layers)
    layers[int(layer_name)] = dataclasses.replace(
        layer,
        matrices=layer.matrices._replace(**{field: WeightMatrix.of(matrix)}),
        **{f"{field}_bias": bias},
    )
    return dataclasses.replace(weights, layers=tuple(layers))


@pytest.mark.parametrize("ablation", ["mean", "zero"])
@pytest.mark.parametrize("calibration", [None, Calibration(scale=1.7, bias=-0.4)])
def test_node_and_layer_deltas_equal_plain_interventions(
    config, weights, prompts, means, ablation, calibration
):
    circuit = random_circuit(config, 0.25, ablation=ablation, calibration=calibration)
    found = finish(measure_parts(problem(weights, prompts, means, ablation), prompts, circuit))
    ablated = means if ablation == "mean" else torch.zeros_like(means)
    kept, space = kept_nodes(circuit, config), node_space(config)
    as_is = calibration or Calibration(scale=1.0, bias=0.0)
    base = plain_loss(weights, prompts, kept, ablated, as_is)

    def delta(nodes: np.ndarray) -> float:
        fewer = kept.copy()
        fewer[nodes] = False
        return plain_loss(weights, prompts, fewer, ablated, as_is) - base

    assert [(p.site, p.channels) for p in found.nodes] == [
        (p.site, p.channels) for p in circuit.nodes
    ]
    for part in found.nodes[::3]:
        for channel, value in zip(part.channels, part.deltas, strict=True):
            assert value == pytest.approx(delta(space.nodes(part.site, [channel])), abs=2e-5)
    for part in found.layers:
        half = [s.name for s in space.sites if s.name.startswith(f"{part.layer}.{part.half}.")]
        nodes = np.concatenate([space.nodes(site) for site in half])
        assert part.n_nodes == kept[nodes].sum()
        assert part.delta == pytest.approx(delta(nodes), abs=2e-5)
    assert found.n_pairs == 3


def test_edge_deltas_equal_edited_weights(config, weights, prompts, means):
    """Zero ablation of every edge; a mean out of anything but v is a constant in the bias."""
    for ablation in ("zero", "mean"):
        circuit = random_circuit(config, 0.2, ablation=ablation)
        found = finish(measure_parts(problem(weights, prompts, means, ablation), prompts, circuit))
        ablated = means if ablation == "mean" else torch.zeros_like(means)
        kept, space = kept_nodes(circuit, config), node_space(config)
        base = plain_loss(weights, prompts, kept, ablated)
        n_checked = 0
        for group in found.edges:
            for edge, delta in zip(edges_in([group]), group.deltas, strict=True):
                if ablation == "mean" and group.source.endswith("attn.v"):
                    continue  # with a sink, what flows is not constant: see test_ablate
                fill = float(ablated[space.nodes(edge.source, [edge.source_channel])[0]])
                other = without_edge(weights, edge, fill)
                expected = plain_loss(other, prompts, kept, ablated) - base
                assert delta == pytest.approx(expected, abs=2e-5)
                n_checked += 1
        assert n_checked > 10


def test_cut_edges_stay_cut_while_other_parts_are_measured(config, weights, prompts, means):
    circuit = random_circuit(config, 0.3, ablation="zero")
    edges = list(edges_in(edges_of(weights, kept_nodes(circuit, config))))
    cut = replace(circuit, cut_edges=tuple(edges[::4]))
    found = finish(measure_parts(problem(weights, prompts, means, "zero"), prompts, cut))
    assert set(edges_in(found.edges)) == set(edges) - set(cut.cut_edges)
    thinner = weights
    for edge in cut.cut_edges:
        thinner = without_edge(thinner, edge, 0.0)
    same = finish(measure_parts(problem(thinner, prompts, means, "zero"), prompts, circuit))
    for ours, theirs in zip(found.nodes, same.nodes, strict=True):
        np.testing.assert_allclose(ours.deltas, theirs.deltas, atol=2e-5)


def test_sparse_and_dense_execution_and_a_sweep_agree(config, weights, prompts, means):
    assert problem(weights, prompts, means).gated.execution == "sparse"
    circuit = random_circuit(config, 0.3)
    fast = finish(measure_parts(problem(weights, prompts, means), prompts, circuit))
    slow = finish(measure_parts(problem(weights, prompts, means, sparse=False), prompts, circuit))
    for one, other in zip((*fast.nodes, *fast.edges), (*slow.nodes, *slow.edges), strict=True):
        np.testing.assert_allclose(one.deltas, other.deltas, atol=2e-5)


def test_without_edges_the_edges_come_without_deltas(config, weights, prompts, means):
    circuit = random_circuit(config, 0.3)
    found = finish(measure_parts(problem(weights, prompts, means), prompts, circuit, edges=False))
    assert found.edges == edges_of(weights, kept_nodes(circuit, config))
    assert n_edges(found.edges) > 0


# ------------------------------------------------------------------------------------ edits


def edit(weights, circuit: Circuit, **asked):
    return edited(weights, circuit, EditCircuit(id="1", model="m", circuit="c", **asked))


def test_nodes_are_dropped_and_added_with_their_cuts(config, weights):
    circuit = random_circuit(config, 0.4)
    edges = list(edges_in(edges_of(weights, kept_nodes(circuit, config))))
    circuit = replace(circuit, cut_edges=tuple(edges[:3]))
    gone = edges[0]
    parts = edit(
        weights,
        circuit,
        drop=(SiteChannels(site=gone.source, channels=(gone.source_channel,)),),
        add=(SiteChannels(site="final_resid"),),
    )
    assert gone not in parts.cut_edges
    assert set(parts.cut_edges) == {
        e for e in edges[:3] if (e.source, e.source_channel) != (gone.source, gone.source_channel)
    }
    expected = kept_nodes(circuit, config)
    space = node_space(config)
    expected[space.span("final_resid")] = True
    expected[space.nodes(gone.source, [gone.source_channel])] = False
    assert parts.nodes == node_set(space, expected)


def test_edges_are_cut_and_brought_back(config, weights):
    circuit = random_circuit(config, 0.4)
    edges = list(edges_in(edges_of(weights, kept_nodes(circuit, config))))
    cut = edit(weights, circuit, drop_edges=(edges[5], edges[2]))
    assert set(cut.cut_edges) == {edges[2], edges[5]}
    thinner = replace(circuit, cut_edges=cut.cut_edges)
    back = edit(weights, thinner, add_edges=(edges[5],))
    assert back.cut_edges == (edges[2],)
    whole = edit(weights, thinner, add_edges=(edges[5], edges[2]))
    assert circuit_id(replace(thinner, cut_edges=whole.cut_edges)) == circuit_id(circuit)


def test_senseless_edits_say_why(config, weights):
    circuit = random_circuit(config, 0.4)
    space, kept = node_space(config), kept_nodes(circuit, config)
    site, channel = space.describe(int(np.flatnonzero(~kept)[0]))
    missing = (SiteChannels(site=site, channels=(channel,)),)
    edges = list(edges_in(edges_of(weights, kept)))
    for asked, says in [
        ({"drop": missing}, "does not have these nodes"),
        ({}, "changes nothing"),
        ({"add": circuit.nodes[:1]}, "changes nothing"),
        ({"add_edges": (edges[0],)}, "were not cut"),
        ({"drop_edges": (replace(edges[0], source_channel=0, target_channel=0),)}, "no such edge"),
    ]:
        with pytest.raises(InvalidRequest, match=says):
            edit(weights, circuit, **asked)
    with pytest.raises(UnknownSite):
        edit(weights, circuit, drop=(SiteChannels(site="9.attn.q"),))
    with pytest.raises(InterventionError):
        edit(weights, circuit, add=(SiteChannels(site="0.attn.q", channels=(999,)),))


@settings(max_examples=20, deadline=None)
@given(seeds=st.lists(st.integers(0, 99), min_size=2, max_size=4), share=st.floats(0.1, 0.9))
def test_unions_and_intersections_are_those_of_the_sets(config, weights, seeds, share):
    circuits = []
    for seed in seeds:
        circuit = random_circuit(config, share, seed)
        edges = list(edges_in(edges_of(weights, kept_nodes(circuit, config))))
        circuits.append(replace(circuit, cut_edges=tuple(edges[:: seed % 5 + 2])))
    nodes = [kept_nodes(c, config) for c in circuits]
    edges = [
        set(edges_in(edges_of(weights, n, c.cut_edges)))
        for n, c in zip(nodes, circuits, strict=True)
    ]
    for how, kept in (("union", np.any(nodes, axis=0)), ("intersection", np.all(nodes, axis=0))):
        request = CombineCircuits(id="1", model="m", circuits=("a", "b"), how=how)
        parts = combined(weights, circuits, request)
        assert parts.nodes == node_set(node_space(config), kept)
        has = set(edges_in(edges_of(weights, kept, parts.cut_edges)))
        if how == "intersection":
            assert has == set.intersection(*edges)
        else:
            assert has >= set.union(*edges)
            known = set.union(*(set(edges_in(edges_of(weights, n))) for n in nodes))
            assert has & known == set.union(*edges)


def test_only_circuits_of_one_task_and_ablation_combine(config, weights):
    circuit = random_circuit(config)
    request = CombineCircuits(id="1", model="m", circuits=("a", "b"), how="union")
    for other in (replace(circuit, task="u"), replace(circuit, ablation="zero")):
        with pytest.raises(InvalidRequest, match="cannot be combined"):
            combined(weights, [circuit, other], request)


# ------------------------------------------------------------------------------------ values


def test_a_circuit_from_elsewhere_is_put_in_order_or_refused(config, weights):
    circuit = random_circuit(config, 0.3)
    edges = list(edges_in(edges_of(weights, kept_nodes(circuit, config))))
    circuit = proper(replace(circuit, cut_edges=tuple(edges[:4])), config)
    shuffled = replace(
        circuit,
        nodes=tuple(
            SiteChannels(site=p.site, channels=tuple(reversed(p.channels or ())))
            for p in reversed(circuit.nodes)
        ),
        cut_edges=tuple(reversed(circuit.cut_edges)),
    )
    assert proper(shuffled, config) == circuit
    first = circuit.nodes[0]
    for nodes, error in [
        ((first, first), InvalidRequest),
        ((SiteChannels(site=first.site, channels=(1, 1)),), InvalidRequest),
        ((SiteChannels(site="0.attn.y", channels=(1,)),), UnknownSite),
        ((SiteChannels(site="0.attn.q", channels=(10**6,)),), InterventionError),
        ((SiteChannels(site="0.attn.q", channels=(-1,)),), InterventionError),
    ]:
        with pytest.raises(error):
            proper(replace(circuit, nodes=nodes), config)
    with pytest.raises(InvalidRequest, match="cut twice"):
        proper(replace(circuit, cut_edges=(edges[0], edges[0])), config)
    wrong = replace(edges[0], source_channel=0)
    with pytest.raises(InvalidRequest, match="no such edge"):
        edges_of(weights, ~kept_nodes(circuit, config), (wrong,))


def test_a_circuit_of_another_models_hash_is_refused_with_both(config):
    with pytest.raises(InvalidRequest) as caught:
        check_model(random_circuit(config), "other", "csd")
    assert "hash h" in (caught.value.asked or "")
    assert "hash other" in (caught.value.found or "")


def test_a_mask_ablates_what_the_circuit_leaves_out(config):
    circuit = random_circuit(config, ablation="zero")
    mask = mask_of(circuit, config)
    np.testing.assert_array_equal(mask.codes == 0, kept_nodes(circuit, config))
    assert set(np.unique(mask.codes)) == {0, CODES["zero"]}
