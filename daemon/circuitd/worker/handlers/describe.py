"""`models.describe`: a model's configuration, sites and sizes, and how sparse each matrix is."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch

from circuit_protocol.errors import InternalError
from circuit_protocol.replies import MatrixInfo, ModelDescription, SiteInfo
from circuit_protocol.requests import DescribeModel
from circuitd.engine.nonzeros import WeightMatrix
from circuitd.engine.sites import node_sites, sites
from circuitd.engine.weights import Weights, expected_shapes
from circuitd.store.checkpoint import load_checkpoint
from circuitd.store.model_files import model_files
from circuitd.worker.context import Context
from circuitd.worker.registry import Steps

_CARD_FILES: Final = ("README.md", "MODEL_CARD.md", "model_card.md")
_MAX_CARD_NBYTES: Final = 256 << 10


def run(request: DescribeModel, context: Context) -> Steps:
    """Describe a model; one that is not resident is read for this and let go again."""
    key = context.item.model
    if key is None:
        raise InternalError("models.describe came without a model", asked=request.model)
    directory = Path(key.path)
    resident = context.host.models.find(key)
    if resident is None:
        yield context.progress("reading the model")
        loaded = load_checkpoint(directory)
        weights, model_hash, notes = loaded.weights, loaded.model_hash, loaded.notes
    else:
        weights, model_hash, notes = resident.weights, resident.model_hash, resident.notes
    config = weights.config
    matrices: list[MatrixInfo] = []
    in_blocks = nonzeros_in_blocks = 0
    for name, tensor in named_tensors(weights):
        is_matrix = isinstance(tensor, WeightMatrix)
        nonzeros = tensor.count_nonzero() if is_matrix else int(torch.count_nonzero(tensor))
        matrices.append(MatrixInfo(name=name, shape=tuple(tensor.shape), nonzeros=nonzeros))
        if is_matrix:
            in_blocks += math.prod(tensor.shape)
            nonzeros_in_blocks += nonzeros
        yield None
    yield context.output(
        ModelDescription(
            id=request.id,
            model=request.model,
            path=key.path,
            model_hash=model_hash,
            config_json=json.dumps(config.to_json()),
            n_nodes=sum(site.width for site in node_sites(config)),
            n_parameters=_n_parameters(weights),
            n_nonzeros=sum(matrix.nonzeros for matrix in matrices),
            block_density=nonzeros_in_blocks / in_blocks,
            nbytes_on_disk=_nbytes_on_disk(directory),
            sites=tuple(
                SiteInfo(
                    site=site.name,
                    width=site.width,
                    n_heads=site.n_head,
                    is_node_site=site.is_node_site,
                )
                for site in sites(config)
            ),
            matrices=tuple(matrices),
            notes=notes,
            card=_card(directory),
        )
    )


def named_tensors(weights: Weights) -> Iterator[tuple[str, torch.Tensor | WeightMatrix]]:
    """The tensors of a network under their published names, each once.

    Concatenated positional channels are held normed, not as published: they are left out.
    """
    found: list[tuple[str, torch.Tensor | WeightMatrix | None]] = [
        ("transformer.wte.weight", weights.wte),
        ("transformer.wpe.weight", weights.wpe),
    ]
    for i, layer in enumerate(weights.layers):
        h = f"transformer.h.{i}"
        found += [
            (f"{h}.ln_1.weight", layer.ln_1.gain),
            (f"{h}.ln_1.bias", layer.ln_1.bias),
            (f"{h}.attn.c_attn.weight", layer.matrices.c_attn),
            (f"{h}.attn.c_attn.bias", layer.c_attn_bias),
            (f"{h}.attn.c_proj.weight", layer.matrices.attn_proj),
            (f"{h}.attn.c_proj.bias", layer.attn_proj_bias),
            (f"{h}.attn.attn_imp.sink_logit", layer.sink_logit),
            (f"{h}.ln_2.weight", layer.ln_2.gain),
            (f"{h}.ln_2.bias", layer.ln_2.bias),
            (f"{h}.mlp.c_fc.weight", layer.matrices.c_fc),
            (f"{h}.mlp.c_fc.bias", layer.c_fc_bias),
            (f"{h}.mlp.c_proj.weight", layer.matrices.mlp_proj),
            (f"{h}.mlp.c_proj.bias", layer.mlp_proj_bias),
        ]
    found += [
        ("transformer.ln_f.weight", weights.ln_f.gain),
        ("transformer.ln_f.bias", weights.ln_f.bias),
        ("lm_head.weight", None if weights.lm_head is weights.wte else weights.lm_head),
        ("final_logits_bias", weights.final_logits_bias),
        ("bigram_table", weights.bigram_table),
    ]
    return ((name, tensor) for name, tensor in found if tensor is not None)


def _n_parameters(weights: Weights) -> int:
    """Numbers in the published state dict, zeros included, tied ones once."""
    n = sum(math.prod(shape) for shape in expected_shapes(weights.config).values())
    return n + (0 if weights.final_logits_bias is None else weights.final_logits_bias.numel())


def _nbytes_on_disk(directory: Path) -> int:
    files = model_files(directory)
    return files.config.nbytes + files.weights.nbytes


def _card(directory: Path) -> str | None:
    """The model card beside the weights, cut off where it gets too long for a message."""
    for name in _CARD_FILES:
        path = directory / name
        if path.is_file():
            with path.open("rb") as file:
                return file.read(_MAX_CARD_NBYTES).decode("utf-8", errors="replace")
    return None
