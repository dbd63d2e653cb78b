"""What the extras of the distribution bring, by import name; a test compares it with pyproject."""

from importlib.util import find_spec
from typing import Final

EXTRAS: Final = {
    "daemon": ("torch", "safetensors", "tiktoken", "psutil", "filelock", "numba", "optuna"),
    "remote": ("fsspec", "aiohttp", "huggingface_hub"),
    "tui": ("textual",),
    "lsp": ("pygls",),
}


def missing_of(extra: str) -> list[str]:
    """Packages of an extra that are not installed; none of them is imported."""
    return [name for name in EXTRAS[extra] if find_spec(name) is None]


def install_of(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'circuitd[{extra}]'"
