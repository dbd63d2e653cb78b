"""Weights: one network's tensors, typed and immutable, read from the published state-dict names.

Linear weights are [out, in] as published; `c_attn` holds the rows of q, then k, then v. Nothing in
the engine ever writes to them or asks for their gradient. Those of the blocks may be held as their
nonzeros, and then become dense when the dense execution first reads them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from circuitd.engine.config import GPTConfig
from circuitd.engine.errors import WeightsError
from circuitd.engine.nonzeros import Nonzeros, WeightMatrix
from circuitd.engine.precision import wide

if TYPE_CHECKING:
    from circuitd.engine.cuda.replay import Replays
    from circuitd.engine.sparse.tiles.blocks import SparseBlocks

#: A causal-mask buffer of old files; it says nothing that the network needs.
_IGNORED = re.compile(r"transformer\.h\.\d+\.attn\.bias")
_LAYER_NORM_EPS = 1e-5


@dataclass(frozen=True, eq=False)
class Norm:
    """LayerNorm or RMSNorm: gain [d], and for LayerNorm optionally a bias [d]."""

    gain: Tensor
    bias: Tensor | None
    is_rms: bool

    def __call__(self, x: Tensor) -> Tensor:
        """Normalise the last axis of `x` [..., d]."""
        if self.is_rms:
            return F.rms_norm(x, self.gain.shape, self.gain)
        return F.layer_norm(x, self.gain.shape, self.gain, self.bias, _LAYER_NORM_EPS)

    def scale(self, x: Tensor) -> Tensor:
        """The multiplier 1/rms or 1/std of each position of `x` [..., d]: [..., 1]."""
        values = wide(x)
        if self.is_rms:
            mean_square = values.square().mean(-1, keepdim=True)
            return torch.rsqrt(mean_square + torch.finfo(x.dtype).eps).to(x.dtype)
        variance = values.var(-1, keepdim=True, correction=0)
        return torch.rsqrt(variance + _LAYER_NORM_EPS).to(x.dtype)

    def apply_scale(self, x: Tensor, scale: Tensor) -> Tensor:
        """The norm's output when its multiplier is `scale` [..., 1], whatever `x` would give."""
        centred = x if self.is_rms else x - x.mean(-1, keepdim=True)
        y = centred * scale * self.gain
        return y if self.bias is None else y + self.bias


class Matrices(NamedTuple):
    """The linear weights of a block, in the order in which it multiplies by them."""

    c_attn: WeightMatrix  # [3 * n_head * d_head, d_in]
    attn_proj: WeightMatrix  # [d_model, n_head * d_head]
    c_fc: WeightMatrix  # [d_mlp, d_in]
    mlp_proj: WeightMatrix  # [d_model, d_mlp]


@dataclass(frozen=True, eq=False)
class Layer:
    """One block. `attn_pos`, `mlp_pos`: normed positional channels [block_size, d_pos].

    `c_attn`, `attn_proj`, `c_fc` and `mlp_proj` are the dense `matrices`, made where they are not.
    """

    ln_1: Norm
    matrices: Matrices
    c_attn_bias: Tensor | None
    attn_proj_bias: Tensor | None
    sink_logit: Tensor | None  # [n_head]
    ln_2: Norm
    c_fc_bias: Tensor | None
    mlp_proj_bias: Tensor | None
    attn_pos: Tensor | None
    mlp_pos: Tensor | None

    @property
    def c_attn(self) -> Tensor:
        """[3 * n_head * d_head, d_in]: rows of q, then k, then v."""
        return self.matrices.c_attn.dense

    @property
    def attn_proj(self) -> Tensor:
        """[d_model, n_head * d_head]."""
        return self.matrices.attn_proj.dense

    @property
    def c_fc(self) -> Tensor:
        """[d_mlp, d_in]."""
        return self.matrices.c_fc.dense

    @property
    def mlp_proj(self) -> Tensor:
        """[d_model, d_mlp]."""
        return self.matrices.mlp_proj.dense


