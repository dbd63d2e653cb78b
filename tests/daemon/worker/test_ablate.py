"""`ablate` and `tasks.evaluate` against plain forwards with plain interventions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from circuit_protocol import interventions as iv
from circuit_protocol.errors import (
    BadIntervention,
    BadShape,
    InvalidRequest,
    NotFound,
    OutOfMemory,
)
from circuit_protocol.replies import (
    AblatePart,
    AblateResult,
    AnyReply,
    TaskScores,
)
from circuit_protocol.requests import (
    Ablate,
    AblateEdges,
    AblateHeads,
    AblateLayers,
    AblateNodes,
    AblateSites,
    Edge,
    EvaluateTasks,
    Every,
    PromptInput,
    TaskInput,
)
from circuit_protocol.tensors import Frame, Handle, Tensor, pack, unpack
from circuitd.circuits import ablate as sweeps
from circuitd.circuits.nodes import node_space
from circuitd.engine import gpt
from circuitd.engine import interventions as engine
from circuitd.engine.device import DeviceMemory
from circuitd.engine.plan import Plan
from circuitd.engine.sparse.lanes import execute
from circuitd.worker import memory, output
from circuitd.worker.context import Context
from circuitd.worker.handlers import ablate
from circuitd.worker.masks import read_masks

ANSWERS = np.array([[3, 9], [100, 7], [2000, 12]])


@pytest.fixture
def given(prompts, packed) -> PromptInput:
    return PromptInput(prompts=prompts, answers=packed(ANSWERS, np.int32))


def result(reply: AnyReply) -> AblateResult:
    assert isinstance(reply, AblateResult)
    return reply


def ask(desk, given, **asked) -> tuple[AblateResult, np.ndarray]:
    """The result and its losses [M]."""
    answered = desk.ask(Ablate(id="1", model="tiny", input=given, **asked))
    reply = result(answered.reply)
    return reply, desk.array(reply.losses, answered)


def context_of(desk, request: Ablate, checkpoint_dir: Path | None = None) -> Context:
    item = replace(desk.item(request), checkpoint_dir=checkpoint_dir and str(checkpoint_dir))
    return Context(desk.host, item, request)


def plain_loss(desk, tokens, *interventions: engine.Intervention) -> float:
    """Two-token loss by a plain forward: the independent computation."""
    run = gpt.forward(
        desk.model.weights,
        torch.from_numpy(tokens[0]),
        Plan(interventions=interventions, logits="last", lengths=torch.tensor(tokens[1])),
    )
    assert run.logits is not None
    answered = run.logits.gather(1, torch.from_numpy(ANSWERS))
    return float(-answered.log_softmax(-1)[:, 0].mean())


@pytest.fixture
def tokens(prompts) -> tuple[np.ndarray, tuple[int, ...]]:
    return unpack(prompts.tokens, ()).astype(np.int64), prompts.lengths


def test_nodes_sites_heads_and_layers_equal_plain_interventions(desk, given, tokens):
    masks = (
        (AblateNodes(nodes=(iv.SiteChannels(site="1.mlp.post_act", channels=(3, 5)),)),),
        (AblateSites(site="0.attn.v", kind="zero"),),
        (AblateHeads(layer=1, heads=(2,), kind="zero"),),
        (AblateLayers(layers=(0,), half="mlp", kind="zero"),),
        (
            AblateSites(site="0.attn.v", kind="zero"),
            AblateNodes(nodes=(iv.SiteChannels(site="final_resid", channels=(0,)),)),
        ),
    )
    reply, losses = ask(desk, given, masks=masks)
    means = desk.model.means
    head = [
        engine.Zero(f"1.attn.{kind}", channels=tuple(range(16, 24))) for kind in ("q", "k", "v")
    ]
    expected = [
        plain_loss(
            desk, tokens, engine.Mean("1.mlp.post_act", means["1.mlp.post_act"], channels=(3, 5))
        ),
        plain_loss(desk, tokens, engine.Zero("0.attn.v")),
        plain_loss(desk, tokens, *head),
        plain_loss(desk, tokens, engine.Zero("0.mlp.resid_delta")),
        plain_loss(
            desk,
            tokens,
            engine.Zero("0.attn.v"),
            engine.Mean("final_resid", means["final_resid"], channels=(0,)),
        ),
    ]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert reply.model_loss == pytest.approx(plain_loss(desk, tokens), rel=1e-5)
    assert reply.base_loss == reply.model_loss


def test_a_circuit_to_keep_is_what_every_mask_starts_from(desk, given, tokens):
    keep = (
        iv.SiteChannels(site="*.attn.*"),
        iv.SiteChannels(site="*.mlp.*", channels=tuple(range(20))),
        iv.SiteChannels(site="final_resid"),
    )
    reply, losses = ask(desk, given, keep=keep, every=Every(of="site"))
    interventions = []
    for site in ("0.mlp.act_in", "0.mlp.post_act", "0.mlp.resid_delta"):
        interventions += [_kept(desk, site), _kept(desk, site.replace("0.", "1.", 1))]
    assert reply.base_loss == pytest.approx(plain_loss(desk, tokens, *interventions), rel=1e-5)
    assert reply.model_loss == pytest.approx(plain_loss(desk, tokens), rel=1e-5)
    assert len(losses) == len(reply.things) == len(node_space(desk.model.config).sites)
    assert reply.things[-1].site == "final_resid"


def _kept(desk, site: str) -> engine.Keep:
    mask = torch.arange(len(desk.model.means[site])) < 20
    return engine.Keep(site, mask, desk.model.means[site])


def test_every_node_of_a_set_has_its_own_loss_in_node_order(desk, given, tokens):
    nodes = (
        iv.SiteChannels(site="1.attn.resid_delta", channels=(7, 1)),
        iv.SiteChannels(site="0.mlp.post_act", channels=(2,)),
    )
    reply, losses = ask(desk, given, every=Every(of="node", nodes=nodes), kind="zero")
    things = [(thing.site, thing.channel) for thing in reply.things]
    assert things == [("0.mlp.post_act", 2), ("1.attn.resid_delta", 1), ("1.attn.resid_delta", 7)]
    expected = [plain_loss(desk, tokens, engine.Zero(s, channels=(c,))) for s, c in things]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_every_edge_is_cut_alone_and_equals_asking_for_it(desk, given):
    nodes = (
        iv.SiteChannels(site="0.mlp.act_in", channels=tuple(range(8))),
        iv.SiteChannels(site="0.mlp.post_act", channels=tuple(range(8))),
    )
    reply, losses = ask(desk, given, every=Every(of="edge", nodes=nodes))
    weight = desk.model.weights.layers[0].c_fc[:8, :8]
    assert len(losses) == int((weight != 0).sum())
    edges = [thing.edge for thing in reply.things if thing.edge is not None]
    _, again = ask(desk, given, masks=tuple((AblateEdges(edges=(edge,)),) for edge in edges))
    np.testing.assert_allclose(losses, again, rtol=1e-6)
    assert len(set(losses.tolist())) > 1


def test_packed_masks_name_the_nodes_that_stay(desk, given, packed, tokens):
    space = node_space(desk.model.config)
    kept = np.ones((2, space.n_nodes), dtype=bool)
    kept[1, space.nodes("1.attn.v", [4])] = False
    frames: list[Frame] = []
    tensor = pack(kept, frames)
    request = Ablate(id="1", model="tiny", input=given, packed=tensor, kind="zero")
    answered = desk.ask(request, frames)
    losses = desk.array(result(answered.reply).losses, answered)
    expected = [
        plain_loss(desk, tokens),
        plain_loss(desk, tokens, engine.Zero("1.attn.v", channels=(4,))),
    ]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_logit_changes_are_against_the_base(desk, given):
    masks = ((), (AblateSites(site="1.mlp.post_act", kind="zero"),))
    answered = desk.ask(Ablate(id="1", model="tiny", input=given, masks=masks, logit_changes=True))
    changes = desk.array(result(answered.reply).logit_changes, answered)
    assert changes.shape == (2, 3, 2)
    np.testing.assert_allclose(changes[0], 0, atol=1e-6)
    assert np.abs(changes[1]).max() > 1e-3


def test_parts_hold_the_losses_of_the_result_in_order(desk, given):
    replies = desk.ask_all([Ablate(id="1", model="tiny", input=given, every=Every(of="node"))])[0]
    losses = desk.array(result(replies[-1].reply).losses, replies[-1])
    seen = 0
    for part in replies[:-1]:
        if isinstance(part.reply, AblatePart):
            values = desk.array(part.reply.losses, part)
            assert part.reply.start == seen
            np.testing.assert_array_equal(values, losses[seen : seen + len(values)])
            seen += len(values)
    assert 0 < seen <= len(losses)


def test_a_job_goes_on_from_its_checkpoint_to_the_same_bits(desk, given, tmp_path, monkeypatch):
    monkeypatch.setattr(ablate, "_CHECKPOINT_INTERVAL_S", 0.0)
    request = Ablate(id="1", model="tiny", input=given, every=Every(of="node"))
    _, whole = ask(desk, given, every=Every(of="node"))
    context = context_of(desk, request, checkpoint_dir=tmp_path)
    steps = ablate.run(request, context)
    while not (tmp_path / "ablate.safetensors").exists():
        next(steps)
    steps.close()  # as if the worker had been killed
    resumed = context_of(desk, request, checkpoint_dir=tmp_path)
    outputs = [output for output in ablate.run(request, resumed) if output is not None]
    last = outputs[-1]
    np.testing.assert_array_equal(unpack(result(last.reply).losses, last.frames), whole)


def test_a_jobs_reply_holds_no_tensor_in_the_daemon(desk, given, tmp_path, monkeypatch):
    monkeypatch.setattr(output, "AUTO_INLINE_NBYTES", 0)
    request = Ablate(id="1", model="tiny", input=given, masks=((),), logit_changes=True)
    for directory, kind in ((None, Handle), (tmp_path, Tensor)):
        context = context_of(desk, request, checkpoint_dir=directory)
        last = [output for output in ablate.run(request, context) if output is not None][-1]
        assert isinstance(result(last.reply).logit_changes, kind)


def test_a_mask_that_names_nothing_ablates_nothing(desk, given):
    nothing = (AblateHeads(layer=0, heads=()), AblateLayers(layers=()), AblateNodes(nodes=()))
    reply, losses = ask(desk, given, masks=tuple((one,) for one in nothing))
    assert losses.tolist() == pytest.approx([reply.model_loss] * 3)


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({}, InvalidRequest),
        ({"masks": ((),), "every": Every(of="node")}, InvalidRequest),
        ({"masks": ((AblateHeads(layer=9, heads=(0,)),),)}, BadIntervention),
        ({"masks": ((AblateHeads(layer=0, heads=(4,)),),)}, BadIntervention),
        ({"masks": ((AblateSites(site="2.attn.v"),),)}, NotFound),
        ({"masks": ((AblateSites(site="0.resid_in"),),)}, NotFound),
        (
            {"masks": ((AblateNodes(nodes=(iv.SiteChannels(site="0.attn.v", channels=(99,)),)),),)},
            BadIntervention,
        ),
        (
            {
                "masks": (
                    (
                        AblateEdges(
                            edges=(
                                Edge(
                                    source="0.attn.q",
                                    source_channel=0,
                                    target="0.attn.k",
                                    target_channel=0,
                                ),
                            )
                        ),
                    ),
                )
            },
            BadIntervention,
        ),
        ({"packed": Tensor(dtype="BOOL", shape=(1, 3), data=b"\1\1\1")}, BadShape),
    ],
)
def test_senseless_ablations_are_refused_by_type(desk, given, asked, error):
    failed = desk.fail(Ablate(id="1", model="tiny", input=given, **asked))
    assert failed.error.code == error.code, failed.error


def test_prompts_without_a_right_answer_are_refused(desk, prompts):
    request = Ablate(
        id="1", model="tiny", input=PromptInput(prompts=prompts), every=Every(of="layer")
    )
    assert "answers" in (desk.fail(request).error.hint or "")


def test_evaluating_gives_one_partial_reply_per_task_and_a_score_each(desk):
    names = ("single_double_quote", "bracket_counting")
    request = EvaluateTasks(id="1", model="tiny", tasks=names, n=4)
    replies = [a.reply for a in desk.ask_all([request])[0]]
    scores = [reply for reply in replies if isinstance(reply, TaskScores)]
    assert [len(reply.scores) for reply in scores] == [1, 2]
    for score, name in zip(scores[-1].scores, names, strict=True):
        assert (score.task, score.rows) == (name, 8)
        task = TaskInput(task=name, n=4, split="held_out")
        _, losses = ask(desk, task, masks=((),))
        assert score.loss == pytest.approx(float(losses[0]), rel=1e-5)


def test_an_unknown_task_fails_before_any_work(desk):
    failed = desk.fail(EvaluateTasks(id="1", model="tiny", tasks=("no_such",), n=4))
    assert failed.error.code == NotFound.code


def test_a_mask_plan_knows_which_kinds_it_uses(desk, given):
    request = Ablate(id="1", model="tiny", input=given, masks=((AblateSites(site="0.attn.v"),),))
    assert read_masks(context_of(desk, request), request).kinds == {"mean"}
    request = replace(request, kind="zero")
    assert read_masks(context_of(desk, request), request).kinds == {"zero"}


def test_a_sweep_says_how_it_ran_and_why_not_on_the_kernels(desk, given):
    node = (AblateNodes(nodes=(iv.SiteChannels(site="0.attn.v", channels=(1,)),)),)
    mixed = (*node, AblateSites(site="1.mlp.post_act", kind="zero"))
    few = (iv.SiteChannels(site="1.mlp.post_act", channels=(1,)),)
    cases = [
        ({}, "sparse"),
        ({"keep": few}, "compiled circuit"),
        ({"kind": "resample"}, "resampled"),
        ({"logit_changes": True}, "logits"),
        ({"masks": (mixed,)}, "more than one way"),
    ]
    for asked, said in cases:
        reply, _ = ask(desk, given, **({"masks": (node,)} | asked))
        assert said in reply.execution, asked


@pytest.mark.parametrize("kind", ["mean", "zero"])
@pytest.mark.parametrize("is_circuit", [False, True])
def test_the_kernels_and_batched_passes_give_the_same(desk, given, monkeypatch, kind, is_circuit):
    keep = (iv.SiteChannels(site="*", channels=tuple(range(4))),) if is_circuit else None
    asked = {"kind": kind, "keep": keep}
    for every in (Every(of="node", nodes=keep), Every(of="head"), Every(of="layer")):
        with monkeypatch.context() as patched:
            patched.setattr(ablate, "_why_passes", lambda *_: "a test asks for them")
            expected, losses = ask(desk, given, every=every, **asked)
        reply, found = ask(desk, given, every=every, **asked)
        assert ("compiled" in reply.execution) == is_circuit
        np.testing.assert_allclose(found, losses, rtol=1e-4, atol=1e-6)
        assert reply.base_loss == pytest.approx(expected.base_loss, rel=1e-4)
        assert reply.model_loss == pytest.approx(expected.model_loss, rel=1e-4)
        assert reply.base_accuracy == expected.base_accuracy


def test_means_that_were_sent_replace_the_models_own_on_the_kernels(desk, given, packed):
    means = np.random.default_rng(3).standard_normal(node_space(desk.model.config).n_nodes)
    frames: list[Frame] = []
    tensor = pack(means.astype(np.float32), frames)
    masks = ((AblateSites(site="1.mlp.post_act"),),)
    request = Ablate(id="1", model="tiny", input=given, masks=masks, means=tensor)
    losses = [
        desk.array(result(answered.reply).losses, answered)
        for answered in (
            desk.ask(request, frames),
            desk.ask(replace(request, logit_changes=True), frames),
        )
    ]
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_packed_circuits_are_scored_against_what_they_have_in_common(desk, given):
    space = node_space(desk.model.config)
    some = space.mask((site.name, range(4)) for site in space.sites)
    rng = np.random.default_rng(0)
    kept = some & (rng.random((20, space.n_nodes)) < 0.9)
    frames: list[Frame] = []
    tensor = pack(kept, frames)
    request = Ablate(id="1", model="tiny", input=given, packed=tensor)
    compiled = desk.ask(request, frames)
    assert result(compiled.reply).execution == "compiled circuit"
    passes = desk.ask(replace(request, logit_changes=True), frames)
    losses = [desk.array(result(a.reply).losses, a) for a in (compiled, passes)]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    assert len(set(losses[0].tolist())) > 1
    assert result(compiled.reply).base_loss == pytest.approx(result(compiled.reply).model_loss)


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ({"kind": "resample"}, "at every node"),
        ({"logit_changes": True}, "changes of"),
    ],
)
def test_a_sweep_too_large_for_memory_is_refused_before_it_starts(
    desk, given, monkeypatch, asked, what
):
    monkeypatch.setattr(memory, "_SMALL_NBYTES", 0)
    monkeypatch.setattr(
        memory.engine_device,
        "memory",
        lambda _: DeviceMemory(9, 1, 8),
    )
    ran: list[object] = []
    monkeypatch.setattr(ablate, "_last", lambda steps: ran.append(steps))
    request = Ablate(id="1", model="tiny", input=given, every=Every(of="node"), **asked)
    failed = desk.fail(request)
    assert failed.error.code == OutOfMemory.code
    assert what in failed.error.message
    assert not ran


def test_streams_that_are_too_large_to_keep_change_no_loss(desk, given, monkeypatch):
    for kind in ("mean", "resample"):
        _, kept = ask(desk, given, every=Every(of="head"), kind=kind)
        with monkeypatch.context() as patched:
            patched.setattr(sweeps, "_MOST_STREAM_NBYTES", 0)
            patched.setattr(execute, "_MOST_BYTES", 0)
            _, dropped = ask(desk, given, every=Every(of="head"), kind=kind)
        np.testing.assert_allclose(dropped, kept, rtol=1e-5)
