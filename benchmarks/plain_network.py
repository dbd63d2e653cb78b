"""The published network in plain PyTorch, as one writes it today: what sparse execution is faster
than, by an author who is not ours.

Dense matrices, `torch.topk` and `scatter` for AbsTopK, PyTorch's fused attention with the sink as
one more key. It reads the published tensors by their names and shares no code with the engine.
Covers what csp_yolo2 uses: RMSNorm without bias, concatenated positions, a sink, a bigram table.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from circuitd.engine.config import GPTConfig

State = dict[str, Tensor]


class PlainNetwork:
    """Logits [B, T, V] of tokens [B, T]."""

    def __init__(self, config: GPTConfig, state: State) -> None:
        self._config = config
        self._state = state

    @torch.inference_mode()
    def __call__(self, tokens: Tensor) -> Tensor:
        """A forward pass."""
        w = self._state
        x = w["transformer.wte.weight"][tokens]
        for i in range(self._config.n_layer):
            x = x + self._attention(f"transformer.h.{i}", x)
            x = x + self._mlp(f"transformer.h.{i}", x)
        x = self._norm(x, "transformer.ln_f")
        logits = F.linear(x, w["lm_head.weight"], w["final_logits_bias"])
        return logits + w["bigram_table"][tokens]

    def _attention(self, block: str, x: Tensor) -> Tensor:
        (B, T, _), n_head = x.shape, self._config.n_head
        h = self._read(block, "ln_1", "ln_p1", x)
        qkv = self._linear(h, f"{block}.attn.c_attn").view(B, T, 3, -1)
        q, k, v = self._abs_top_k(qkv).view(B, T, 3, n_head, -1).permute(2, 0, 3, 1, 4)
        sink = self._state[f"{block}.attn.attn_imp.sink_logit"]
        bias = torch.full((T, T), float("-inf")).triu_(1).expand(1, n_head, T, T)
        bias = torch.cat([bias, sink.view(1, -1, 1, 1).expand(1, n_head, T, 1)], dim=-1)
        y = F.scaled_dot_product_attention(
            q, F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1)), attn_mask=bias
        )
        y = y.transpose(1, 2).reshape(B, T, -1)
        return self._abs_top_k(self._linear(y, f"{block}.attn.c_proj"))

    def _mlp(self, block: str, x: Tensor) -> Tensor:
        h = self._read(block, "ln_2", "ln_p2", x)
        h = self._abs_top_k(F.gelu(self._linear(h, f"{block}.mlp.c_fc")))
        return self._abs_top_k(self._linear(h, f"{block}.mlp.c_proj"))

    def _read(self, block: str, stream_norm: str, position_norm: str, x: Tensor) -> Tensor:
        """The normed stream, positions concatenated after it."""
        at = self._state["transformer.wpe.weight"][: x.shape[1]]
        at = self._norm(at, f"{block}.{position_norm}").expand(x.shape[0], -1, -1)
        return self._abs_top_k(torch.cat([self._norm(x, f"{block}.{stream_norm}"), at], dim=-1))

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self._state[f"{name}.weight"])

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self._state[f"{name}.weight"], self._state[f"{name}.bias"])

    def _abs_top_k(self, x: Tensor) -> Tensor:
        assert self._config.afrac is not None
        kept = x.abs().topk(int(self._config.afrac * x.shape[-1]), dim=-1, sorted=False).indices
        return torch.zeros_like(x).scatter_(-1, kept, x.gather(-1, kept))