@dataclass(frozen=True, eq=False)
class Weights:
    """Every tensor that the forward pass reads, on one device and in one dtype.

    `wpe` is added to the embedding [block_size, d_model]; it is None when positions are
    concatenated instead.
    """

    config: GPTConfig
    wte: Tensor  # [vocab_size, d_model]
    wpe: Tensor | None
    layers: tuple[Layer, ...]
    ln_f: Norm
    lm_head: Tensor  # [vocab_size, d_model]
    final_logits_bias: Tensor | None  # [vocab_size]
    bigram_table: Tensor | None  # [vocab_size, vocab_size], row = current token
    #: Bytes of all but the matrices of the blocks.
    other_nbytes: int
    #: The blocks on their nonzeros, where that was found to be faster: see `engine.sparse.choice`.
    sparse: SparseBlocks | None = None
    #: Passes on CUDA that are replayed as graphs.
    replays: Replays | None = None

    def bias_at(self, layer: int, kind: str) -> Tensor | None:
        """What is added to the channels [width] of a site like `attn.q` whatever it reads; of
        `mlp.post_act` before the activation function. None where nothing is.
        """
        its = self.layers[layer]
        match kind:
            case "attn.q" | "attn.k" | "attn.v" if its.c_attn_bias is not None:
                return its.c_attn_bias.chunk(3)["qkv".index(kind[-1])]
            case "attn.resid_delta":
                return its.attn_proj_bias
            case "mlp.post_act":
                return its.c_fc_bias
            case "mlp.resid_delta":
                return its.mlp_proj_bias
            case _:
                return None

    @property
    def nbytes(self) -> int:
        """Bytes held now, each tensor once, tied or not; more once a matrix was made dense."""
        beside = 0 if self.sparse is None else self.sparse.weights.nbytes
        matrices = sum(m.nbytes for layer in self.layers for m in layer.matrices)
        captured = 0 if self.replays is None else self.replays.nbytes
        return self.other_nbytes + matrices + beside + captured

    @cached_property
    def multiplies_nonzeros(self) -> bool:
        """Whether products are taken over nonzeros though `sparse` is not there: on CUDA."""
        return any(m.product is not None for layer in self.layers for m in layer.matrices)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.wte.device

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the tensors and of every activation."""
        return self.wte.dtype

    @classmethod
    def from_state(
        cls,
        config: GPTConfig,
        state: Mapping[str, Tensor | Nonzeros],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        *,
        copy: bool = True,
    ) -> Weights:
        """The network of `state` (published names), whose matrices may be given as nonzeros.

        Tensors are copied, so that later changes to `state` do not show, unless `copy` is False;
        nonzeros are shared.

        Raises `WeightsError` naming all missing, unexpected, mis-shaped and non-finite tensors.
        """
        check_shapes(config, state)
        _check_values(config, state)
        # Tensors made under inference mode could not take part in a later gradient.
        with torch.inference_mode(False), torch.no_grad():
            taken: dict[str, Tensor] = {}

            def get(name: str) -> Tensor | None:
                if name not in state:
                    return None
                if name not in taken:
                    value = _dense(state[name])
                    taken[name] = value.detach().to(device, dtype, copy=copy).contiguous()
                return taken[name]

            # Only there do kernels read nonzeros; elsewhere dense is what will be asked for.
            on = torch.device(device).type
            keeps_nonzeros = on == "cuda" or (on == "cpu" and dtype == torch.float32)

            def matrix(name: str) -> WeightMatrix:
                value = state[name]
                if not keeps_nonzeros:
                    value = _dense(value)
                if not isinstance(value, Nonzeros):
                    value = value.detach().to(device, dtype, copy=copy).contiguous()
                return WeightMatrix(value, dtype, torch.device(device))

            return _build(config, get, matrix, taken)


def expected_shapes(config: GPTConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that a state dict of this network must have."""
    d, d_in, d_pos = config.d_model, config.d_in, config.d_pos_emb
    shapes: dict[str, tuple[int, ...]] = {
        "transformer.wte.weight": (config.vocab_size, d),
        "transformer.wpe.weight": (config.block_size, d_pos or d),
    }

    def norm(name: str, width: int) -> None:
        shapes[f"{name}.weight"] = (width,)
        if config.ln_bias and not config.rms_norm:
            shapes[f"{name}.bias"] = (width,)

    def linear(name: str, n_out: int, n_in: int) -> None:
        shapes[f"{name}.weight"] = (n_out, n_in)
        if config.bias:
            shapes[f"{name}.bias"] = (n_out,)

    for i in range(config.n_layer):
        h = f"transformer.h.{i}"
        norm(f"{h}.ln_1", d)
        linear(f"{h}.attn.c_attn", 3 * config.d_attn, d_in)
        linear(f"{h}.attn.c_proj", d, config.d_attn)
        if config.sink:
            shapes[f"{h}.attn.attn_imp.sink_logit"] = (config.n_head,)
        norm(f"{h}.ln_2", d)
        linear(f"{h}.mlp.c_fc", config.d_mlp, d_in)
        linear(f"{h}.mlp.c_proj", d, config.d_mlp)
        if d_pos is not None:
            norm(f"{h}.ln_p1", d_pos)
            norm(f"{h}.ln_p2", d_pos)
    norm("transformer.ln_f", d)
    if not config.tied_unembed:
        shapes["lm_head.weight"] = (config.vocab_size, d)
    if config.enable_bigram_table:
        shapes["bigram_table"] = (config.vocab_size, config.vocab_size)
    return shapes


