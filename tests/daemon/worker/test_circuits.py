"""Circuits in a worker: measured, edited, combined, sampled, imported and exported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from safetensors.torch import save_file

from circuit_protocol import circuit_requests as cq
from circuit_protocol.circuit_replies import (
    CircuitDerived,
    CircuitExported,
    CircuitShown,
    NodeSampled,
)
from circuit_protocol.circuits import (
    Calibration,
    Circuit,
    Measured,
    Provenance,
    circuit_id,
)
from circuit_protocol.interventions import Keep, SiteChannels, Zero
from circuit_protocol.requests import (
    Ablate,
    AblateEdges,
    AblateNodes,
    Hook,
    PromptInput,
    Prompts,
    Record,
    TaskInput,
)
from circuit_protocol.tensors import Frame, pack
from circuitd.circuits.nodes import node_space
from circuitd.circuits.value import edges_in, edges_of, kept_nodes, node_set
from circuitd.store.circuits import place_of
from circuitd.store.pretraining_sample import SAMPLE_FILE
from circuitd.store.viz_reader import read_viz_data
from circuitd.worker import grounds
from circuitd.worker.handlers import samples
from devices import DEVICES
from published_viz_data import CIRCUIT, published, saved
from worker_desk import CONFIG, Desk

#: What handlers do, they do on every device of the machine.
pytestmark = pytest.mark.parametrize("desk", DEVICES, indirect=True)

N_PAIRS = 24
MODEL, TASK = "tiny", "for_while"
NOT_MEASURED = Measured(
    k=0, n_edges=0, loss=0.0, accuracy=0.0, model_loss=0.0, model_accuracy=0.0
)  # fmt: skip


@pytest.fixture(autouse=True)
def few_pairs(monkeypatch) -> None:
    monkeypatch.setattr(grounds, "N_PAIRS", N_PAIRS)


@pytest.fixture
def sample(model_directory: Path) -> Iterator[np.ndarray]:
    """The model's sample of pretraining text [20, 48], there for one test."""
    tokens = np.random.default_rng(4).integers(0, 2048, (20, 48)).astype(np.uint16)
    path = model_directory / SAMPLE_FILE
    save_file({"tokens": torch.from_numpy(tokens)}, path)
    yield tokens.astype(np.int64)
    path.unlink()


def made(desk: Desk, share: float = 0.3, seed: int = 0, **fields) -> Circuit:
    kept = np.random.default_rng(seed).random(node_space(CONFIG).n_nodes) < share
    values = {
        "model": MODEL,
        "model_hash": desk.model.model_hash,
        "task": TASK,
        "ablation": "mean",
        "nodes": node_set(node_space(CONFIG), kept),
        "measured": replace(NOT_MEASURED, n_held_out_pairs=8, data_seed=5),
        "found": Provenance(origin="learned", created_at_s=1.0),
    }
    return Circuit(**values | fields)


def imported(desk: Desk, circuit: Circuit, **asked) -> CircuitShown:
    reply = desk.ask(cq.ImportCircuit(id="1", model=MODEL, circuit=circuit, **asked)).reply
    assert isinstance(reply, CircuitShown)
    return reply


def measured_by_ablate(desk: Desk, circuit: Circuit, split, n: int) -> tuple[float, float]:
    """Loss and accuracy of a circuit by the request that ablates: another way there."""
    asked = Ablate(
        id="1",
        model=MODEL,
        input=TaskInput(task=TASK, n=n, split=split, seed=circuit.measured.data_seed),
        keep=circuit.nodes,
        kind=circuit.ablation,
    )
    reply = desk.ask(asked).reply
    return reply.base_loss, reply.base_accuracy  # type: ignore[union-attr]  # an ablation's answer


