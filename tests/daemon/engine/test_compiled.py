"""A compiled circuit equals the engine with everything outside it ablated, whatever is cut or
closed in it; selection by windows equals selection by sorting.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitd.engine.config import GPTConfig
from circuitd.engine.cuts import CUTTABLE, Cut
from circuitd.engine.gpt import forward
from circuitd.engine.interventions import Keep
from circuitd.engine.plan import Plan
from circuitd.engine.sites import node_sites
from circuitd.engine.sparse.compiled import circuit as compiled
from circuitd.engine.sparse.compiled.build import compile_circuit
from circuitd.engine.sparse.compiled.circuit import (
    CompiledCircuit,
    EdgePlaces,
    Variant,
    is_worth_compiling,
)
from circuitd.engine.sparse.compiled.prompts import LaidPrompts
from circuitd.engine.sparse.compiled.windows import LAST_CHANNEL, windows_of
from circuitd.engine.sparse.lanes.layout import lay_out, sizes_of
from circuitd.engine.sparse.threads import Threads
from circuitd.engine.steps import finish
from circuitd.engine.topk import abs_top_k
from circuitd.engine.weights import Weights, expected_shapes
from hurried import hurried

LOCATIONS = (
    "attn_in", "attn_out", "mlp_in", "mlp_out", "mlp_neuron", "attn_q", "attn_k", "attn_v",
)  # fmt: skip
BASE = GPTConfig(
    block_size=32, vocab_size=12, n_layer=3, n_head=3, d_head=4, d_model=12, d_mlp=20,
    rms_norm=True, ln_bias=False, tied_unembed=False, sink=True, afrac=0.5,
    afrac_loctypes=LOCATIONS,
)  # fmt: skip

NOTHING = np.empty(0, np.int64)

CONFIGS = st.builds(
    dataclasses.replace,
    st.just(BASE),
    sink=st.booleans(),
    bias=st.booleans(),
    tied_unembed=st.booleans(),
    activation_type=st.sampled_from(["gelu", "relu"]),
    afrac=st.sampled_from([None, 0.25, 0.5, 0.8]),
    afrac_loctypes=st.sets(st.sampled_from(LOCATIONS)).map(lambda s: tuple(sorted(s))),
    d_pos_emb=st.sampled_from([None, 5]),
    enable_bigram_table=st.booleans(),
)


class Case:
    """A random network, circuit and prompts; what the engine says, and what is compiled."""

    def __init__(
        self, config: GPTConfig, seed: int, share: float, lengths: list[int], fill: float = 0.3
    ) -> None:
        self.rng = rng = np.random.default_rng(seed)
        self.config, self.seed = config, seed
        self.weights = _network(config, seed)
        self.sites = node_sites(config)
        n_nodes = sum(site.width for site in self.sites)
        self.kept = rng.random(n_nodes) < share
        self.ablated = (fill * rng.standard_normal(n_nodes)).astype(np.float32)
        self.tokens = torch.from_numpy(rng.integers(0, config.vocab_size, (len(lengths), 32)))
        self.lengths = torch.tensor(lengths)
        self.answers = torch.from_numpy(
            np.stack([rng.permutation(config.vocab_size)[:2] for _ in lengths])
        )

    def compiled(self, n_threads: int = 2) -> CompiledCircuit:
        net, sizes = lay_out(self.weights), sizes_of(self.weights.config)
        prompts = LaidPrompts.lay(net, self.tokens, self.lengths, self.answers)
        plan = finish(compile_circuit(net, sizes, self.kept, self.ablated, prompts))
        return CompiledCircuit(plan, sizes, self.kept, prompts, Threads(n_threads))

    def check(
        self, found: np.ndarray, closed: np.ndarray = NOTHING, cuts: tuple[Cut, ...] = ()
    ) -> None:
        """Hold `found` [B] to the engine, but for prompts of which the engine itself gives another
        answer when all weights change by some rounding errors: AbsTopK is not continuous, and
        between two magnitudes that close every execution decides for itself.
        """
        expected = self.expected(self.weights, closed, cuts)
        differ = ~np.isclose(found, expected, rtol=1e-4, atol=3e-5)
        for nudge in range(20 if differ.any() else 0):
            moved = self.expected(_network(self.config, self.seed, nudge), closed, cuts)
            differ &= np.isclose(moved, expected, rtol=1e-4, atol=1e-4)
        assert not differ.any(), (found, expected)

    def expected(self, weights: Weights, closed: np.ndarray, cuts: tuple[Cut, ...]) -> np.ndarray:
        """By the engine, with plain interventions."""
        kept = self.kept.copy()
        kept[closed] = False
        keeps = tuple(
            Keep(name, torch.from_numpy(kept[span]), torch.from_numpy(self.ablated[span]))
            for name, span in self._spans().items()
        )
        longest = int(self.lengths.max())
        plan = Plan(interventions=keeps, cuts=cuts, lengths=self.lengths, logits="last")
        logits = forward(weights, self.tokens[:, :longest], plan).logits
        assert logits is not None
        answered = logits.gather(1, self.answers)
        return (answered[:, 0] - answered[:, 1]).numpy()

    def edges(self, n: int) -> tuple[tuple[Cut, ...], EdgePlaces]:
        """Up to `n` edges, wherever they are, as the engine cuts them and as the kernels do."""
        config, spans = self.weights.config, self._spans()
        cuts, places, values, fills = [], [], [], []
        for i, layer in enumerate(self.weights.layers):
            tensors = [*layer.c_attn.split(config.d_attn), layer.attn_proj, layer.c_fc]
            for number, ((source, target), matrix) in enumerate(
                zip(CUTTABLE, [*tensors, layer.mlp_proj], strict=True)
            ):
                for row, channel in matrix.nonzero().tolist():
                    fill = self.ablated[spans[f"{i}.{source}"]][channel]
                    names = (f"{i}.{source}", f"{i}.{target}")
                    cuts.append(Cut(*names, channel, row, float(fill)))
                    part = min(number, 2)
                    places.append((i, number - part, channel, row + part * config.d_attn))
                    if number > 2:
                        places[-1] = (i, number - 2, channel, row)
                    values.append(float(matrix[row, channel]))
                    fills.append(fill)
        chosen = self.rng.permutation(len(cuts))[:n]
        return tuple(cuts[j] for j in chosen), (
            np.array([places[j] for j in chosen], np.int64).reshape(-1, 4),
            np.array([values[j] for j in chosen], np.float32),
            np.array([fills[j] for j in chosen], np.float32),
        )

    def _spans(self) -> dict[str, slice]:
        ends = np.cumsum([site.width for site in self.sites]).tolist()
        return {
            site.name: slice(end - site.width, end)
            for site, end in zip(self.sites, ends, strict=True)
        }


def _network(config: GPTConfig, seed: int, nudge: int | None = None) -> Weights:
    """A random sparse network; with a `nudge`, every number of it times 1 + 3e-6 * N(0, 1)."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in expected_shapes(config).items():
        values = torch.randn(shape, generator=generator) / 2
        if name.startswith("transformer.h.") and len(shape) == 2:
            values *= torch.rand(shape, generator=generator) < 0.4
        state[name] = values + (1 if ".ln_" in name else 0)
    if nudge is not None:
        generator.manual_seed(nudge)
        for values in state.values():
            values *= 1 + 3e-6 * torch.randn(values.shape, generator=generator)
    return Weights.from_state(config, state)


