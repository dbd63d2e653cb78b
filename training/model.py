"""The network while it is trained: the same function as the engine's, arranged for speed.

Parameters carry the names of the published state dict, so that a state dict of this module *is*
a checkpoint. Matrix products and activations between them run in bfloat16 under autocast, the
stream, the norms and the master weights in float32. Attention uses PyTorch's flash kernel for
CPUs, to which the sink is added afterwards (see `_SinkAttention`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from circuitd.engine.config import GPTConfig
from training.topk import abs_topk


class Network(nn.Module):
    """Token ids `[B, T]` to logits; every parameter named as in the published state dict.

    Only the kind of network that the recipe trains: RMSNorm, sinks, added positions, untied
    unembedding, and AbsTopK at every location but `resid_post_*`.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(config.vocab_size, config.d_model),
                "wpe": nn.Embedding(config.block_size, config.d_model),
                "h": nn.ModuleList(_Block(config) for _ in range(config.n_layer)),
                "ln_f": _Norm(config.d_model),
            }
        )
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.final_logits_bias = nn.Parameter(torch.zeros(config.vocab_size))

    def reset(self, seed: int) -> None:
        """Initialise: normal 0.02, output projections smaller by sqrt(2 * n_layer), biases 0."""
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                shrink = (2 * self.config.n_layer) ** 0.5 if name.endswith("c_proj.weight") else 1.0
                nn.init.normal_(parameter, std=0.02 / shrink, generator=generator)
            elif name.endswith(("bias", "sink_logit")):
                nn.init.zeros_(parameter)
            else:
                nn.init.ones_(parameter)

    def blocks(self) -> list[_Block]:
        """The blocks, first to last."""
        return list(self.transformer["h"])  # pyright: ignore[reportArgumentType] # a ModuleList

    def stream(self, tokens: Tensor) -> Tensor:
        """The normed final stream `[B, T, D]`, float32, of `tokens` `[B, T]`."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.transformer["wte"](tokens) + self.transformer["wpe"](positions)
        for block in self.blocks():
            x = block(x)
        return self.transformer["ln_f"](x)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits `[B, T, V]`."""
        return F.linear(self.stream(tokens), self.lm_head.weight, self.final_logits_bias)

    def loss(self, tokens: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mean cross-entropy in nats of `targets` `[B, T]`, weighted by `weights` `[B, T]`."""
        x = self.stream(tokens).flatten(0, 1)
        if weights is None:
            weights = torch.ones_like(targets, dtype=torch.float32)
        parts = (self.lm_head.weight, self.final_logits_bias, targets.flatten(), weights.flatten())
        return _CrossEntropy.apply(x, *parts)  # pyright: ignore[reportReturnType] # apply is untyped


def n_kept(config: GPTConfig, width: int) -> int:
    """How many of `width` activations AbsTopK keeps."""
    return width if config.afrac is None else int(config.afrac * width)


class _Block(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln_1 = _Norm(config.d_model)
        self.attn = _Attention(config)
        self.ln_2 = _Norm(config.d_model)
        self.mlp = _Mlp(config)
        self.k = n_kept(config, config.d_model)

    def forward(self, x: Tensor) -> Tensor:
        x = x + abs_topk(self.attn(abs_topk(self.ln_1(x).bfloat16(), self.k)), self.k)
        return x + abs_topk(self.mlp(abs_topk(self.ln_2(x).bfloat16(), self.k)), self.k)


class _Norm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight)


class _Sink(nn.Module):
    def __init__(self, n_head: int) -> None:
        super().__init__()
        self.sink_logit = nn.Parameter(torch.zeros(n_head))


class _Attention(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        width = config.d_attn
        self.n_head, self.d_head = config.n_head, config.d_head
        self.k = n_kept(config, width)
        self.c_attn = nn.Linear(config.d_model, 3 * width)
        self.c_proj = nn.Linear(width, config.d_model)
        self.attn_imp = _Sink(config.n_head)

    def forward(self, x: Tensor) -> Tensor:
        B, T, _ = x.shape
        q, k, v = self.c_attn(x).chunk(3, dim=-1)  # [B, T, H * D]
        q, k, v = (
            abs_topk(t, self.k).view(B, T, self.n_head, self.d_head).transpose(1, 2)
            for t in (q, k, v)
        )  # [B, H, T, D]
        y: Tensor = _SinkAttention.apply(q, k, v, self.attn_imp.sink_logit)  # pyright: ignore[reportAssignmentType] # apply is untyped
        return self.c_proj(y.transpose(1, 2).reshape(B, T, -1))


class _Mlp(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.k = n_kept(config, config.d_mlp)
        self.activation = F.gelu if config.activation_type == "gelu" else F.relu
        self.c_fc = nn.Linear(config.d_model, config.d_mlp)
        self.c_proj = nn.Linear(config.d_mlp, config.d_model)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(abs_topk(self.activation(self.c_fc(x)), self.k))


class _SinkAttention(torch.autograd.Function):
    """Causal attention with one more key per head: logit `sink`, value zero.

    The flash kernel knows no sink. But it returns the log of the softmax's denominator, and the
    sink only enlarges that: the output shrinks by the share the sink takes. In the backward pass
    the kernel computes probabilities from the (enlarged) denominator and the row sums from the
    (shrunk) output, which is exact, since the sink's value is zero.
    """

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, sink: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        # The kernel's backward pass is twice as fast in float32 as in bfloat16.
        dtype = q.dtype
        q, k, v = q.float(), k.float(), v.float()
        y, log_denominator = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q, k, v, 0.0, True
        )
        sink = sink.detach().view(1, -1, 1).to(log_denominator.dtype)
        with_sink = torch.logaddexp(log_denominator, sink)  # [B, H, T]
        y = y * (log_denominator - with_sink).exp().unsqueeze(-1)
        ctx.save_for_backward(q, k, v, y, with_sink, sink)
        return y.to(dtype)

    @staticmethod
    def backward(ctx, grad_y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        q, k, v, y, with_sink, sink = ctx.saved_tensors
        dtype, grad_y = grad_y.dtype, grad_y.float()
        grad_q, grad_k, grad_v = (
            torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                grad_y, q, k, v, y, with_sink, 0.0, True
            )
        )
        row_sums = (grad_y * y).sum(-1)  # [B, H, T]
        grad_sink = -((sink - with_sink).exp() * row_sums).sum((0, 2))
        return grad_q.to(dtype), grad_k.to(dtype), grad_v.to(dtype), grad_sink


class _CrossEntropy(torch.autograd.Function):
    """Unembedding and weighted mean cross-entropy together, in chunks that stay in the cache.

    Logits of a whole batch are the largest tensor of the step; they are never stored: each
    chunk's gradient is computed while its logits are at hand.
    """

    N_ROWS = 512

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx, x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, row_weights: Tensor
    ) -> Tensor:
        low, low_weight, low_bias = x.bfloat16(), weight.bfloat16(), bias.bfloat16()
        shares = (row_weights / row_weights.sum()).unsqueeze(-1)  # [N, 1], together 1
        grad_x = torch.empty_like(x)
        grad_weight, grad_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        loss = torch.zeros((), dtype=torch.float32)
        for start in range(0, x.shape[0], _CrossEntropy.N_ROWS):
            rows = slice(start, start + _CrossEntropy.N_ROWS)
            p = F.linear(low[rows], low_weight, low_bias).float()
            p -= p.amax(-1, keepdim=True)
            target = targets[rows].unsqueeze(-1)
            target_logits = p.gather(-1, target)
            total = p.exp_().sum(-1, keepdim=True)
            loss += (shares[rows] * (total.log() - target_logits)).sum()
            p /= total
            p.scatter_add_(-1, target, torch.full_like(target_logits, -1.0))
            p *= shares[rows]
            grad = p.bfloat16()
            grad_x[rows] = (grad @ low_weight).float()
            grad_weight += grad.T @ low[rows]
            grad_bias += p.sum(0)
        ctx.save_for_backward(grad_x, grad_weight, grad_bias)
        return loss

    @staticmethod
    def backward(ctx, grad_loss: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        grad_x, grad_weight, grad_bias = ctx.saved_tensors
        return grad_x * grad_loss, grad_weight * grad_loss, grad_bias * grad_loss, None, None
