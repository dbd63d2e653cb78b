"""The engine equals the published implementation, as far as the golden files allow to check."""

import pytest
import torch
import torch.nn.functional as F

from circuitd.engine.attention import attend
from circuitd.engine.generate import generate
from circuitd.engine.gpt import forward
from circuitd.engine.interventions import Patch, Scale, Set, Zero
from circuitd.engine.plan import Gradient, Plan, Record
from circuitd.engine.sites import sites
from circuitd.engine.topk import abs_top_k
from circuitd.engine.weights import Weights
from small_models import (
    FOREIGN,
    REPRODUCIBLE,
    golden_config,
    golden_state,
    golden_vectors,
)

TOLERANCE = 1e-5  # relative to the largest entry


def close(found, expected, tolerance=TOLERANCE):
    error = (found - expected).abs().max() / expected.abs().max().clamp(min=1e-30)
    assert error <= tolerance, f"relative error {float(error):.2e}"


@pytest.fixture(scope="module")
def golden():
    return golden_vectors(REPRODUCIBLE)


@pytest.fixture(scope="module")
def weights():
    return Weights.from_state(golden_config(REPRODUCIBLE), golden_state(REPRODUCIBLE))


def test_every_activation_logit_and_loss(weights, golden):
    names = [key.removeprefix("hook.") for key in golden if key.startswith("hook.")]
    plan = Plan(record=tuple(map(Record, names)), targets=golden["targets"])
    run = forward(weights, golden["tokens"], plan)
    close(run.logits, golden["logits"])
    close(run.loss, golden["loss"])
    assert len(names) == 2 * 11 + 1
    for name in names:
        close(run.records[name], golden[f"hook.{name}"])


@pytest.mark.parametrize("explicit", [False, True], ids=["fused", "explicit"])
def test_gradient_of_the_loss_at_every_site(weights, golden, explicit):
    names = tuple(key.removeprefix("grad.") for key in golden if key.startswith("grad."))
    special = tuple(s.name for s in sites(weights.config) if explicit and not s.is_activation)
    run = forward(
        weights,
        golden["tokens"],
        Plan(targets=golden["targets"], gradient=Gradient("loss", names + special)),
    )
    for name in names:
        close(run.grads[name], golden[f"grad.{name}"])
    assert not any(t.requires_grad for t in (run.logits, run.loss, *run.grads.values()))


def test_every_intervention(weights, golden):
    last = weights.config.n_layer - 1
    captured = golden[f"hook.{last}.resid_in"].roll(1, 0)
    interventions = {
        "zero_post_act": Zero(f"{last}.mlp.post_act", channels=tuple(range(7))),
        "zero_attn_q0": Zero("0.attn.q"),
        "const_resid_delta": Set("0.mlp.resid_delta", 0.75, channels=(3, 4, 5)),
        "patch_resid_in": Patch(f"{last}.resid_in", captured),
        "scale_v_pos5": Scale("0.attn.v", -2.0, positions=(5,)),
    }
    asked = {key.split(".")[1] for key in golden if key.startswith("iv.")}
    assert asked == set(interventions)
    for name, intervention in interventions.items():
        plan = Plan(interventions=(intervention,), targets=golden["targets"])
        run = forward(weights, golden["tokens"], plan)
        close(run.logits, golden[f"iv.{name}.logits"])
        close(run.loss, golden[f"iv.{name}.loss"])


def test_greedy_generation(weights, golden):
    prompt = golden["tokens"][:1, :4]
    drawn = [step.tokens[:, None] for step in generate(weights, prompt, 8)]
    assert torch.equal(torch.cat([prompt, *drawn], dim=1), golden["generate_topk1"])