LENGTHS = st.lists(st.integers(1, 32), min_size=1, max_size=8)
SHARES = st.sampled_from([0.0, 0.05, 0.2, 0.5, 1.0])


@settings(max_examples=60, deadline=None)
@given(CONFIGS, st.integers(0, 2**16), SHARES, LENGTHS, st.sampled_from([0.0, 0.3]))
def test_any_circuit_of_any_network_equals_the_engine(config, seed, share, lengths, fill):
    case = Case(config, seed, share, lengths, fill)
    case.check(finish(case.compiled().differences()))


@settings(max_examples=40, deadline=None)
@given(CONFIGS, st.integers(0, 2**16), SHARES, LENGTHS, st.integers(1, 12))
def test_cut_edges_equal_the_engine(config, seed, share, lengths, n):
    case = Case(config, seed, share, lengths)
    cuts, places = case.edges(n)
    case.check(finish(case.compiled().differences(places)), cuts=cuts)


@settings(max_examples=30, deadline=None)
@given(CONFIGS, st.integers(0, 2**16), st.sampled_from([0.1, 0.4, 1.0]), LENGTHS)
def test_variants_start_where_they_differ_and_equal_the_engine(config, seed, share, lengths):
    case = Case(config, seed, share, lengths)
    base_cuts, base_places = case.edges(3)
    base_edges = {tuple(place) for place in base_places[0].tolist()}
    circuit = case.compiled()
    finish(circuit.start_from(base_places))
    nodes = case.rng.permutation(np.flatnonzero(case.kept))
    variants, engine_cuts = [], []
    for n in (0, 1, 1, 1, 5):
        closed, (cuts, places) = nodes[:n], case.edges(n)
        nodes = nodes[n:]
        if {tuple(place) for place in places[0].tolist()} & base_edges:
            continue
        together = tuple(np.concatenate(both) for both in zip(base_places, places, strict=True))
        variants.append(Variant(closed, (together[0], together[1], together[2])))
        engine_cuts.append(base_cuts + cuts)
    parts = [found for found in circuit.variants(variants) if found is not None]
    for found, variant, cuts in zip(np.concatenate(parts), variants, engine_cuts, strict=True):
        case.check(found, variant.closed, cuts)


