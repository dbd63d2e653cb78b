"""`models.embedding`: which tokens write a residual channel, or are raised by it, and positions."""

from __future__ import annotations

import numpy as np
import torch

from circuit_protocol.errors import InvalidRequest
from circuit_protocol.inspection import EmbeddingColumn, EmbeddingColumnShown, TokenWeight
from circuitd.engine.weights import Weights
from circuitd.store.tokenizer import Tokenizer
from circuitd.worker.context import Context
from circuitd.worker.registry import Steps


def run(request: EmbeddingColumn, context: Context) -> Steps:
    """Read one column of the embeddings, and say what stands out in it."""
    model = context.model
    weights, config = model.weights, model.config
    n_positional = config.d_pos_emb or 0
    if request.channel >= config.d_model + n_positional:
        also = f" and {n_positional} positional ones after them" if n_positional else ""
        raise InvalidRequest(
            "the residual stream has no such channel",
            asked=f"channel {request.channel}",
            found=f"{config.d_model} channels{also}",
        )
    is_positional = request.channel >= config.d_model
    if is_positional and request.of == "unembedding":
        raise InvalidRequest(
            "a positional channel is not part of the stream that logits are read from",
            asked=f"channel {request.channel}",
        )
    values = np.zeros(0, np.float32)
    if not is_positional:
        table = weights.wte if request.of == "embedding" else weights.lm_head
        values = table[:, request.channel].float().cpu().numpy()
    positions = None if request.of == "unembedding" else _positions(weights, request.channel)
    yield None
    counts, edges = _histogram(values, request.n_bins)
    with context.parcel() as parcel:
        yield parcel.seal(
            EmbeddingColumnShown(
                id=request.id,
                channel=request.channel,
                of=request.of,
                n_tokens=len(values),
                n_nonzero=int(np.count_nonzero(values)),
                top=_named(
                    values, np.argsort(-values, kind="stable")[: request.n], model.tokenizer
                ),
                bottom=_named(
                    values, np.argsort(values, kind="stable")[: request.n], model.tokenizer
                ),
                counts=counts,
                edges=edges,
                mean=float(values.mean(dtype=np.float64)) if len(values) else None,
                std=float(values.std(dtype=np.float64)) if len(values) else None,
                positions=None if positions is None else parcel.put(positions),
                compute_s=context.elapsed_s,
            )
        )


def _positions(weights: Weights, channel: int) -> torch.Tensor | None:
    """What each position has on a channel, float32 [block_size].

    Concatenated positions are held as the first layer's attention reads them, normed: that is what
    its weights meet.
    """
    d_model = weights.config.d_model
    if weights.wpe is not None:
        return weights.wpe[:, channel].float().cpu().contiguous()
    normed = weights.layers[0].attn_pos
    if channel < d_model or normed is None:
        return None
    return normed[:, channel - d_model].float().cpu().contiguous()


def _histogram(values: np.ndarray, n_bins: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
    if not len(values):
        return (), ()
    counts, edges = np.histogram(values.astype(np.float64), n_bins)
    return tuple(counts.tolist()), tuple(edges.tolist())


def _named(values: np.ndarray, tokens: np.ndarray, tokenizer: Tokenizer) -> tuple[TokenWeight, ...]:
    """Tokens with their bytes; ids beyond the tokenizer's (a padded vocabulary) have none."""
    return tuple(
        TokenWeight(
            id=token,
            data=tokenizer.token_bytes(token) if token < tokenizer.n_vocab else b"",
            weight=float(values[token]),
        )
        for token in tokens.tolist()
    )
