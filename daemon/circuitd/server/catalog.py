"""What the front asks about models on disk: where a name leads now, and what there is.

A name is looked up in the artefact roots once in a while; the files it leads to are looked at every
time, so that a changed checkpoint is a new model from the very next request on.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from circuit_protocol.errors import CheckpointError
from circuit_protocol.replies import ModelSummary
from circuit_protocol.requests import DTypeName
from circuitd.store.model_files import (
    MEANS_FILE,
    FileState,
    ModelFiles,
    model_files,
    read_config,
)
from circuitd.store.remote import FetchOptions, fetch_model, is_address
from circuitd.store.roots import artefact_roots, find_model, list_models
from circuitd.work import ModelKey

#: How long a name keeps leading to the same directory without being looked up again.
_NAME_S: Final = 2.0
_ITEMSIZE: Final = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class Located:
    """A model on disk. `nbytes` estimates what it takes in memory in the asked dtype."""

    key: ModelKey
    name: str
    nbytes: int
    n_nodes: int | None = None


class Catalog(Protocol):
    """The models there are, as the front needs them."""

    def locate(self, name: str, dtype: DTypeName) -> Located | None:
        """Where a model is, its files looked at now; None if it has to be fetched first.

        Raises NotFound, with the nearest names, or CheckpointError. Takes microseconds.
        """
        ...

    def fetch(self, name: str, dtype: DTypeName, sha256: str | None = None) -> Located:
        """Bring a remote model here. Blocks for as long as that takes."""
        ...

    def verify(self, located: Located, sha256: str) -> None:
        """Raise CheckpointError unless the weights file has this SHA-256. Reads all of it."""
        ...

    def summaries(self, is_resident: Callable[[str], bool]) -> list[ModelSummary]:
        """All models in the roots. Reads their configurations: not for the loop."""
        ...


@dataclass(slots=True)
class _Known:
    files: ModelFiles
    signature: str
    n_parameters: int
    n_nodes: int
    looked_up_at: float


class RootsCatalog:
    """Models in artefact roots, in directories given by path, and fetched from addresses."""

    def __init__(
        self,
        data_roots: tuple[str, ...],
        *,
        cache_dir: Path,
        offline: bool,
        default_model: str,
    ) -> None:
        self._data_roots = data_roots
        self._cache_dir = cache_dir
        self._fetch_options = FetchOptions(offline=offline or None)
        self._default_model = default_model
        self._known: dict[str, _Known] = {}
        #: Where fetched models are, by address.
        self._fetched: dict[str, Path] = {}

    def locate(self, name: str, dtype: DTypeName) -> Located | None:
        """See `Catalog`."""
        known = self._known.get(name)
        if known is None or time.monotonic() - known.looked_up_at > _NAME_S or _changed(known):
            if is_address(name) and name not in self._fetched:
                return None
            known = self._look_up(name)
        return Located(
            key=ModelKey(path=str(known.files.directory), signature=known.signature, dtype=dtype),
            name=name,
            nbytes=known.n_parameters * _ITEMSIZE[dtype],
            n_nodes=known.n_nodes,
        )

    def fetch(self, name: str, dtype: DTypeName, sha256: str | None = None) -> Located:
        """See `Catalog`."""
        self._fetched[name] = fetch_model(
            name, self._cache_dir / "artefacts", sha256=sha256, options=self._fetch_options
        )
        located = self.locate(name, dtype)
        assert located is not None  # it is here now
        return located

    def verify(self, located: Located, sha256: str) -> None:
        """See `Catalog`."""
        weights = model_files(Path(located.key.path)).weights.path
        with weights.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256.lower():
            raise CheckpointError(
                "the weights have another checksum", asked=sha256[:80], found=found
            )

    def summaries(self, is_resident: Callable[[str], bool]) -> list[ModelSummary]:
        """See `Catalog`."""
        return [
            _summary(entry.name, entry.directory, entry.name == self._default_model, is_resident)
            for entry in list_models(self._roots())
        ]

    def _look_up(self, name: str) -> _Known:
        directory = self._fetched.get(name) or find_model(name, self._roots())
        files = model_files(directory)
        known = self._known.get(name)
        if known is None or known.files != files:
            sizes = _Sizes(read_config(files))
            n_parameters = _n_parameters(sizes, files.weights.nbytes)
            known = _Known(
                files, files.signature, n_parameters, sizes.n_nodes, looked_up_at=time.monotonic()
            )
            self._known[name] = known
        known.looked_up_at = time.monotonic()
        return known

    def _roots(self) -> tuple[Path, ...]:
        return artefact_roots(self._data_roots)


def _changed(known: _Known) -> bool:
    files = known.files
    if files.means is None and (files.directory / MEANS_FILE).exists():
        return True
    return any(_changed_file(state) for state in files.states)


def _changed_file(state: FileState) -> bool:
    try:
        now = state.path.stat()
    except OSError:
        return True
    return (now.st_size, now.st_mtime_ns, now.st_ino) != (
        state.nbytes,
        state.mtime_ns,
        state.inode,
    )


def _summary(
    name: str, directory: Path, is_default: bool, is_resident: Callable[[str], bool]
) -> ModelSummary:
    try:
        files = model_files(directory)
        sizes = _Sizes(read_config(files))
    except CheckpointError as error:
        return ModelSummary(
            name=name,
            path=str(directory),
            nbytes_on_disk=0,
            n_layer=0,
            d_model=0,
            n_nodes=0,
            broken=str(error),
        )
    return ModelSummary(
        name=name,
        path=str(files.directory),
        nbytes_on_disk=files.config.nbytes + files.weights.nbytes,
        n_layer=sizes.n_layer,
        d_model=sizes.d_model,
        n_nodes=sizes.n_nodes,
        resident=is_resident(str(files.directory)),
        default=is_default,
    )


class _Sizes:
    """The numbers of a published configuration, with the defaults of older files.

    The worker validates configurations; here nonsense merely gives a nonsensical estimate.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        def number(key: str, default: int) -> int:
            value = config.get(key)
            return value if isinstance(value, int) and value > 0 else default

        self.n_layer = number("n_layer", 12)
        self.d_model = number("d_model", number("n_embd", 768))
        self.d_mlp = number("d_mlp", number("n_mlp", 4 * self.d_model))
        n_head = number("n_head", 12)
        self.d_attn = n_head * number("d_head", self.d_model // n_head)
        self.d_in = self.d_model + number("d_pos_emb", 0)
        self.vocab_size = number("vocab_size", 50304)
        self.block_size = number("block_size", 1024)
        self.tables = 1 if config.get("tied_unembed", True) else 2
        self.has_bigrams = bool(config.get("enable_bigram_table"))

    @property
    def n_nodes(self) -> int:
        """Channels of all node sites: act_in twice, q, k, v, both resid_delta, post_act, final."""
        per_layer = 2 * self.d_in + 3 * self.d_attn + 2 * self.d_model + self.d_mlp
        return self.n_layer * per_layer + self.d_model


def _n_parameters(s: _Sizes, weights_nbytes: int) -> int:
    """About how many numbers the model holds in memory, where weights are dense."""
    per_layer = 3 * s.d_attn * s.d_in + s.d_attn * s.d_model + s.d_mlp * (s.d_in + s.d_model)
    embeddings = s.tables * s.vocab_size * s.d_model + s.block_size * s.d_model
    bigrams = s.vocab_size**2 if s.has_bigrams else 0
    return max(s.n_layer * per_layer + embeddings + bigrams, weights_nbytes // 4)
