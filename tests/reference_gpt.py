"""An independent network to hold the engine against: numpy, float64, loops, from the facts.

Shares no code with the engine. `hook(site, x)` sees every activation [B, T, width] and returns what
flows on.
"""

import math

import numpy as np

FLOAT32_EPS = float(np.finfo(np.float32).eps)


def erf(x):
    return np.vectorize(math.erf)(x)


def keep_largest(x, fraction):
    k = int(fraction * x.shape[-1])
    out = np.zeros_like(x)
    for index in np.ndindex(x.shape[:-1]):
        row = x[index]
        for channel in sorted(range(len(row)), key=lambda c: (-abs(row[c]), c))[:k]:
            out[index][channel] = row[channel]
    return out


def run(config, state, tokens, hook=lambda site, x: x, rms_eps=FLOAT32_EPS):
    w = {name: np.asarray(tensor, dtype=np.float64) for name, tensor in state.items()}
    c = config
    B, T = tokens.shape

    def sparse(x, location):
        on = c.afrac is not None and location in c.afrac_loctypes
        return keep_largest(x, c.afrac) if on else x

    def norm(x, name):
        if c.rms_norm:
            y = x / np.sqrt((x**2).mean(-1, keepdims=True) + rms_eps)
        else:
            centred = x - x.mean(-1, keepdims=True)
            y = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return y * w[f"{name}.weight"] + w.get(f"{name}.bias", 0.0)

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)

    def with_positions(x, name):
        if c.d_pos_emb is None:
            return x
        positions = norm(w["transformer.wpe.weight"][:T], name)
        return np.concatenate([x, np.broadcast_to(positions, (B, *positions.shape))], axis=-1)

    def after_half(x, location):
        if c.residual_activation_type == "relu":
            x = np.maximum(x, 0.0)
        return sparse(x, location)

    x = w["transformer.wte.weight"][tokens]
    if c.d_pos_emb is None:
        x = x + w["transformer.wpe.weight"][:T]
    for layer in range(c.n_layer):
        name = f"transformer.h.{layer}"
        x = hook(f"{layer}.resid_in", x)
        h = sparse(with_positions(norm(x, f"{name}.ln_1"), f"{name}.ln_p1"), "attn_in")
        h = hook(f"{layer}.attn.act_in", h)
        q, k, v = np.split(linear(h, f"{name}.attn.c_attn"), 3, axis=-1)
        k = hook(f"{layer}.attn.k", sparse(k, "attn_k"))
        q = hook(f"{layer}.attn.q", sparse(q, "attn_q"))
        v = hook(f"{layer}.attn.v", sparse(v, "attn_v"))
        y = np.zeros((B, T, c.d_attn))
        for b in range(B):
            for head in range(c.n_head):
                at = slice(head * c.d_head, (head + 1) * c.d_head)
                for t in range(T):
                    scores = [q[b, t, at] @ k[b, s, at] / math.sqrt(c.d_head) for s in range(t + 1)]
                    if c.sink:
                        scores.append(w[f"{name}.attn.attn_imp.sink_logit"][head])
                    p = np.exp(np.array(scores) - max(scores))
                    y[b, t, at] = (p / p.sum())[: t + 1] @ v[b, : t + 1, at]
        y = hook(f"{layer}.attn.y", y)
        delta = hook(
            f"{layer}.attn.resid_delta", sparse(linear(y, f"{name}.attn.c_proj"), "attn_out")
        )
        x = hook(f"{layer}.resid_mid", after_half(x + delta, "resid_post_attn"))
        h = sparse(with_positions(norm(x, f"{name}.ln_2"), f"{name}.ln_p2"), "mlp_in")
        h = linear(hook(f"{layer}.mlp.act_in", h), f"{name}.mlp.c_fc")
        gelu = c.activation_type == "gelu"
        h = 0.5 * h * (1 + erf(h / math.sqrt(2))) if gelu else np.maximum(h, 0.0)
        h = hook(f"{layer}.mlp.post_act", sparse(h, "mlp_neuron"))
        delta = hook(f"{layer}.mlp.resid_delta", sparse(linear(h, f"{name}.mlp.c_proj"), "mlp_out"))
        x = after_half(x + delta, "resid_post_mlp")
    x = norm(hook("final_resid", x), "transformer.ln_f")
    head = w["transformer.wte.weight" if c.tied_unembed else "lm_head.weight"]
    logits = x @ head.T + w.get("final_logits_bias", 0.0)
    return logits + w["bigram_table"][tokens] if c.enable_bigram_table else logits