def test_an_imported_circuit_is_measured_on_its_own_draw_and_stored(desk):
    shown = imported(desk, made(desk), sweep="byhand", note="from a colleague")
    numbers = shown.circuit.measured
    loss, accuracy = measured_by_ablate(desk, shown.circuit, "train", N_PAIRS)
    held_out = measured_by_ablate(desk, shown.circuit, "held_out", 8)
    assert numbers.loss == pytest.approx(loss, abs=1e-5)
    assert numbers.accuracy == pytest.approx(accuracy)
    assert (numbers.held_out_loss, numbers.held_out_accuracy) == pytest.approx(held_out, abs=1e-5)
    whole = made(desk, share=1.1)
    assert numbers.model_loss == pytest.approx(
        measured_by_ablate(desk, whole, "train", N_PAIRS)[0], abs=1e-5
    )
    assert (numbers.n_pairs, numbers.n_held_out_pairs, numbers.data_seed) == (N_PAIRS, 8, 5)
    kept = kept_nodes(shown.circuit, CONFIG)
    edges = edges_of(desk.model.weights, kept)
    assert (numbers.k, numbers.n_edges) == (kept.sum(), len(list(edges_in(edges))))
    assert shown.circuit.found.note == "from a colleague"
    stored = desk.host.circuits.get("byhand".join((f"{TASK}/", f"/{numbers.k}")))
    assert (stored.circuit, stored.details) == (shown.circuit, shown.details)
    assert shown.details is not None
    assert shown.details.edges == edges


def test_numbers_that_a_circuit_brings_along_are_kept_but_counted_anew(desk):
    given = replace(NOT_MEASURED, k=3, n_edges=7, loss=0.1, n_pairs=64)
    numbers = imported(desk, made(desk, measured=given)).circuit.measured
    assert (numbers.loss, numbers.n_pairs) == (0.1, 64)
    assert numbers.k > 100


def test_a_circuit_of_another_models_hash_is_refused_everywhere(desk):
    failed = desk.fail(cq.ImportCircuit(id="1", model=MODEL, circuit=made(desk, model_hash="ff")))
    assert failed.error.code == "invalid_request"
    assert "hash ff" in (failed.error.asked or "")
    assert desk.model.model_hash in (failed.error.found or "")
    summary = desk.host.circuits.save(made(desk, model_hash="ff"), "s")
    for request in (
        cq.MeasureCircuit(id="1", model=MODEL, circuit=summary.id),
        cq.EditCircuit(id="1", model=MODEL, circuit=summary.id),
        cq.ExportCircuit(id="1", model=MODEL, circuit=summary.id),
        cq.NodeSamples(id="1", model=MODEL, site="0.attn.q", channel=0, circuit=summary.id),
    ):
        assert "hash ff" in (desk.fail(request).error.asked or "")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"nodes": (SiteChannels(site="0.attn.q", channels=(99,)),)}, "bad_intervention"),
        ({"nodes": (SiteChannels(site="0.attn.qq", channels=(1,)),)}, "not_found"),
        ({"nodes": (SiteChannels(site="0.attn.q", channels=(1, 1)),)}, "invalid_request"),
        ({"task": "nobodys"}, "not_found"),
        ({"task": "../../etc"}, "not_found"),
    ],
)
def test_an_import_that_is_refused_writes_nothing(desk, change, code):
    failed = desk.fail(cq.ImportCircuit(id="1", model=MODEL, circuit=made(desk, **change)))
    assert failed.error.code == code
    assert desk.host.circuits.summaries() == ()