def optional_shapes(config: GPTConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of the tensors that a state dict may have or lack."""
    shapes: dict[str, tuple[int, ...]] = {"final_logits_bias": (config.vocab_size,)}
    if config.tied_unembed:
        shapes["lm_head.weight"] = (config.vocab_size, config.d_model)
    return shapes


def is_ignored(name: str) -> bool:
    """Whether a tensor of this name in a state dict says nothing that the network needs."""
    return _IGNORED.fullmatch(name) is not None


def check_shapes(config: GPTConfig, state: Mapping[str, Tensor | Nonzeros]) -> None:
    """Raise `WeightsError` for missing, unexpected and mis-shaped tensors; no value is read."""
    required, optional = expected_shapes(config), optional_shapes(config)
    known = {**required, **optional}
    present = [name for name in state if not is_ignored(name)]
    problems: list[str] = []
    if missing := [name for name in required if name not in state]:
        problems.append(f"missing {', '.join(missing)}")
    if unexpected := [name for name in present if name not in known]:
        problems.append(f"unexpected {', '.join(unexpected)}")
    present = [name for name in present if name in known]
    shaped_wrong = [
        f"{name} is {tuple(state[name].shape)} instead of {known[name]}"
        for name in present
        if tuple(state[name].shape) != known[name]
    ]
    if shaped_wrong:
        problems.append(f"wrong shape: {', '.join(shaped_wrong)}")
    if not_float := [name for name in present if not _is_float(state[name])]:
        problems.append(f"not floating-point: {', '.join(not_float)}")
    if problems:
        raise _wrong(problems)


def _check_values(config: GPTConfig, state: Mapping[str, Tensor | Nonzeros]) -> None:
    present = [name for name in state if not is_ignored(name)]
    problems: list[str] = []
    if bad := [name for name in present if not _is_finite(state[name])]:
        problems.append(f"NaN or infinity in {', '.join(bad)}")
    if config.tied_unembed and "lm_head.weight" in state:
        head, wte = state["lm_head.weight"], state["transformer.wte.weight"]
        if not torch.equal(_dense(head), _dense(wte)):
            problems.append("lm_head.weight differs from transformer.wte.weight, yet they are tied")
    if problems:
        raise _wrong(problems)


def _is_float(value: Tensor | Nonzeros) -> bool:
    return isinstance(value, Nonzeros) or value.is_floating_point()


def _is_finite(value: Tensor | Nonzeros) -> bool:
    if isinstance(value, Nonzeros):
        return bool(np.isfinite(value.values).all())
    if not value.numel():
        return True
    # Both ends are NaN where anything is. One pass, and no mask of the tensor's size.
    return all(bool(torch.isfinite(end)) for end in torch.aminmax(value))


def _dense(value: Tensor | Nonzeros) -> Tensor:
    return torch.from_numpy(value.dense()) if isinstance(value, Nonzeros) else value


def _wrong(problems: list[str]) -> WeightsError:
    return WeightsError("weights for this configuration", "; ".join(problems))


def _build(
    config: GPTConfig,
    get: Callable[[str], Tensor | None],
    matrix: Callable[[str], WeightMatrix],
    taken: dict[str, Tensor],
) -> Weights:
    def need(name: str) -> Tensor:
        tensor = get(name)
        assert tensor is not None, name  # `_check` has seen it
        return tensor

    def norm(name: str) -> Norm:
        return Norm(need(f"{name}.weight"), get(f"{name}.bias"), config.rms_norm)

    wpe = need("transformer.wpe.weight")

    def layer(i: int) -> Layer:
        h = f"transformer.h.{i}"
        concatenates = config.d_pos_emb is not None
        return Layer(
            ln_1=norm(f"{h}.ln_1"),
            matrices=Matrices(
                c_attn=matrix(f"{h}.attn.c_attn.weight"),
                attn_proj=matrix(f"{h}.attn.c_proj.weight"),
                c_fc=matrix(f"{h}.mlp.c_fc.weight"),
                mlp_proj=matrix(f"{h}.mlp.c_proj.weight"),
            ),
            c_attn_bias=get(f"{h}.attn.c_attn.bias"),
            attn_proj_bias=get(f"{h}.attn.c_proj.bias"),
            sink_logit=get(f"{h}.attn.attn_imp.sink_logit"),
            ln_2=norm(f"{h}.ln_2"),
            c_fc_bias=get(f"{h}.mlp.c_fc.bias"),
            mlp_proj_bias=get(f"{h}.mlp.c_proj.bias"),
            attn_pos=norm(f"{h}.ln_p1")(wpe) if concatenates else None,
            mlp_pos=norm(f"{h}.ln_p2")(wpe) if concatenates else None,
        )

    layers = tuple(layer(i) for i in range(config.n_layer))
    final_norm = norm("transformer.ln_f")
    wte = need("transformer.wte.weight")
    lm_head = wte if config.tied_unembed else need("lm_head.weight")
    logits_bias, bigram_table = get("final_logits_bias"), get("bigram_table")
    made = (t for x in layers for t in (x.attn_pos, x.mlp_pos) if t is not None)
    return Weights(
        config=config,
        wte=wte,
        wpe=None if config.d_pos_emb is not None else wpe,
        layers=layers,
        ln_f=final_norm,
        lm_head=lm_head,
        final_logits_bias=logits_bias,
        bigram_table=bigram_table,
        other_nbytes=sum(tensor.nbytes for tensor in (*taken.values(), *made)),
    )
