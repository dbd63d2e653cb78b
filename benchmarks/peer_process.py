"""One peer, run as a script by the interpreter of .venv-peers: a GPT-2 of given weights, timed.

    python peer_process.py pytorch|transformer_lens|nnsight WEIGHTS.safetensors SHAPE.json

Each line on standard input is a JSON request and gets one JSON line as its answer:
{"subject": NAME, "calls": N} runs a subject of `Peer` N times and answers the seconds of each;
{"save": PATH} stores logits and the recorded site, so that the driver can compare networks.
Imports nothing of circuitd, which that environment does not have.
"""

import importlib
import json
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from typing_extensions import override  # a dependency of torch

Shape = dict[str, Any]
State = dict[str, Tensor]


class Peer(ABC):
    """What is asked of every framework, on the same tokens."""

    def __init__(self, shape: Shape) -> None:
        self.tokens = torch.tensor(shape["tokens"])
        self.layer: int = shape["n_layer"] - 1

    @abstractmethod
    def bare(self) -> Tensor:
        """A forward pass without hooks: logits [B, T, V]."""

    @abstractmethod
    def one_site(self) -> Tensor:
        """Record the last layer's MLP activations [B, T, d_mlp]."""

    @abstractmethod
    def one_edit(self) -> Tensor:
        """Logits with channel 0 of the last layer's MLP activations set to zero."""

    @abstractmethod
    def all_sites(self) -> list[Tensor]:
        """Record everything that the framework records if told to record all."""