def test_results_do_not_depend_on_threads_on_steps_or_on_where_a_variant_starts(monkeypatch):
    case = Case(BASE, 4, 0.4, [int(n) for n in np.random.default_rng(0).integers(1, 33, 90)])
    nodes = np.flatnonzero(case.kept)[::5]
    variants = [Variant(np.array([node])) for node in nodes]

    def run(n_threads: int, begins: bool) -> np.ndarray:
        circuit = case.compiled(n_threads)
        if begins:
            finish(circuit.start_from(compiled.NO_CUTS))
        return np.concatenate([part for part in circuit.variants(variants) if part is not None])

    expected = run(1, False)
    for n_threads in (1, 2, 3):
        np.testing.assert_array_equal(run(n_threads, True), expected)
    monkeypatch.setattr(compiled, "_TASK", 1.0)
    np.testing.assert_array_equal(run(2, True), expected)


def test_others_may_come_between_any_two_variants(monkeypatch):
    case = Case(BASE, 5, 0.4, [9, 30, 2])
    variants = [Variant(np.array([node])) for node in np.flatnonzero(case.kept)[::9]]
    circuit = case.compiled(1)
    expected = np.concatenate([part for part in circuit.variants(variants) if part is not None])
    monkeypatch.setattr(compiled, "_TASK", 1.0)
    with hurried():
        parts = list(circuit.variants(variants))
    assert len(parts) >= len(variants)
    found = [part for part in parts if part is not None]
    np.testing.assert_array_equal(np.concatenate(found), expected)


def test_a_base_too_large_to_keep_changes_nothing(monkeypatch):
    case = Case(BASE, 5, 0.4, [9, 30, 2])
    variants = [Variant(np.array([node])) for node in np.flatnonzero(case.kept)[::9]]
    kept, dropped = case.compiled(), case.compiled()
    finish(kept.start_from(compiled.NO_CUTS))
    monkeypatch.setattr(compiled, "_MOST_BYTES", 0)
    finish(dropped.start_from(compiled.NO_CUTS))
    for one, other in zip(kept.variants(variants), dropped.variants(variants), strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_array_equal(one, other)


def test_a_variant_that_closes_what_is_closed_is_refused():
    case = Case(BASE, 0, 0.3, [5])
    closed = np.flatnonzero(~case.kept)[:1]
    with pytest.raises(ValueError, match="nodes of the circuit only"):
        next(case.compiled().variants([Variant(closed)]))


def test_exact_ties_are_decided_as_the_engine_decides_them():
    """All gains one and every channel equal in size: what stays is decided by ties alone."""
    config = dataclasses.replace(BASE, n_layer=1, sink=False)
    case = Case(config, 1, 0.6, [3, 8, 20])
    weights = case.weights
    assert weights.wpe is not None
    case.weights = dataclasses.replace(
        weights,
        wte=torch.sign(weights.wte),
        wpe=torch.zeros_like(weights.wpe),
        layers=tuple(
            dataclasses.replace(
                layer, ln_1=dataclasses.replace(layer.ln_1, gain=torch.ones(config.d_model))
            )
            for layer in weights.layers
        ),
    )
    case.kept[: config.d_in] = True
    found = finish(case.compiled().differences())
    np.testing.assert_allclose(found, case.expected(case.weights, NOTHING, ()), atol=3e-5)


def test_only_small_circuits_are_worth_compiling():
    net, sizes = lay_out(_network(BASE, 0)), sizes_of(BASE)
    n_nodes = sum(site.width for site in node_sites(BASE))
    assert is_worth_compiling(net, sizes, np.zeros(n_nodes, bool))
    few = np.zeros(n_nodes, bool)
    few[::40] = True
    assert is_worth_compiling(net, sizes, few)
    wide = dataclasses.replace(BASE, d_model=96, d_mlp=384, d_head=32)
    net, sizes = lay_out(_network(wide, 0)), sizes_of(wide)
    n_nodes = sum(site.width for site in node_sites(wide))
    assert not is_worth_compiling(net, sizes, np.ones(n_nodes, bool))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**16), st.sampled_from([0, 1, 2]))
def test_windows_select_what_sorting_selects(width, k, seed, kind):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((4, width)).astype(np.float32)
    if kind == 1:
        x = np.round(x).astype(np.float32)
    elif kind == 2:
        x *= rng.random(x.shape) < 0.3
    varies = rng.random(width) < 0.4
    windows = windows_of(np.where(varies, np.float32(0), x), k, int(varies.sum()))
    expected = abs_top_k(torch.from_numpy(x), k).numpy()
    bits = np.abs(x).view(np.int32).astype(np.int64)
    keys = (bits << 32) | (LAST_CHANNEL - np.arange(width))
    for row in range(4):
        beaten_by = [(keys[row, varies] > key).sum() for key in keys[row]]
        found = np.where(keys[row] >= windows[row, beaten_by], x[row], 0)
        np.testing.assert_array_equal(found, expected[row])