def test_deltas_are_stored_and_equal_the_ablation_of_each_part(desk):
    shown = imported(desk, made(desk, share=0.06))
    reply = desk.ask(cq.MeasureCircuit(id="1", model=MODEL, circuit=shown.summary.id, n_pairs=4))
    details = reply.reply.details
    assert details is not None
    assert desk.host.circuits.get(shown.summary.id).details == details
    assert details.seconds > 0
    given = TaskInput(task=TASK, n=4, seed=5)
    part = details.nodes[len(details.nodes) // 2]
    kept = shown.circuit.nodes
    one = (SiteChannels(site=part.site, channels=part.channels[:1]),)
    edge = next(edges_in(details.edges))
    masks = ((AblateNodes(nodes=one),), (AblateEdges(edges=(edge,)),))
    answered = desk.ask(Ablate(id="1", model=MODEL, input=given, keep=kept, masks=masks))
    deltas = desk.array(answered.reply.deltas, answered)
    assert part.deltas[0] == pytest.approx(float(deltas[0]), abs=1e-5)
    assert details.edges[0].deltas[0] == pytest.approx(float(deltas[1]), abs=1e-5)


def test_an_edit_answers_with_the_loss_then_and_keeps_it_only_if_told(desk):
    shown = imported(desk, made(desk))
    drop = shown.circuit.nodes[5:7]
    asked = cq.EditCircuit(id="1", model=MODEL, circuit=shown.summary.id, drop=drop)
    reply = desk.ask(asked).reply
    assert isinstance(reply, CircuitDerived)
    assert (reply.circuit_id, reply.saved) == (circuit_id(reply.circuit), False)
    assert reply.circuit.nodes == (*shown.circuit.nodes[:5], *shown.circuit.nodes[7:])
    loss, _ = measured_by_ablate(desk, reply.circuit, "train", N_PAIRS)
    assert reply.circuit.measured.loss == pytest.approx(loss, abs=1e-5)
    assert reply.delta == pytest.approx(loss - shown.circuit.measured.loss, abs=1e-5)
    found = reply.circuit.found
    assert (found.origin, found.parents) == ("edited", (shown.summary.id,))
    assert len(desk.host.circuits.summaries()) == 1
    kept = desk.ask(replace(asked, save=True)).reply
    assert (kept.saved, kept.sweep, kept.circuit_id) == (True, "edited", reply.circuit_id)
    back = desk.ask(
        cq.EditCircuit(id="1", model=MODEL, circuit=f"{TASK}/edited/{kept.label}", add=drop)
    ).reply
    assert back.circuit_id == shown.summary.id
    assert back.delta == pytest.approx(-reply.delta, abs=1e-6)


def test_an_edit_that_is_not_kept_may_leave_the_held_out_pairs_alone(desk):
    shown = imported(desk, made(desk))
    asked = cq.EditCircuit(
        id="1", model=MODEL, circuit=shown.summary.id, drop=shown.circuit.nodes[5:7]
    )
    whole = desk.ask(asked).reply.circuit.measured
    half = desk.ask(replace(asked, held_out=False)).reply.circuit.measured
    assert whole.held_out_loss is not None
    assert (half.loss, half.accuracy) == (whole.loss, whole.accuracy)
    assert (half.held_out_loss, half.held_out_accuracy) == (None, None)
    kept = desk.ask(replace(asked, held_out=False, save=True)).reply.circuit.measured
    assert kept.held_out_loss == whole.held_out_loss


def test_an_edges_cut_and_a_calibration_count_in_an_edits_loss(desk):
    calibration = Calibration(scale=2.0, bias=0.3)
    shown = imported(desk, made(desk, calibration=calibration))
    assert shown.details is not None
    edge = next(edges_in(shown.details.edges))
    asked = cq.EditCircuit(id="1", model=MODEL, circuit=shown.summary.id, drop_edges=(edge,))
    reply = desk.ask(asked).reply
    assert reply.circuit.cut_edges == (edge,)
    assert reply.circuit.calibration == calibration
    assert reply.circuit.measured.n_edges == shown.circuit.measured.n_edges - 1
    measured = desk.ask(
        cq.MeasureCircuit(id="1", model=MODEL, circuit=shown.summary.id, n_pairs=N_PAIRS)
    ).reply
    assert measured.details.edges[0].deltas[0] == pytest.approx(reply.delta, abs=1e-5)


def test_circuits_combine(desk):
    one, other = imported(desk, made(desk, seed=1)), imported(desk, made(desk, seed=2))
    refs = (one.summary.id, other.summary.id)
    sets = [kept_nodes(shown.circuit, CONFIG) for shown in (one, other)]
    for how, kept in (("union", sets[0] | sets[1]), ("intersection", sets[0] & sets[1])):
        reply = desk.ask(
            cq.CombineCircuits(id="1", model=MODEL, circuits=refs, how=how, save=True)
        ).reply
        assert reply.circuit.nodes == node_set(node_space(CONFIG), kept)
        loss, _ = measured_by_ablate(desk, reply.circuit, "train", N_PAIRS)
        assert reply.circuit.measured.loss == pytest.approx(loss, abs=1e-5)
        assert reply.delta == pytest.approx(loss - one.circuit.measured.loss, abs=1e-5)
        assert reply.circuit.found.parents == refs
        assert desk.host.circuits.get(reply.circuit_id).circuit == reply.circuit


# ------------------------------------------------------------------------------------ samples


def hooked(desk: Desk, tokens: np.ndarray, site: str, channel: int, circuit=None) -> np.ndarray:
    """A node's values [B, T] by the request that records: another way there."""
    frames: list[Frame] = []
    prompts = Prompts(tokens=pack(tokens.astype(np.int32), frames))
    keep = () if circuit is None else (Keep(site="*", nodes=circuit.nodes),)
    request = Hook(
        id="1",
        model=MODEL,
        input=PromptInput(prompts=prompts),
        records=(Record(site=site, channels=(channel,)),),
        interventions=keep,
    )
    answered = desk.ask(request, frames)
    return desk.array(answered.reply.recorded[0].value, answered)[..., 0]


@pytest.mark.parametrize("in_circuit", [False, True])
def test_samples_are_windows_of_the_extremes_of_a_nodes_values(desk, sample, in_circuit):
    shown = imported(desk, made(desk, share=0.6))
    site = "1.mlp.post_act"
    channel = next(p for p in shown.circuit.nodes if p.site == site).channels[3]  # type: ignore[index]  # kept nodes have channels
    answered = desk.ask(
        cq.NodeSamples(
            id="1",
            model=MODEL,
            site=site,
            channel=channel,
            circuit=shown.summary.id if in_circuit else None,
            task=TASK,
            n_windows=4,
            context=3,
            n_pairs=5,
        )
    )
    reply = answered.reply
    assert isinstance(reply, NodeSampled)
    values = hooked(desk, sample, site, channel, shown.circuit if in_circuit else None)
    assert reply.mean == pytest.approx(float(values.mean()), abs=1e-5)
    np.testing.assert_allclose(
        reply.quantiles,
        np.quantile(values, [0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 1]),
        atol=1e-5,
    )
    assert [(band.fraction, band.end) for band in reply.bands] == [
        (fraction, end) for fraction in (0.001, 0.01, 0.1, 0.5) for end in ("bottom", "top")
    ]
    ordered = np.sort(values.reshape(-1))
    places = {
        tuple(row[i : i + 2]): (r, i) for r, row in enumerate(sample.tolist()) for i in range(47)
    }
    for band in reply.bands:
        size = int(np.ceil(band.fraction * ordered.size))
        low, high = ordered[size - 1], ordered[-size]
        assert len(band.windows) == min(4, size)
        for window in band.windows:
            assert len(window.tokens) == len(window.activations) <= 7
            value = window.activations[window.position]
            assert value <= low + 1e-5 if band.end == "bottom" else value >= high - 1e-5
            row, start = places[window.tokens[:2]]
            n = len(window.tokens)
            assert sample[row, start : start + n].tolist() == list(window.tokens)
            np.testing.assert_allclose(
                window.activations, values[row, start : start + n], atol=1e-5
            )
    lengths = desk.array(reply.task_lengths, answered)
    on_task = desk.array(reply.task_activations, answered)
    tokens = desk.array(reply.task_tokens, answered)
    assert on_task.shape == tokens.shape == (10, lengths.max())
    assert not on_task[np.arange(lengths.max()) >= lengths[:, None]].any()


def test_looking_at_one_node_of_a_circuit_shows_the_others_at_once(desk, sample, monkeypatch):
    shown = imported(desk, made(desk, share=0.6))
    nodes = [(p.site, c) for p in shown.circuit.nodes for c in (p.channels or ())]
    last = max(nodes, key=lambda n: n[0] if n[0][0].isdigit() else "9")
    others = [n for n in nodes if n[0] in ("0.attn.act_in", "1.mlp.post_act")][:4]
    passes: list[int] = []
    over_text = samples.activations

    def counted(weights, text, *rest, **more):
        passes.append(len(text.tokens))
        return over_text(weights, text, *rest, **more)

    monkeypatch.setattr(samples, "activations", counted)

    def ask(node: tuple[str, int]) -> NodeSampled:
        site, channel = node
        asked = cq.NodeSamples(
            id="1", model=MODEL, site=site, channel=channel, circuit=shown.summary.id
        )
        return desk.ask(asked).reply

    ask(last)
    assert passes.count(len(sample)) == 1
    for site, channel in others:
        values = hooked(desk, sample, site, channel, shown.circuit)
        assert ask((site, channel)).mean == pytest.approx(float(values.mean()), abs=1e-5)
    assert passes.count(len(sample)) == 1


@pytest.mark.parametrize("in_circuit", [False, True])
def test_samples_of_a_query_bring_its_heads_attention_on_a_few_prompts(desk, sample, in_circuit):
    shown = imported(desk, made(desk, share=0.6))
    asked = cq.NodeSamples(
        id="1",
        model=MODEL,
        site="1.attn.q",
        channel=21,
        task=TASK,
        circuit=shown.summary.id if in_circuit else None,
        n_pairs=5,
        n_attention_pairs=2,
    )
    answered = desk.ask(asked)
    reply = answered.reply
    assert isinstance(reply, NodeSampled)
    assert reply.head == 21 // CONFIG.d_head
    rows = [0, 1, 5, 6]
    lengths = desk.array(reply.task_lengths, answered)[rows]
    tokens = desk.array(reply.task_tokens, answered)[rows, : lengths.max()].astype(np.int32)
    frames: list[Frame] = []
    prompts = Prompts(tokens=pack(tokens, frames), lengths=tuple(lengths.tolist()))
    by_hook = Hook(
        id="1",
        model=MODEL,
        input=PromptInput(prompts=prompts),
        records=(Record(site="1.attn.pattern"),),
        interventions=(Keep(site="*", nodes=shown.circuit.nodes),) if in_circuit else (),
    )
    recorded = desk.ask(by_hook, frames)
    expected = desk.array(recorded.reply.recorded[0].value, recorded)[:, reply.head]
    found = desk.array(reply.attention, answered)
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(found[row, :length], expected[row, :length], atol=1e-6)
        np.testing.assert_allclose(found[row, :length].sum(1), 1, atol=1e-5)
        assert not found[row, length:].any()
    for other in (replace(asked, n_attention_pairs=0), replace(asked, site="1.mlp.act_in")):
        without = desk.ask(other).reply
        assert isinstance(without, NodeSampled)
        assert (without.head, without.attention) == (None, None)


@pytest.mark.parametrize(
    ("site", "silenced"),
    [
        ("1.attn.k", "1.attn.act_in"),
        ("1.attn.v", "1.attn.act_in"),
        ("0.attn.resid_delta", "0.attn.v"),
        ("1.mlp.resid_delta", "1.mlp.post_act"),
    ],
)
def test_samples_bring_the_bias_which_is_what_is_left_when_nothing_is_read(
    desk, sample, site, silenced
):
    frames: list[Frame] = []
    prompts = Prompts(tokens=pack(sample[:1].astype(np.int32), frames))
    request = Hook(
        id="1",
        model=MODEL,
        input=PromptInput(prompts=prompts),
        records=(Record(site=site),),
        interventions=(Zero(site=silenced),),
    )
    answered = desk.ask(request, frames)
    left = desk.array(answered.reply.recorded[0].value, answered)[0, 0]
    channel = int(np.abs(left).argmax())  # one that AbsTopK leaves alone
    assert left[channel] != 0
    asked = cq.NodeSamples(id="1", model=MODEL, site=site, channel=channel)
    assert desk.ask(asked).reply.bias == pytest.approx(float(left[channel]), abs=1e-6)


def test_what_a_block_reads_has_no_bias(desk, sample):
    asked = cq.NodeSamples(id="1", model=MODEL, site="1.mlp.act_in", channel=5)
    assert desk.ask(asked).reply.bias is None


def test_samples_of_a_model_without_text_and_of_a_node_that_is_none_say_so(desk):
    asked = cq.NodeSamples(id="1", model=MODEL, site="0.attn.q", channel=3)
    failed = desk.fail(asked)
    assert failed.error.code == "not_found"
    assert SAMPLE_FILE in (failed.error.asked or "")
    assert desk.fail(replace(asked, channel=99)).error.code == "bad_intervention"
    assert desk.fail(replace(asked, site="0.attn.y")).error.code == "not_found"


# ------------------------------------------------------------------------------- viz_data.pt


def exported(desk: Desk, ref: str) -> bytes:
    answered = desk.ask(cq.ExportCircuit(id="1", model=MODEL, circuit=ref, n_task_pairs=3))
    assert isinstance(answered.reply, CircuitExported)
    assert answered.reply.file_name == "viz_data.pt"
    return desk.array(answered.reply.data, answered).tobytes()


def opened(desk: Desk, file: bytes, **asked) -> CircuitShown:
    frames: list[Frame] = []
    data = pack(np.frombuffer(file, np.uint8), frames)
    request = cq.ImportCircuit(id="1", model=MODEL, viz_data=data, **asked)
    reply = desk.ask(request, frames).reply
    assert isinstance(reply, CircuitShown)
    return reply


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"ablation": "zero", "calibration": Calibration(scale=1.5, bias=0.1)},
        {"ablation": "resample"},
        {"nodes": ()},
    ],
)
def test_what_is_exported_and_imported_is_the_same_circuit(desk, sample, fields):
    shown = imported(desk, made(desk, share=0.05, **fields))
    if fields.get("calibration") and shown.details is not None:
        edges = tuple(edges_in(shown.details.edges))[:2]
        cut = cq.EditCircuit(
            id="1", model=MODEL, circuit=shown.summary.id, drop_edges=edges, save=True
        )
        edited = desk.ask(cut).reply
        shown = replace(
            shown, circuit=edited.circuit, summary=replace(shown.summary, id=edited.circuit_id)
        )
    back = opened(desk, exported(desk, shown.summary.id))
    assert circuit_id(back.circuit) == shown.summary.id
    assert back.circuit.nodes == shown.circuit.nodes
    assert back.circuit.measured == shown.circuit.measured
    assert back.circuit.found.origin == "imported"
    measured = desk.ask(cq.MeasureCircuit(id="1", model=MODEL, circuit=shown.summary.id)).reply
    assert back.details is not None
    for ours, theirs in zip(back.details.nodes, measured.details.nodes, strict=True):
        np.testing.assert_allclose(ours.deltas, theirs.deltas, atol=1e-4)
    for ours, theirs in zip(back.details.edges, measured.details.edges, strict=True):
        np.testing.assert_allclose(ours.deltas, theirs.deltas, atol=1e-4)


