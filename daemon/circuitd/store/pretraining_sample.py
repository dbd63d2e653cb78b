"""The sample of pretraining text beside a model: windows of token ids to look at activations in."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from safetensors import SafetensorError, safe_open

from circuit_protocol.errors import CheckpointError, NotFound

SAMPLE_FILE: Final = "pretraining_sample.safetensors"
_MAX_NBYTES: Final = 256 << 20


def read_pretraining_sample(directory: Path) -> np.ndarray:
    """Token ids int64 [windows, T] of the model in `directory`.

    Raises NotFound if it comes without, CheckpointError for a file that is no such sample.
    """
    path = directory / SAMPLE_FILE
    if not path.is_file():
        raise NotFound(
            "this model comes without a sample of its pretraining text",
            asked=str(path),
            hint="Put one there: `tokens` [windows, positions] in a safetensors file",
        )
    if path.stat().st_size > _MAX_NBYTES:
        raise CheckpointError(
            "the sample is too large", asked=str(path), hint=f"The limit is {_MAX_NBYTES} bytes"
        )
    try:
        with safe_open(path, framework="np") as file:
            tokens: np.ndarray = file.get_tensor("tokens")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            "the sample of pretraining text cannot be read", asked=str(path), found=str(error)
        ) from error
    if tokens.ndim != 2 or not tokens.size or not np.issubdtype(tokens.dtype, np.integer):
        raise CheckpointError(
            "the sample of pretraining text is no batch of token ids",
            asked=str(path),
            found=f"{tokens.dtype} {list(tokens.shape)}",
        )
    return tokens.astype(np.int64)