@pytest.mark.parametrize("name", FOREIGN)
class TestVectorsWhoseWeightsWeDoNotHave:
    """Relations inside the vectors; weights are solved for where many more equations than unknowns
    determine them.
    """

    def test_tripwire_the_stored_weights_are_still_not_those_of_the_vectors(self, name):
        golden, state, config = golden_vectors(name), golden_state(name), golden_config(name)
        Weights.from_state(config, state)  # names and shapes are right all the same
        embedded = state["transformer.wte.weight"][golden["tokens"]]
        if config.d_pos_emb is None:
            embedded = embedded + state["transformer.wpe.weight"][: embedded.shape[1]]
        difference = (embedded - golden["hook.0.resid_in"]).abs().max()
        assert difference > 0.1, f"{name} agrees now: test it like {REPRODUCIBLE}"

    def test_attention_and_sink(self, name):
        golden, config = golden_vectors(name), golden_config(name)
        for layer in range(config.n_layer):
            heads = [
                golden[f"hook.{layer}.attn.{kind}"]
                .unflatten(-1, (config.n_head, -1))
                .transpose(1, 2)
                for kind in "qkvy"
            ]
            q, k, v, y = heads
            sink = None
            if config.sink:
                # The only unknown: one number per head, from its 72 positions' loss of probability.
                bare = attend(q, k, v, None, None)
                kept = (y * bare).sum(-1) / bare.square().sum(-1)
                scores = (q @ k.mT) * config.d_head**-0.5
                causal = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).tril()
                total = scores.masked_fill(~causal, -torch.inf).logsumexp(-1)
                logits = total + torch.log1p(-kept) - kept.log()  # NaN where v is all zero
                sink = logits.transpose(0, 1).flatten(1).nanmedian(-1).values
            close(attend(q, k, v, sink, None), y)
            close(attend(q, k, v, sink, lambda pattern: pattern), y)

    def test_residual_stream_and_activation_sparsity(self, name):
        golden, config = golden_vectors(name), golden_config(name)
        locations = {
            "attn.act_in": "attn_in",
            "attn.q": "attn_q",
            "attn.k": "attn_k",
            "attn.v": "attn_v",
            "attn.resid_delta": "attn_out",
            "mlp.act_in": "mlp_in",
            "mlp.post_act": "mlp_neuron",
            "mlp.resid_delta": "mlp_out",
        }
        for layer in range(config.n_layer):
            for place, location in locations.items():
                x = golden[f"hook.{layer}.{place}"]
                assert torch.equal(abs_top_k(x, config.kept(location)), x)
            after = {"attn": f"{layer}.resid_mid", "mlp": f"{layer + 1}.resid_in"}
            if layer + 1 == config.n_layer:
                after["mlp"] = "final_resid"
            before = {"attn": f"{layer}.resid_in", "mlp": f"{layer}.resid_mid"}
            for half, kept in (("attn", "resid_post_attn"), ("mlp", "resid_post_mlp")):
                x = golden[f"hook.{before[half]}"] + golden[f"hook.{layer}.{half}.resid_delta"]
                close(abs_top_k(x, config.kept(kept)), golden[f"hook.{after[half]}"], 1e-6)

    def test_norms_up_to_their_gain_and_bias(self, name):
        golden, config = golden_vectors(name), golden_config(name)
        for layer in range(config.n_layer):
            for half, stream in (("attn", "resid_in"), ("mlp", "resid_mid")):
                x = golden[f"hook.{layer}.{stream}"].double().flatten(0, 1)
                y = golden[f"hook.{layer}.{half}.act_in"].double().flatten(0, 1)[:, : x.shape[1]]
                if config.rms_norm:
                    unit = F.rms_norm(x, x.shape[1:], eps=torch.finfo(torch.float32).eps)
                else:
                    unit = F.layer_norm(x, x.shape[1:], eps=1e-5)
                for channel in range(x.shape[1]):
                    kept = y[:, channel] != 0
                    columns = [unit[kept, channel]]
                    if not config.rms_norm:
                        columns.append(torch.ones(int(kept.sum()), dtype=torch.float64))
                    a, b = torch.stack(columns, -1), y[kept, channel, None]
                    if len(a) > a.shape[1]:
                        close(a @ torch.linalg.lstsq(a, b).solution, b)

    def test_loss(self, name):
        golden = golden_vectors(name)
        loss = F.cross_entropy(
            golden["logits"].flatten(0, 1), golden["targets"].flatten(), ignore_index=-1
        )
        close(loss, golden["loss"])
