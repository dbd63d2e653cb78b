"""Networks of the published size: csp_yolo1 and csp_yolo2 with random sparse weights.

The configurations are those of the released models; what is not published of csp_yolo1 is taken
from csp_yolo2, and its number of parameters then comes out as published (160.6 M; 419.1 M). Where
the nonzeros stand is random: it does not change what a product costs, nor what a file weighs. Each
tensor is drawn from the seed and its own name, so that every form of a model has the same bits.

    python -m benchmarks.paper_scale csp_yolo2 /tmp/artefacts [--format safetensors]
"""

import argparse
import json
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from mmap import MAP_SHARED
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch.serialization import set_default_mmap_options, skip_data

from circuitd.engine.config import LOCATIONS, GPTConfig
from circuitd.engine.weights import Weights, expected_shapes, optional_shapes
from circuitd.store.model_files import CONFIG_FILE

Format = Literal["pt", "safetensors"]

_YOLO2 = GPTConfig(
    block_size=1024, vocab_size=2048, n_layer=8, n_head=128, d_head=16, d_model=2048, d_mlp=8192,
    ln_bias=False, rms_norm=True, afrac=0.25,
    afrac_loctypes=tuple(place for place in LOCATIONS if not place.startswith("resid")),
    tied_unembed=False, tokenizer_name="tinypython_2k", enable_bigram_table=True,
    learnable_bigram_table=True, d_pos_emb=32, sink=True,
)  # fmt: skip
_YOLO1 = replace(_YOLO2, n_layer=12, d_head=8, d_model=1024, d_mlp=4096, d_pos_emb=None, sink=False)


@dataclass(frozen=True)
class PaperModel:
    """A configuration, and which fraction of its matrices is nonzero.

    `density` is that of the blocks' matrices; `embedding_density` that of token and position
    embeddings, unembedding and bigram table. Gains, biases and sinks are dense, as released.
    """

    name: str
    config: GPTConfig
    density: float
    embedding_density: float


#: 3 % of all its parameters are nonzero.
CSP_YOLO1 = PaperModel("csp_yolo1", _YOLO1, 0.03, 0.03)
#: Of its embeddings no density is published. Dense is the worst case for whoever stores nonzeros.
CSP_YOLO2 = PaperModel("csp_yolo2", _YOLO2, 1 / 1024, 1.0)
PAPER_MODELS = {model.name: model for model in (CSP_YOLO1, CSP_YOLO2)}


def paper_weights(model: PaperModel, *, density: float | None = None, seed: int = 0) -> Weights:
    """The network in memory, its blocks at another density than published where one is given."""
    return Weights.from_state(model.config, dict(tensors(_at(model, density), seed)))


def write_paper_model(
    model: PaperModel,
    root: Path,
    *,
    format: Format = "pt",
    density: float | None = None,
    seed: int = 0,
) -> Path:
    """Write `<root>/models/<name>/` as released, holding one tensor in memory; that directory.

    `pt` is the published `final_model.pt`; `safetensors` has the same tensors.
    """
    model = _at(model, density)
    directory = root / "models" / model.name
    directory.mkdir(parents=True, exist_ok=True)
    (directory / CONFIG_FILE).write_text(json.dumps(model.config.to_json(), indent=1))
    write = _write_pt if format == "pt" else _write_safetensors
    write(directory / f"final_model.{format}", model, seed)
    return directory


def tensors(model: PaperModel, seed: int = 0) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and values of each tensor, in the order of the file; drawn when asked for."""
    for name, shape in _shapes(model.config).items():
        yield name, _draw(model, name, shape, seed)


def _at(model: PaperModel, density: float | None) -> PaperModel:
    return model if density is None else replace(model, density=density)


def _shapes(config: GPTConfig) -> dict[str, tuple[int, ...]]:
    return {**expected_shapes(config), **optional_shapes(config)}


def _draw(model: PaperModel, name: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    if len(shape) == 1:
        values = 0.1 * rng.standard_normal(shape, np.float32)
        is_gain = name.endswith(".weight")
        return torch.from_numpy(values + 1 if is_gain else values)
    in_block = ".h." in name
    density = model.density if in_block else model.embedding_density
    n_nonzero = max(1, round(density * math.prod(shape)))
    # A sum over the nonzeros of a row is of the order of 1, whatever the density.
    is_product = in_block or name == "lm_head.weight"
    scale = 1 / math.sqrt(max(1.0, density * shape[1])) if is_product else 1.0
    values = scale * rng.standard_normal(n_nonzero, np.float32)
    matrix = np.zeros(math.prod(shape), np.float32)
    if n_nonzero == len(matrix):
        matrix[:] = values
    else:
        matrix[rng.choice(len(matrix), n_nonzero, replace=False, shuffle=False)] = values
    return torch.from_numpy(matrix.reshape(shape))


def _write_pt(path: Path, model: PaperModel, seed: int) -> None:
    """Reserve the file that `torch.save` would write, then fill it in through a shared map."""
    # Memory that nobody writes to or reads is never resident.
    untouched = {name: torch.empty(shape) for name, shape in _shapes(model.config).items()}
    with skip_data():
        torch.save(untouched, path)
    with set_default_mmap_options(MAP_SHARED):
        state = torch.load(path, mmap=True, map_location="cpu", weights_only=True)
    for name, tensor in tensors(model, seed):
        state[name].copy_(tensor)


def _write_safetensors(path: Path, model: PaperModel, seed: int) -> None:
    header: dict[str, object] = {}
    end = 0
    for name, shape in _shapes(model.config).items():
        start, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": (start, end)}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the values that follow are aligned
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in tensors(model, seed):
            tensor.numpy().tofile(file)


def main() -> None:
    """Write a model where the command line says."""
    parser = argparse.ArgumentParser("benchmarks.paper_scale", description=__doc__)
    parser.add_argument("model", choices=PAPER_MODELS)
    parser.add_argument("root", type=Path, help="an artefact tree: the model goes to ROOT/models")
    parser.add_argument("--format", choices=("pt", "safetensors"), default="pt")
    parser.add_argument("--density", type=float, help="of the blocks, if not as published")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    directory = write_paper_model(
        PAPER_MODELS[options.model],
        options.root,
        format=options.format,
        density=options.density,
        seed=options.seed,
    )
    print(directory)


if __name__ == "__main__":
    main()