def test_an_exported_file_says_what_was_measured_in_the_published_units(desk, sample):
    shown = imported(desk, made(desk, share=0.05))
    widths = {site.name: site.width for site in node_space(CONFIG).sites}
    data = read_viz_data(exported(desk, shown.summary.id), widths)
    assert data.loss == pytest.approx(shown.circuit.measured.loss)
    assert data.model_loss == pytest.approx(shown.circuit.measured.model_loss)
    assert {site: c for site, c in data.nodes.items() if c} == {
        p.site: p.channels for p in shown.circuit.nodes
    }
    assert data.n_nodes_in_model == node_space(CONFIG).n_nodes


def test_a_file_in_the_published_layout_opens_here(desk):
    file = saved(published(CONFIG.to_json()))
    shown = opened(desk, file, task=TASK, sweep="published")
    kept = {p.site: p.channels for p in shown.circuit.nodes}
    assert kept == {site: tuple(sorted(c)) for site, c in CIRCUIT.items() if c}
    assert (shown.circuit.ablation, shown.summary.label) == (
        "mean",
        "10",
    )
    loss, _ = measured_by_ablate(desk, shown.circuit, "train", N_PAIRS)
    assert shown.circuit.measured.loss == pytest.approx(
        loss, abs=1e-5
    )  # ours: its task is not known
    assert "loss 0.1500, unpruned 0.1000" in shown.circuit.found.note
    assert "k_coef" in (shown.circuit.found.imported_config or "")
    details = shown.details
    assert details is not None
    deltas = {p.site: dict(zip(p.channels, p.deltas, strict=True)) for p in details.nodes}
    # Channels were 40, 5 with losses .4 / 2 and .5 / 2, the circuit's is .3 / 2.
    assert deltas["0.mlp.post_act"] == pytest.approx({5: 0.1, 40: 0.05})
    layers = {(d.layer, d.half): (d.n_nodes, d.delta) for d in details.layers}
    assert layers == {
        (0, "mlp"): (5, pytest.approx(0.4)),
        (1, "attn"): (4, pytest.approx(0.1)),
    }
    assert [(point.step, point.loss) for point in details.curve] == [
        (8, 0.7),
        (16, pytest.approx(0.6)),
        (24, 0.5),
    ]


