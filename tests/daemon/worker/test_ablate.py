"""`ablate` and `tasks.evaluate` against plain forwards with plain interventions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from circuit_protocol import interventions as iv
from circuit_protocol.errors import BadIntervention, BadShape, InvalidRequest, NotFound
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
from circuitd.circuits.nodes import node_space
from circuitd.engine import gpt
from circuitd.engine import interventions as engine
from circuitd.engine.plan import Plan
from circuitd.worker import output
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
