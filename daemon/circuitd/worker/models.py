"""The models this worker holds: loading, what belongs to each, and unloading until memory returns.

A resident model is its weights and what requests on it need beside them: the tokenizer of its
artefact tree and the pretraining means of its node sites. Both may be missing; a request that needs
them says so then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from circuit_protocol.errors import CheckpointError, InternalError, NotFound
from circuit_protocol.messages import AblationKind
from circuitd.circuits.gated import Gated
from circuitd.circuits.nodes import node_space
from circuitd.engine.config import GPTConfig
from circuitd.engine.device import dtype_named
from circuitd.engine.sites import node_sites
from circuitd.engine.sparse.choice import apply, choose, why_not
from circuitd.engine.weights import Weights
from circuitd.store.checkpoint import load_checkpoint
from circuitd.store.executions import Executions
from circuitd.store.model_files import MEANS_FILE
from circuitd.store.tokenizer import Tokenizer
from circuitd.work import ModelKey
from circuitd.worker import memory
from circuitd.worker.tokenizers import Tokenizers


@dataclass(frozen=True, eq=False)
class ResidentModel:
    """One loaded model. Nothing that a request sees changes while it is resident."""

    key: ModelKey
    config: GPTConfig
    weights: Weights
    #: Hash of the weights and configuration: equal for equal networks.
    model_hash: str
    notes: tuple[str, ...]
    #: Which execution plain passes run on, and why: one line for people.
    execution: str
    #: The larger of what its tensors add up to and what loading it added to the process or device.
    loaded_nbytes: int
    #: What its weights alone took then.
    loaded_weights_nbytes: int
    _tokenizer: Tokenizer | None
    _means: Mapping[str, torch.Tensor] | None
    _gated: dict[str, Gated] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """What it takes now, weights that were made dense since included."""
        return self.loaded_nbytes + self.weights.nbytes - self.loaded_weights_nbytes

    @property
    def directory(self) -> Path:
        """The model's directory."""
        return Path(self.key.path)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of its artefact tree. Raises NotFound if there is none."""
        if self._tokenizer is None:
            raise NotFound(
                "this model has no tokenizer here",
                asked=self.config.tokenizer_name or self.key.path,
                hint="Send token ids, or put vocab.bpe and encoder.json beside its artefact tree",
            )
        return self._tokenizer

    def token_bytes(self, token: int) -> bytes:
        """Bytes of one token; none where the model has no tokenizer, or a smaller one."""
        if self._tokenizer is None or token >= self._tokenizer.n_vocab:
            return b""
        return self._tokenizer.token_bytes(token)

    @property
    def means(self) -> Mapping[str, torch.Tensor]:
        """Pretraining mean [width] of each node site, on the model's device in its dtype.

        Raises NotFound if the model comes without.
        """
        if self._means is None:
            raise NotFound(
                "this model has no pretraining means",
                asked=str(self.directory / MEANS_FILE),
                hint="Send means along, or use zero instead of mean",
            )
        return self._means

    @property
    def stand_in(self) -> Literal["mean", "zero"]:
        """The fixed ablation nearest to resampling: the means, of a model that comes with any."""
        return "zero" if self._means is None else "mean"

    def gated(self, ablation: AblationKind) -> Gated:
        """The network with gates, its ablated values those of this kind; made when first asked for.

        What is resampled has no value of its own: `stand_in` says what stands for it. Raises
        NotFound where means are wanted and the model comes without.
        """
        kind = self.stand_in if ablation == "resample" else ablation
        if kind not in self._gated:
            space = node_space(self.config)
            values = torch.zeros(space.n_nodes)
            if kind == "mean":
                values = torch.cat([self.means[site.name] for site in space.sites])
            self._gated[kind] = Gated(self.weights, values)
        return self._gated[kind]


class Models:
    """The resident models of one device."""

    def __init__(
        self,
        device: torch.device,
        tokenizers: Tokenizers | None = None,
        executions: Executions | None = None,
    ) -> None:
        self.device = device
        self._tokenizers = tokenizers or Tokenizers()
        self._executions = executions or Executions(None)
        self._resident: dict[ModelKey, ResidentModel] = {}
        #: What the front knows each to take.
        self._told_nbytes: dict[ModelKey, int] = {}

    def get(self, key: ModelKey) -> ResidentModel:
        """A resident model. Raises InternalError for one the front should have loaded first."""
        model = self._resident.get(key)
        if model is None:
            raise InternalError("work arrived for a model that is not loaded", asked=key.path)
        return model

    def find(self, key: ModelKey) -> ResidentModel | None:
        """The model if it is resident."""
        return self._resident.get(key)

    def load(self, key: ModelKey) -> ResidentModel:
        """Make a model resident, or return it if it is. Nothing stays in memory after an error."""
        if (known := self._resident.get(key)) is not None:
            return known
        memory.give_back(self.device)
        before_nbytes = memory.held_nbytes(self.device)
        try:
            model = self._read(key, before_nbytes)
        except BaseException:
            memory.give_back(self.device)
            raise
        self._resident[key] = model
        self._told_nbytes[key] = model.nbytes
        return model

    def resized(self, key: ModelKey) -> int | None:
        """What a model takes by now, if that is not what was said last."""
        model = self._resident.get(key)
        if model is None or model.nbytes == self._told_nbytes[key]:
            return None
        self._told_nbytes[key] = model.nbytes
        return model.nbytes

    def unload(self, key: ModelKey) -> int:
        """Free a model; measured bytes that returned (0 if it was not resident)."""
        if key not in self._resident:
            return 0
        before_nbytes = memory.held_nbytes(self.device)
        del self._resident[key], self._told_nbytes[key]
        memory.give_back(self.device)
        return max(0, before_nbytes - memory.held_nbytes(self.device))

    def _read(self, key: ModelKey, before_nbytes: int) -> ResidentModel:
        loaded = load_checkpoint(Path(key.path), dtype_named(key.dtype), self.device)
        notes = list(loaded.notes)
        means = read_means(loaded.weights, Path(key.path))
        if means is None:
            notes.append(f"no {MEANS_FILE}: mean ablation needs means sent along")
        name = loaded.config.tokenizer_name
        tokenizer = self._tokenizers.find(Path(key.path), name)
        if tokenizer is None:
            notes.append(f"tokenizer {name!r} was not found: only token ids can be used")
        elif tokenizer.n_vocab > loaded.config.vocab_size:
            notes.append(
                f"tokenizer {name!r} has {tokenizer.n_vocab} tokens, "
                f"the model only {loaded.config.vocab_size}"
            )
        weights, execution = self._choose(loaded.weights, loaded.model_hash)
        exact_nbytes = weights.nbytes + sum(m.nbytes for m in (means or {}).values())
        memory.give_back(self.device)  # buffers of reading are not the model's
        measured_nbytes = memory.held_nbytes(self.device) - before_nbytes
        return ResidentModel(
            key=key,
            config=loaded.config,
            weights=weights,
            model_hash=loaded.model_hash,
            notes=tuple(notes),
            execution=execution,
            loaded_nbytes=max(exact_nbytes, measured_nbytes),
            loaded_weights_nbytes=weights.nbytes,
            _tokenizer=tokenizer,
            _means=means,
        )

    def _choose(self, weights: Weights, model_hash: str) -> tuple[Weights, str]:
        """The weights on their fastest execution, measured if it was not yet; and its summary."""
        where = (weights.device, weights.dtype)
        choice = None if why_not(weights) else self._executions.find(model_hash, *where)
        if choice is None:
            choice = choose(weights)
            if choice.dense_s:  # it was measured
                self._executions.keep(model_hash, choice, *where)
        return apply(weights, choice), choice.summary


def read_means(weights: Weights, directory: Path) -> dict[str, torch.Tensor] | None:
    """The means beside a checkpoint, on its device in its dtype; None if it has none.

    Raises CheckpointError for means that do not fit the model's node sites.
    """
    path = directory / MEANS_FILE
    if not path.is_file():
        return None
    try:
        means = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            "the means cannot be read", asked=str(path), found=str(error)
        ) from error
    widths = {site.name: site.width for site in node_sites(weights.config)}
    if missing := sorted(widths.keys() - means.keys()):
        raise CheckpointError(
            "the means lack node sites", asked=str(path), found=f"missing {', '.join(missing[:5])}"
        )
    for site, width in widths.items():
        mean = means[site]
        if tuple(mean.shape) != (width,) or not bool(torch.isfinite(mean).all()):
            raise CheckpointError(
                f"the means of {site} are not {width} finite numbers",
                asked=str(path),
                found=f"shape {list(mean.shape)}",
            )
    return {site: means[site].to(weights.device, weights.dtype) for site in widths}
