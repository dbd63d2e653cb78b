"""Models and their tokenizers: what there is, what is resident, conversions, tokens and texts."""

import msgspec

from circuit_protocol.messages import ModelRequest, Name, Reply, Request


class ListModels(Request, frozen=True, kw_only=True, omit_defaults=True, tag="models.list"):
    """All models found in the artefact roots, resident or not."""


class ModelSummary(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model in the artefact roots, as a list shows it."""

    name: str
    path: str
    nbytes_on_disk: int
    n_layer: int
    d_model: int
    n_nodes: int
    resident: bool = False
    default: bool = False
    broken: str | None = None


class ModelList(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="models.listed"):
    """Answers models.list."""

    models: tuple[ModelSummary, ...]


class DescribeModel(Request, frozen=True, kw_only=True, omit_defaults=True, tag="models.describe"):
    """Configuration, sites, hash, sizes and sparsity of one model; it need not be resident."""

    model: Name


class SiteInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A place in the forward pass."""

    site: str
    width: int
    n_heads: int = 0
    is_node_site: bool = False


class MatrixInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A weight tensor and how much of it is not zero."""

    name: str
    shape: tuple[int, ...]
    nonzeros: int


class ModelDescription(
    Reply, frozen=True, kw_only=True, omit_defaults=True, tag="models.described"
):
    """Answers models.describe. `config_json` is the published flat JSON."""

    model: str
    path: str
    model_hash: str
    config_json: str
    n_nodes: int
    n_parameters: int
    n_nonzeros: int
    block_density: float
    nbytes_on_disk: int
    sites: tuple[SiteInfo, ...]
    matrices: tuple[MatrixInfo, ...]
    notes: tuple[str, ...] = ()
    card: str | None = None


class LoadModel(ModelRequest, frozen=True, kw_only=True, omit_defaults=True, tag="models.load"):
    """Make a model resident. `device` like "cuda:1" or "cpu"; None lets the daemon place it."""

    device: str | None = None
    pin: bool = False
    sha256: str | None = None


class UnloadModel(Request, frozen=True, kw_only=True, omit_defaults=True, tag="models.unload"):
    """Free a resident model as soon as nothing runs on it.

    If it is asked for again before that, it stays, and the answer is a `conflict`.
    """

    model: Name


class PinModel(Request, frozen=True, kw_only=True, omit_defaults=True, tag="models.pin"):
    """Exempt a resident model from eviction and keep_alive (or undo that)."""

    model: Name
    pinned: bool = True


class ResidentModels(Request, frozen=True, kw_only=True, omit_defaults=True, tag="models.ps"):
    """What is resident, where, how large, and until when."""


class Resident(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model that is loaded. `expires_in_s` None means never; `nbytes` is measured. `execution` is
    a line for people: how its forward passes run, dense or sparse, and why.
    """

    model: str
    model_hash: str
    device: str
    dtype: str
    nbytes: int
    pinned: bool = False
    expires_in_s: float | None = None
    in_use: int = 0
    execution: str = ""


class ResidentReport(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="models.resident"):
    """Answers models.ps and models.load."""

    models: tuple[Resident, ...]
    budget_nbytes: int
    used_nbytes: int
    notes: tuple[str, ...] = ()


class PackModel(Request, frozen=True, kw_only=True, omit_defaults=True, tag="models.pack"):
    """Write a model with only the nonzeros of its sparse matrices, bit for bit.

    `to` is a name in the user's artefact tree, or, from a client of the local socket, a path. What
    is there stays, unless it is a model and `overwrite` is set. The model hash does not change.
    """

    model: Name
    to: Name
    overwrite: bool = False


class UnpackModel(Request, frozen=True, kw_only=True, omit_defaults=True, tag="models.unpack"):
    """Write a packed model with all zeros, as safetensors; fields as of `models.pack`."""

    model: Name
    to: Name
    overwrite: bool = False


class ModelConverted(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="models.converted"):
    """Answers models.pack and models.unpack. Bytes are those of the weights files."""

    path: str
    model_hash: str
    nbytes_before: int
    nbytes_after: int


class Tokenize(ModelRequest, frozen=True, kw_only=True, omit_defaults=True, tag="tokenize"):
    """Texts to token ids, with each token's bytes and byte offset."""

    texts: tuple[str, ...]
    allow_special: bool = False


class TokenInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One token: id, bytes, and the byte offset in the UTF-8 text where it begins."""

    id: int
    data: bytes
    offset: int


class Tokens(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="tokens"):
    """Answers tokenize."""

    rows: tuple[tuple[TokenInfo, ...], ...]


class Detokenize(ModelRequest, frozen=True, kw_only=True, omit_defaults=True, tag="detokenize"):
    """Token ids to text (and bytes, since a token may split a code point)."""

    tokens: tuple[tuple[int, ...], ...]


class TextPiece(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Text of one row; `data` are its bytes where they are no whole UTF-8."""

    text: str
    data: bytes


class Texts(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="texts"):
    """Answers detokenize."""

    rows: tuple[TextPiece, ...]