class Block(nn.Module):
    """A GPT-2 block as one writes it today, with PyTorch's fused attention."""

    def __init__(self, d: int, n_head: int, d_mlp: int) -> None:
        super().__init__()
        self.n_head = n_head
        self.ln_1, self.ln_2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.attn = nn.ModuleDict({"c_attn": nn.Linear(d, 3 * d), "c_proj": nn.Linear(d, d)})
        mlp = {"c_fc": nn.Linear(d, d_mlp), "act": nn.GELU(), "c_proj": nn.Linear(d_mlp, d)}
        self.mlp = nn.ModuleDict(mlp)

    def forward(self, x: Tensor) -> Tensor:
        """The stream after the block, [B, T, d]."""
        B, T, d = x.shape
        qkv = self.attn["c_attn"](self.ln_1(x)).view(B, T, 3, self.n_head, d // self.n_head)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn["c_proj"](y.transpose(1, 2).reshape(B, T, d))
        return x + self.mlp["c_proj"](self.mlp["act"](self.mlp["c_fc"](self.ln_2(x))))


class GPT2(nn.Module):
    """GPT-2 as a plain module, its parameters named as in the published checkpoints."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        d = shape["d_model"]
        blocks = [Block(d, shape["n_head"], shape["d_mlp"]) for _ in range(shape["n_layer"])]
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(shape["vocab_size"], d),
                "wpe": nn.Embedding(shape["block_size"], d),
                "h": nn.ModuleList(blocks),
                "ln_f": nn.LayerNorm(d),
            }
        )
        self.lm_head = nn.Linear(d, shape["vocab_size"], bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [B, T, V] of tokens [B, T]."""
        at = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.transformer["wte"](tokens) + self.transformer["wpe"](at)
        for block in self.transformer["h"]:  # pyright: ignore[reportGeneralTypeIssues]  # a ModuleList
            x = block(x)
        return self.lm_head(self.transformer["ln_f"](x))


def plain_model(shape: Shape, state: State) -> GPT2:
    """The plain module with the given weights."""
    model = GPT2(shape).eval()
    model.load_state_dict(state)
    return model


class PyTorch(Peer):
    """Forward hooks on the plain module: the least a framework can cost."""

    def __init__(self, shape: Shape, state: State) -> None:
        super().__init__(shape)
        self.model = plain_model(shape, state)
        self.site = self.model.get_submodule(f"transformer.h.{self.layer}.mlp.act")
        self.leaves = [m for m in self.model.modules() if not list(m.children())]

    @override
    def bare(self) -> Tensor:
        return self.model(self.tokens)

    @override
    def one_site(self) -> Tensor:
        return self._recorded([self.site])[0]

    @override
    def one_edit(self) -> Tensor:
        def edit(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            output = output.clone()
            output[..., 0] = 0
            return output

        handle = self.site.register_forward_hook(edit)
        try:
            return self.model(self.tokens)
        finally:
            handle.remove()

    @override
    def all_sites(self) -> list[Tensor]:
        return self._recorded(self.leaves)

    def _recorded(self, modules: list[nn.Module]) -> list[Tensor]:
        values: list[Tensor] = []

        def record(module: nn.Module, args: Any, output: Tensor) -> None:
            values.append(output)

        handles = [module.register_forward_hook(record) for module in modules]
        try:
            self.model(self.tokens)
        finally:
            for handle in handles:
                handle.remove()
        return values


class TransformerLens(Peer):
    """TransformerLens 4: a bridge around transformers' GPT-2, which is how it loads models."""

    def __init__(self, shape: Shape, state: State) -> None:
        super().__init__(shape)
        # Not installed where this file is type-checked.
        transformers: Any = importlib.import_module("transformers")
        sources: Any = importlib.import_module("transformer_lens.model_bridge.sources")
        config = transformers.GPT2Config(
            vocab_size=shape["vocab_size"],
            n_positions=shape["block_size"],
            n_embd=shape["d_model"],
            n_layer=shape["n_layer"],
            n_head=shape["n_head"],
            n_inner=shape["d_mlp"],
            activation_function="gelu",
            tie_word_embeddings=False,
            use_cache=False,
            bos_token_id=0,
            eos_token_id=0,
        )
        model = transformers.GPT2LMHeadModel(config).eval()
        # transformers keeps GPT-2's block weights as [in, out].
        model.load_state_dict(
            {k: v.T if ".c_" in k and k.endswith(".weight") else v for k, v in state.items()}
        )
        # Not boot_transformers: that would fetch a tokenizer.
        bridge = sources.build_bridge_from_module(model, "GPT2LMHeadModel", hf_config=config)
        self.bridge: Any = bridge.eval()
        self.site = f"blocks.{self.layer}.mlp.hook_post"

    @override
    def bare(self) -> Tensor:
        return self.bridge(self.tokens)

    @override
    def one_site(self) -> Tensor:
        return self.bridge.run_with_cache(self.tokens, names_filter=self.site)[1][self.site]

    @override
    def one_edit(self) -> Tensor:
        def edit(value: Tensor, hook: Any) -> Tensor:
            value = value.clone()
            value[..., 0] = 0
            return value

        return self.bridge.run_with_hooks(self.tokens, fwd_hooks=[(self.site, edit)])

    @override
    def all_sites(self) -> list[Tensor]:
        cache = self.bridge.run_with_cache(self.tokens)[1]
        return [value for value in cache.values() if isinstance(value, Tensor)]


class NNsight(Peer):
    """nnsight 0.8 around the plain module, which is quicker than around transformers' GPT-2."""

    def __init__(self, shape: Shape, state: State) -> None:
        super().__init__(shape)
        self.plain = plain_model(shape, state)
        self.model: Any = importlib.import_module("nnsight").NNsight(self.plain)

    @override
    def bare(self) -> Tensor:
        return self.plain(self.tokens)

    @override
    def one_site(self) -> Tensor:
        with self.model.trace(self.tokens):
            value = self.model.transformer.h[self.layer].mlp.act.output.save()
        return value  # noqa: RET504  # the block's source is run elsewhere: no return in it

    @override
    def one_edit(self) -> Tensor:
        with self.model.trace(self.tokens):
            self.model.transformer.h[self.layer].mlp.act.output[..., 0] = 0
            logits = self.model.lm_head.output.save()
        return logits  # noqa: RET504

    @override
    def all_sites(self) -> list[Tensor]:
        with self.model.trace(self.tokens) as tracer:
            cache = tracer.cache().save()
        outputs = [cache[path].output for path in cache.keys()]  # noqa: SIM118  # not a mapping
        return [output for output in outputs if isinstance(output, Tensor)]


PEERS: dict[str, Callable[[Shape, State], Peer]] = {
    "pytorch": PyTorch,
    "transformer_lens": TransformerLens,
    "nnsight": NNsight,
}
PACKAGES = {"pytorch": "torch", "transformer_lens": "transformer-lens", "nnsight": "nnsight"}
SUBJECTS = ("bare", "one_site", "one_edit", "all_sites")


def timed(call: Callable[[], object], calls: int) -> list[float]:
    """Seconds of each of some calls."""
    seconds: list[float] = []
    for _ in range(calls):
        start_s = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start_s)
    return seconds


def main(framework: str, weights: str, shape_file: str) -> None:
    """Answer requests until standard input ends."""
    shape = json.loads(Path(shape_file).read_text())
    torch.set_num_threads(shape["threads"])
    answer = partial(print, flush=True)
    with torch.inference_mode():
        peer = PEERS[framework](shape, load_file(weights))
        recorded = peer.all_sites()
        ready = {
            "version": version(PACKAGES[framework]),
            "torch": torch.__version__,
            "pid": os.getpid(),
            "n_recorded": len(recorded),
            "recorded_nbytes": sum(tensor.nbytes for tensor in recorded),
        }
        del recorded
        answer(json.dumps(ready))
        for line in sys.stdin:
            request = json.loads(line)
            if "save" in request:
                values = {name: getattr(peer, name)().numpy() for name in SUBJECTS[:3]}
                np.savez(request["save"], **values)
                answer(json.dumps({}))
            else:
                seconds = timed(getattr(peer, request["subject"]), request["calls"])
                answer(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
