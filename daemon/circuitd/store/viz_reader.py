"""Read a `viz_data.pt`: as data only, bounded, and checked whole against a model's node sites.

Nothing in the file is believed: whatever is unknown, out of range, of unequal length or no number
is an error that names the key it stands under. Samples are checked and left out, since they can be
taken again.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from circuit_protocol.errors import InvalidRequest, TooLarge
from circuitd.engine.cuts import CUTTABLE
from circuitd.store.viz_data import Pairs, VizData

#: A file that is longer is refused before it is opened; a tensor may claim no more than it brings.
MAX_NBYTES: Final = 256 << 20
#: What a source list of `pair_data` may end with: the row of the target's bias.
BIAS: Final = "bias"
_N_PAIR_PARTS: Final = 4


def read_viz_data(data: bytes, widths: Mapping[str, int]) -> VizData:
    """The content of a file, checked against the node sites of a model and their `widths`.

    Raises TooLarge, and InvalidRequest for bytes that are no such file or carry code, and for
    unknown sites, channels out of range or named twice, lists of unequal length, and losses that
    are no numbers.
    """
    return _Reader(widths).read(_load(data))


def _load(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_NBYTES:
        raise TooLarge(
            "the file is too large", asked=f"{len(data)} bytes", hint=f"The limit is {MAX_NBYTES}"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise _no_file("it is compressed, which torch.save never does")
            if sum(member.file_size for member in members) > len(data):
                raise _no_file("its parts overlap")
        with warnings.catch_warnings():
            # It doubts other protocols than its own, and refuses what it cannot read all the same.
            warnings.simplefilter("ignore", UserWarning)
            found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InvalidRequest(
            "the file is not only data; nothing of it was run",
            found=str(error).splitlines()[0][:300],
            hint="A viz_data.pt holds tensors, lists, numbers and text",
        ) from error
    except (
        zipfile.BadZipFile, RuntimeError, OSError, ValueError, EOFError, KeyError, TypeError,
        AttributeError, IndexError,
    ) as error:  # fmt: skip
        raise _no_file(str(error).partition("\n")[0][:300]) from error
    if not isinstance(found, dict):
        raise _no_file(f"it holds a {type(found).__name__}, not a dictionary")
    return found


def _no_file(found: str) -> InvalidRequest:
    return InvalidRequest("this is no viz_data.pt", found=found, hint="Was it fetched completely?")


class _Reader:
    """Reads a loaded file; every error names the key that is wrong."""

    def __init__(self, widths: Mapping[str, int]) -> None:
        self._widths = widths

    def read(self, found: dict[str, Any]) -> VizData:
        nodes = self._nodes(_mapping(found.get("circuit_data"), "circuit_data"))
        importances = _mapping(found.get("importances"), "importances")
        edge_deltas = self._pairs(importances, "pair_data", nodes)
        edge_weights = self._pairs(importances, "pair_data_connections", nodes)
        self._check_samples(_mapping(found.get("samples", {}), "samples"))
        self._check_task_samples(importances.get("task_samples"))
        total = found.get("num_total_nodes")
        return VizData(
            nodes=nodes,
            model_loss=_number(importances.get("loss"), "importances.loss") / 2,
            loss=_number(importances.get("interv_loss"), "importances.interv_loss") / 2,
            node_losses=self._node_losses(importances, nodes),
            layer_losses=self._layer_losses(importances),
            edge_deltas=edge_deltas,
            edge_weights=edge_weights,
            config=_json_mapping(importances.get("beeg_model_config"), "beeg_model_config"),
            curve=tuple(_curve(found.get("all_loss", []))),
            n_nodes_in_model=None if total is None else _integer(total, "num_total_nodes"),
            prune_config=_json_mapping(found.get("prune_config"), "prune_config") or {},
        )

    def _nodes(self, circuit_data: Mapping[Any, Any]) -> dict[str, tuple[int, ...]]:
        nodes: dict[str, tuple[int, ...]] = {}
        for site, given in circuit_data.items():
            where = f"circuit_data[{site!r}]"
            self._check_site(site, where)
            channels = _vector(given, where)
            if channels.is_floating_point() or channels.dtype == torch.bool:
                raise _wrong(where, f"{channels.dtype}", "channels are integers")
            listed = tuple(channels.tolist())
            for channel in listed:
                self._check_channel(site, channel, where)
            if len(set(listed)) != len(listed):
                raise _wrong(where, "a channel is named twice", "each channel once")
            nodes[site] = listed
        return nodes

    def _node_losses(
        self, importances: Mapping[Any, Any], nodes: Mapping[str, tuple[int, ...]]
    ) -> dict[str, tuple[float, ...]]:
        losses: dict[str, tuple[float, ...]] = {}
        given = _mapping(importances.get("ch_interv_losses", {}), "ch_interv_losses")
        for site, values in given.items():
            where = f"importances.ch_interv_losses[{site!r}]"
            self._check_site(site, where)
            found = _numbers(values, where)
            if len(found) != len(nodes.get(site, ())):
                raise _wrong(
                    where, f"{len(found)} losses", f"{len(nodes.get(site, ()))}, one per node"
                )
            losses[site] = tuple(loss / 2 for loss in found)
        return losses

    def _layer_losses(self, importances: Mapping[Any, Any]) -> dict[str, float]:
        given = _mapping(importances.get("layer_interv_losses", {}), "layer_interv_losses")
        halves = {".".join(site.split(".")[:2]) for site in self._widths if site.count(".") == 2}
        for half in given:
            if half not in halves:
                raise _wrong("importances.layer_interv_losses", repr(half), "<layer>.attn or .mlp")
        return {
            half: _number(loss, f"layer_interv_losses[{half!r}]") for half, loss in given.items()
        }

    def _pairs(
        self, importances: Mapping[Any, Any], key: str, nodes: Mapping[str, tuple[int, ...]]
    ) -> tuple[Pairs, ...]:
        found: list[Pairs] = []
        for number, given in enumerate(_sequence(importances.get(key, []), key)):
            where = f"importances.{key}[{number}]"
            parts = _sequence(given, where)
            if len(parts) != _N_PAIR_PARTS:
                raise _wrong(where, f"{len(parts)} parts", "matrix, sources, targets, two sites")
            matrix, sources, targets, ends = parts
            ends = _sequence(ends, where)
            if len(ends) != 2:
                raise _wrong(where, f"{len(ends)} sites", "a source and a target")
            if not _is_counted(*ends):
                raise _wrong(where, f"{ends[0]} to {ends[1]}", "one of the six matrices of a layer")
            sources, targets = _sequence(sources, where), _sequence(targets, where)
            has_bias = bool(sources) and isinstance(sources[-1], str) and sources[-1] == BIAS
            n_rows = len(sources)
            if has_bias:
                sources = sources[:-1]
            channels: list[tuple[int, ...]] = []
            for site, ids in zip(ends, (sources, targets), strict=True):
                self._check_site(site, where)
                listed = tuple(_integer(i, where) for i in ids)
                for channel in listed:
                    if channel not in nodes.get(site, ()):
                        raise _wrong(where, f"channel {channel} of {site}", "retained channels")
                channels.append(listed)
            values = _matrix(matrix, where, (n_rows, len(targets)))[: len(sources)]
            found.append(Pairs(ends[0], ends[1], channels[0], channels[1], values))
        return tuple(found)

    def _check_samples(self, samples: Mapping[Any, Any]) -> None:
        for site, by_channel in samples.items():
            self._check_site(site, "samples")
            for channel, bands in _mapping(by_channel, f"samples[{site!r}]").items():
                where = f"samples[{site!r}][{channel}]"
                self._check_channel(site, _integer(channel, where), where)
                for fraction, ends in _mapping(bands, where).items():
                    _number(fraction, where)
                    for excerpts in _sequence(ends, where):
                        for excerpt in _sequence(excerpts, where):
                            _check_excerpt(excerpt, where)

    def _check_task_samples(self, given: Any) -> None:
        if given is None:
            return
        where = "importances.task_samples"
        parts = _sequence(given, where)
        if len(parts) != 2:
            raise _wrong(where, f"{len(parts)} parts", "tokens and activations")
        tokens = _tensor(parts[0], where)
        if tokens.ndim != 2 or len(tokens) % 2:
            raise _wrong(where, f"tokens {list(tokens.shape)}", "[rows, positions], two per pair")
        for site, by_channel in _mapping(parts[1], where).items():
            self._check_site(site, where)
            for channel, values in _mapping(by_channel, where).items():
                self._check_channel(site, _integer(channel, where), where)
                _matrix(values, f"{where}[{site!r}][{channel}]", tuple(tokens.shape))

    def _check_site(self, site: Any, where: str) -> None:
        if not isinstance(site, str) or site not in self._widths:
            raise InvalidRequest.unknown(
                "node site", str(site)[:80], self._widths, hint=f"It stands in {where}"
            )

    def _check_channel(self, site: str, channel: int, where: str) -> None:
        if not 0 <= channel < self._widths[site]:
            raise _wrong(
                where, f"channel {channel}", f"{site} has channels 0 to {self._widths[site] - 1}"
            )


def _is_counted(source: Any, target: Any) -> bool:
    """Whether a weight matrix whose entries are edges leads from `source` to `target`."""
    (layer, _, kind), (other, _, other_kind) = (
        str(source).partition("."),
        str(target).partition("."),
    )
    return layer == other and (kind, other_kind) in CUTTABLE


def _check_excerpt(given: Any, where: str) -> None:
    parts = _sequence(given, where)
    if len(parts) != 3:
        raise _wrong(where, f"an excerpt of {len(parts)} parts", "tokens, activations, position")
    tokens, activations = _vector(parts[0], where), _vector(parts[1], where)
    position = _integer(parts[2], where)
    if len(tokens) != len(activations) or not 0 <= position < len(tokens):
        raise _wrong(
            where,
            f"{len(tokens)} tokens, {len(activations)} activations, position {position}",
            "as many of both, and a position among them",
        )


def _curve(given: Any) -> Iterable[tuple[int, float]]:
    for point in _sequence(given, "all_loss"):
        parts = _sequence(point, "all_loss")
        if len(parts) != 2:
            raise _wrong("all_loss", f"a point of {len(parts)} parts", "iteration and loss")
        yield _integer(parts[0], "all_loss"), _number(parts[1], "all_loss")


def _wrong(where: str, found: str, allowed: str) -> InvalidRequest:
    return InvalidRequest(f"the file's {where} is wrong", found=found, hint=f"Wanted: {allowed}")


def _mapping(given: Any, where: str) -> Mapping[Any, Any]:
    if not isinstance(given, dict):
        raise _wrong(where, type(given).__name__, "a dictionary")
    return given


def _json_mapping(given: Any, where: str) -> Mapping[str, Any] | None:
    """A dictionary of plain values, or None."""
    if given is None:
        return None
    try:
        return json.loads(json.dumps(_mapping(given, where)))
    except (TypeError, ValueError, RecursionError) as error:
        raise _wrong(where, str(error)[:200], "what JSON can say") from error


def _sequence(given: Any, where: str) -> list[Any]:
    if isinstance(given, Tensor):
        return _vector(given, where).tolist()
    if not isinstance(given, list | tuple):
        raise _wrong(where, type(given).__name__, "a list")
    return list(given)


def _tensor(given: Any, where: str) -> Tensor:
    """A dense tensor that has brought every number it claims."""
    tensor = given
    if isinstance(given, list | tuple):
        try:
            tensor = torch.tensor(given)
        except (TypeError, ValueError, RuntimeError) as error:
            raise _wrong(where, str(error)[:200], "rows of equal length") from error
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or tensor.is_meta:
        raise _wrong(where, type(given).__name__, "a dense tensor")
    if tensor.is_complex() or tensor.is_quantized:
        raise _wrong(where, str(tensor.dtype), "plain numbers")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise _wrong(where, f"a tensor of {list(tensor.shape)}", "one that brings all its numbers")
    return tensor.detach()


def _vector(given: Any, where: str) -> Tensor:
    tensor = _tensor(given, where)
    if tensor.ndim != 1:
        raise _wrong(where, f"shape {list(tensor.shape)}", "one dimension")
    return tensor


def _matrix(given: Any, where: str, shape: tuple[int, ...]) -> np.ndarray:
    tensor = _tensor(given, where)
    # An empty list of rows has lost the number of columns.
    if tuple(tensor.shape) != shape and not (tensor.numel() == 0 and math.prod(shape) == 0):
        raise _wrong(where, f"shape {list(tensor.shape)}", str(list(shape)))
    values = tensor.reshape(shape).to(torch.float32).numpy()
    if not np.isfinite(values).all():
        raise _wrong(where, "NaN or infinity", "numbers")
    return values


def _numbers(given: Any, where: str) -> list[float]:
    return [_number(value, where) for value in _sequence(given, where)]


def _number(given: Any, where: str) -> float:
    if isinstance(given, Tensor) and given.numel() == 1:
        given = given.item()
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        raise _wrong(where, str(given)[:80], "a number")
    return float(given)


def _integer(given: Any, where: str) -> int:
    """An int or a 0-d tensor of one."""
    if isinstance(given, Tensor) and given.ndim == 0 and not given.is_floating_point():
        given = given.item()
    if isinstance(given, bool) or not isinstance(given, int):
        raise _wrong(where, str(given)[:80], "an integer")
    return given
