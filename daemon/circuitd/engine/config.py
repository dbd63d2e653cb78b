"""The configuration of a published weight-sparse GPT: `beeg_config.json`, checked and typed.

Field names, defaults and legacy spellings are those of the released files (FACTS: model files).
Released files also carry keys that only mattered for training; they are accepted and dropped. A key
that is neither is returned by name, so that a misspelt field never silently becomes a default.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from circuitd.engine.errors import ConfigError

#: Where `afrac` may act: after each of these places the largest-magnitude entries are kept.
Location = Literal[
    "attn_in",
    "attn_k",
    "attn_q",
    "attn_v",
    "attn_out",
    "mlp_in",
    "mlp_neuron",
    "mlp_out",
    "resid_post_attn",
    "resid_post_mlp",
]
LOCATIONS: tuple[str, ...] = get_args(Location)

#: Keys of released files that nobody declared; none of them changes what the network computes.
RELEASED_KEYS = frozenset(
    {
        "afrac_approx",
        "ignore_dw_grad",
        "bigram_table_rank",
        "pfrac",
        "expansion_factor",
        "expansion_factor_mlp",
        "debug_exact_topk",
        "sparse_matmul_impl",
        "rtopk",
        "n_embd",
    }
)


@dataclass(frozen=True)
class GPTConfig:
    """One network's shape and switches. `d_head` and `d_mlp` of 0 mean the published default.

    Raises `ConfigError` naming every field that makes the configuration impossible.
    """

    block_size: int = 1024
    vocab_size: int = 50304
    n_layer: int = 12
    n_head: int = 12
    #: 0 means d_model / n_head, which must then divide.
    d_head: int = 0
    d_model: int = 768
    dropout: float = 0.0
    bias: bool = True
    ln_bias: bool = True
    rms_norm: bool = False
    residual_activation_type: Literal["identity", "relu"] = "identity"
    activation_type: Literal["gelu", "relu"] = "gelu"
    #: Fraction of entries kept by magnitude at `afrac_loctypes`; None keeps all.
    afrac: float | None = None
    afrac_loctypes: tuple[str, ...] = ("attn_in", "attn_out", "mlp_in", "mlp_out")
    debug_nans: bool = False
    tied_unembed: bool = True
    tokenizer_name: str | None = None
    grad_checkpointing: bool = False
    #: 0 means 4 * d_model.
    d_mlp: int = 0
    enable_bigram_table: bool = False
    learnable_bigram_table: bool = False
    #: Width of positional channels concatenated to the normed stream; None adds learned positions.
    d_pos_emb: int | None = None
    #: A rate or a switch, as files have both; it matters in training only.
    dropout_cat_pos_emb: float = 0.0
    sinusoidal_cat_pos_emb: bool = False
    enable_sparse_kernels: bool = False
    flash: bool = True
    sink: bool = False

    def __post_init__(self) -> None:
        problems = [
            f"{name}={getattr(self, name)} must be at least 1"
            for name in ("block_size", "vocab_size", "n_layer", "n_head", "d_model")
            if getattr(self, name) < 1
        ]
        if self.d_head < 0 or self.d_mlp < 0:
            problems.append(f"d_head={self.d_head} and d_mlp={self.d_mlp} must not be negative")
        if self.d_head == 0 and self.n_head >= 1 and self.d_model >= 1:
            if self.d_model % self.n_head:
                problems.append(
                    f"d_head is not given and n_head={self.n_head} does not divide "
                    f"d_model={self.d_model}"
                )
            object.__setattr__(self, "d_head", self.d_model // self.n_head)
        if self.d_mlp == 0:
            object.__setattr__(self, "d_mlp", 4 * self.d_model)
        if self.residual_activation_type not in ("identity", "relu"):
            problems.append(
                f"residual_activation_type={self.residual_activation_type!r} "
                "must be 'identity' or 'relu'"
            )
        if self.activation_type not in ("gelu", "relu"):
            problems.append(f"activation_type={self.activation_type!r} must be 'gelu' or 'relu'")
        if self.d_pos_emb is not None and self.d_pos_emb < 1:
            problems.append(f"d_pos_emb={self.d_pos_emb} must be at least 1, or null")
        if self.sinusoidal_cat_pos_emb and self.d_pos_emb is None:
            problems.append("sinusoidal_cat_pos_emb needs d_pos_emb")
        problems += self._afrac_problems()
        if problems:
            raise ConfigError("this model configuration", "; ".join(problems))

    def _afrac_problems(self) -> list[str]:
        wrong = [name for name in self.afrac_loctypes if name not in LOCATIONS]
        problems = (
            [f"afrac_loctypes has {wrong}, but only {list(LOCATIONS)} exist"] if wrong else []
        )
        if self.afrac is None:
            return problems
        if not 0.0 < self.afrac <= 1.0:
            return [*problems, f"afrac={self.afrac} must be above 0 and at most 1, or null"]
        return problems + [
            f"afrac={self.afrac} keeps no entry of the {self.location_width(name)} at {name}"
            for name in self.afrac_loctypes
            if name in LOCATIONS and int(self.afrac * self.location_width(name)) < 1
        ]

    @property
    def d_in(self) -> int:
        """Width of `act_in`: the stream and, when there are any, the positional channels."""
        return self.d_model + (self.d_pos_emb or 0)

    @property
    def d_attn(self) -> int:
        """Width of q, k, v and y: n_head * d_head, index `head * d_head + channel`."""
        return self.n_head * self.d_head

    def location_width(self, location: str) -> int:
        """Width of the activation at an `afrac` location."""
        if location in ("attn_in", "mlp_in"):
            return self.d_in
        if location in ("attn_q", "attn_k", "attn_v"):
            return self.d_attn
        return self.d_mlp if location == "mlp_neuron" else self.d_model

    def kept(self, location: Location) -> int | None:
        """Number of entries that `afrac` keeps at `location`; None where it keeps all."""
        if self.afrac is None or location not in self.afrac_loctypes:
            return None
        width = self.location_width(location)
        kept = int(self.afrac * width)
        return None if kept >= width else kept

    def n_kept(self, location: Location) -> int:
        """How many entries are left at `location`: all of them where AbsTopK does not act."""
        kept = self.kept(location)
        return self.location_width(location) if kept is None else kept

    def to_json(self) -> dict[str, Any]:
        """The flat mapping of `beeg_config.json`; `parse_config` gives back an equal config."""
        fields = dataclasses.asdict(self)
        fields["afrac_loctypes"] = ",".join(self.afrac_loctypes)
        return fields


_FIELDS = {field.name: field for field in dataclasses.fields(GPTConfig)}
_INT = {"block_size", "vocab_size", "n_layer", "n_head", "d_head", "d_model", "d_mlp", "d_pos_emb"}
_FLOAT = {"dropout", "afrac"}
_TEXT = {"residual_activation_type", "activation_type", "tokenizer_name"}
_MAY_BE_NULL = {"d_head", "d_mlp", "afrac", "afrac_loctypes", "tokenizer_name", "d_pos_emb"}


def parse_config(mapping: Mapping[str, Any]) -> tuple[GPTConfig, tuple[str, ...]]:
    """Read a `beeg_config.json` mapping; also return the names of keys nobody knows.

    Raises `ConfigError` for values of the wrong type, for `use_tied_aux_matrix`, and for
    configurations that no network can have.
    """
    known: dict[str, Any] = {}
    unknown: list[str] = []
    problems: list[str] = []
    for key, value in mapping.items():
        if key == "use_tied_aux_matrix":
            if value:
                problems.append("use_tied_aux_matrix is true, which this network does not have")
        elif key == "n_mlp":
            if value is not None and mapping.get("d_mlp") not in (None, value):
                problems.append(f"n_mlp={value} contradicts d_mlp={mapping['d_mlp']}")
            elif value is not None:
                known["d_mlp"] = value
        elif key in _FIELDS:
            if value is not None:
                known[key] = value
            elif key not in _MAY_BE_NULL:
                problems.append(f"{key} is null")
        elif key not in RELEASED_KEYS:
            unknown.append(key)
    for key, value in known.items():
        if problem := _type_problem(key, value):
            problems.append(problem)
    if problems:
        raise ConfigError("this model configuration", "; ".join(problems))
    if "afrac_loctypes" in known:
        known["afrac_loctypes"] = _loctypes(known["afrac_loctypes"])
    return GPTConfig(**known), tuple(sorted(unknown))


def _loctypes(value: str | list[str] | tuple[str, ...]) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(part.strip() for part in parts if part.strip())


def _type_problem(key: str, value: Any) -> str | None:
    if key == "dropout_cat_pos_emb":
        fits, wanted = isinstance(value, bool | int | float), "a number, true or false"
    elif key in _INT:
        fits, wanted = isinstance(value, int) and not isinstance(value, bool), "an integer"
    elif key in _FLOAT:
        fits, wanted = isinstance(value, int | float) and not isinstance(value, bool), "a number"
    elif key in _TEXT:
        fits, wanted = isinstance(value, str), "text"
    elif key == "afrac_loctypes":
        fits = isinstance(value, str) or (
            isinstance(value, list | tuple) and all(isinstance(part, str) for part in value)
        )
        wanted = "comma-separated names"
    else:
        fits, wanted = isinstance(value, bool), "true or false"
    return None if fits else f"{key}={value!r} must be {wanted}"