def test_files_that_do_not_fit_the_model_are_refused_and_nothing_is_written(desk):
    other = published(CONFIG.to_json() | {"n_layer": 9, "sink": False})
    for content, says in [
        (other, "n_layer=9, sink=False"),
        (published(CONFIG.to_json() | {"n_layer": 0}), "n_layer"),
        (published(CONFIG.to_json(), {"0.attn.q": [400]}), "channel 400"),
    ]:
        content.pop("samples")
        frames: list[Frame] = []
        data = pack(np.frombuffer(saved(content), np.uint8), frames)
        request = cq.ImportCircuit(id="1", model=MODEL, viz_data=data, task=TASK)
        error = desk.fail(request, frames).error
        assert says in f"{error.asked} {error.found}"
    frames = []
    data = pack(np.frombuffer(saved(published(CONFIG.to_json())), np.uint8), frames)
    error = desk.fail(cq.ImportCircuit(id="1", model=MODEL, viz_data=data), frames).error
    assert "task" in error.message
    frames = []
    wrong = pack(np.zeros(5, np.float32), frames)
    failed = desk.fail(cq.ImportCircuit(id="1", model=MODEL, viz_data=wrong, task=TASK), frames)
    assert failed.error.code == "bad_shape"
    failed = desk.fail(cq.ImportCircuit(id="1", model=MODEL))
    assert failed.error.code == "invalid_request"
    assert desk.host.circuits.summaries() == ()


def test_a_reference_means_rather_a_circuit_of_the_model_at_hand(desk):
    ours = imported(desk, made(desk), sweep="s").summary
    desk.host.circuits.save(made(desk, model="another", model_hash="ff"), "s")
    place = place_of(ours).partition("/")[2]
    reply = desk.ask(
        cq.EditCircuit(id="1", model=MODEL, circuit=place, add=(SiteChannels(site="final_resid"),))
    ).reply
    assert reply.circuit.found.parents == (ours.id,)
