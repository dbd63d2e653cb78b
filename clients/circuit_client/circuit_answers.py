"""What the verbs on circuits answer where tensors are part of it."""

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from circuit_client.answers import Answer
from circuit_client.call import Received
from circuit_client.graph import retained_heads
from circuit_client.values import Value
from circuit_protocol.circuit_replies import CircuitExported, NodeSampled, SampleBand
from circuit_protocol.errors import NotFound
from circuit_protocol.interventions import NodeSet
from circuit_protocol.replies import HookResult


class NodeActivity(Answer[NodeSampled]):
    """Where a node is active: on pretraining text (`bands`) and on its task's prompts."""

    #: What `quantiles` are at.
    QUANTILES_AT = (0.0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0)

    @property
    def mean(self) -> float:
        """Mean over the pretraining text: the value an ablated node is held at."""
        return self.raw.mean

    @property
    def bias(self) -> float | None:
        """What the model adds to it whatever it reads; None where there is no such thing."""
        return self.raw.bias

    @cached_property
    def quantiles(self) -> np.ndarray:
        """Quantiles over the pretraining text, [9], at `QUANTILES_AT`."""
        return np.array(self.raw.quantiles)

    @property
    def bands(self) -> tuple[SampleBand, ...]:
        """Windows of text around the smallest and largest values."""
        return self.raw.bands

    @cached_property
    def task_tokens(self) -> np.ndarray:
        """Prompts of the task, [2n, T], right-padded; rows i and i + n are a pair."""
        return self._of_task(self.raw.task_tokens)

    @cached_property
    def task_lengths(self) -> np.ndarray:
        """Tokens per prompt, [2n]."""
        return self._of_task(self.raw.task_lengths)

    @cached_property
    def task_activations(self) -> np.ndarray:
        """The node's value at each of these tokens, [2n, T]."""
        return self._of_task(self.raw.task_activations)

    @property
    def head(self) -> int | None:
        """The head that the node is a query, key or value of; None for any other node."""
        return self.raw.head

    @cached_property
    def attention_rows(self) -> np.ndarray:
        """Which rows of the task's prompts `attention` is on, [2m]."""
        m, n = len(self.attention) // 2, len(self.task_tokens) // 2
        return np.concatenate([np.arange(m), n + np.arange(m)])

    @cached_property
    def attention(self) -> np.ndarray:
        """Its head's pattern on some of the task's prompts, [2m, T, keys]: by query and key, T as
        long as the longest of them; the sink, where there is one, is one more last key.
        """
        hint = "Ask for a query, key or value, with task= or circuit="
        return self._optional(self.raw.attention, "attention", hint).numpy()

    def _of_task(self, tensor: object) -> np.ndarray:
        hint = "Ask with task= or circuit="
        return self._optional(tensor, "values on a task", hint).numpy()  # pyright: ignore[reportArgumentType]  # a Tensor or None

    def __repr__(self) -> str:
        return f"NodeActivity({self.raw.site}[{self.raw.channel}], mean {self.mean:.4g})"


class VizData(Answer[CircuitExported]):
    """A circuit as the bytes of a published `viz_data.pt`."""

    @property
    def file_name(self) -> str:
        """What the published tree calls the file."""
        return self.raw.file_name

    @cached_property
    def data_value(self) -> Value:
        """The file's bytes (U8) without fetching them."""
        return self._value(self.raw.data)

    @property
    def data(self) -> bytes:
        """The file's bytes."""
        return self.data_value.numpy().tobytes()

    def held_values(self) -> Iterator[Value]:
        """The bytes."""
        yield self.data_value

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the file; into `path` under its own name if that is a directory."""
        target = Path(path)
        if target.is_dir():
            target /= self.file_name
        target.write_bytes(self.data)
        return target


class AttentionAnswer(Answer[HookResult]):
    """Attention patterns of one layer with only a circuit kept: `answer[head]` is [B, T, keys].

    Rows are queries; the keys are the tokens and, in a model with a sink, the sink as the last.
    """

    def __init__(
        self,
        raw: HookResult,
        received: Received,
        *,
        layer: int,
        heads: tuple[int, ...] | None,
        nodes: NodeSet,
    ) -> None:
        super().__init__(raw, received)
        self.layer = layer
        self._asked = heads
        self._nodes = nodes

    @cached_property
    def tokens(self) -> np.ndarray:
        """Token ids as they were run, [B, T], right-padded."""
        return self._value(self.raw.tokens).numpy()

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens per row, [B]."""
        return self._value(self.raw.lengths).numpy()

    @cached_property
    def _recorded(self) -> dict[str, Value]:
        return {r.site: self._value(r.value) for r in self.raw.recorded}

    def held_values(self) -> Iterator[Value]:
        """The patterns, and the queries that tell the heads' width."""
        yield from self._recorded.values()

    @property
    def patterns(self) -> np.ndarray:
        """All heads of the layer, [B, n_head, T, keys]."""
        return self._recorded[f"{self.layer}.attn.pattern"].numpy()

    @cached_property
    def heads(self) -> tuple[int, ...]:
        """The heads asked for; else those of which the circuit keeps a query, key or value."""
        if self._asked is not None:
            return self._asked
        n_head = self.patterns.shape[1]
        d_head = self._recorded[f"{self.layer}.attn.q"].shape[-1] // n_head
        return retained_heads(self._nodes, self.layer, d_head, n_head)

    @property
    def has_sink(self) -> bool:
        """Whether the last key is a sink."""
        return self.patterns.shape[3] > self.tokens.shape[1]

    def __getitem__(self, head: int) -> np.ndarray:
        if not 0 <= head < self.patterns.shape[1]:
            raise NotFound(
                f"layer {self.layer} has no such head",
                asked=str(head),
                found=f"heads 0 to {self.patterns.shape[1] - 1}",
            )
        return self.patterns[:, head]

    def __repr__(self) -> str:
        return f"AttentionAnswer(layer {self.layer}, heads {list(self.heads)})"
