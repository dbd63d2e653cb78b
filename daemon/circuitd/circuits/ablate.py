"""Ablation sweeps: the loss of many masks over the same prompts, many masks to a batch.

A mask says of every node whether it stays or becomes zero, its mean, or what another prompt has
there; it may also cut single edges. All masks of a sweep differ from one `base` mask (the whole
model, or a circuit). The stream under the base is computed once and kept at each layer's entry, so
a mask costs only the layers from its first difference on; several masks ride in one batch as
blocks of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import numpy as np
import torch
from torch import Tensor

from circuitd.circuits.nodes import NodeSpace, node_space
from circuitd.circuits.prompts import ScoredPrompts
from circuitd.circuits.scoring import answer_logits, correct, two_token_losses
from circuitd.engine.cuts import Cut
from circuitd.engine.gpt import Run, forward, forward_from
from circuitd.engine.interventions import Intervention, Keep
from circuitd.engine.plan import Plan, Record
from circuitd.engine.weights import Weights

#: What a mask does with a node: codes of `Mask.codes`.
KEEP: Final = 0
ZERO: Final = 1
MEAN: Final = 2
RESAMPLE: Final = 3
CODES: Final = {"zero": ZERO, "mean": MEAN, "resample": RESAMPLE}

#: Rows of one pass unless the caller knows better: bounds its memory, and the wait for a cancel.
ROWS_PER_STEP: Final = 64
#: Most bytes of a base's streams that are kept; beyond it masks start at the beginning.
_MOST_STREAM_NBYTES: Final = 2**30


@dataclass(frozen=True)
class EdgeCut:
    """One edge whose flow becomes the ablated value of its source (`code`) times its weight."""

    source: str
    source_channel: int
    target: str
    target_channel: int
    code: int


@dataclass(frozen=True, eq=False)
class Mask:
    """`codes` uint8 [n_nodes] (KEEP, ZERO, MEAN, RESAMPLE) and edges to cut."""

    codes: np.ndarray
    cuts: tuple[EdgeCut, ...] = ()


@dataclass(frozen=True, eq=False)
class Scores:
    """Of m masks: mean loss per mask [m]; with answers also accuracy [m] and answer logits
    [m, B, 2].
    """

    losses: Tensor
    accuracies: Tensor | None
    answered: Tensor | None


@dataclass(eq=False)
class Sweep:
    """Scores masks against one base on one set of prompts.

    `means` [n_nodes] is needed only when a mask uses MEAN. `seed` draws which prompt replaces which
    under RESAMPLE. Pure but for its own cache of the base's streams: one sweep, one thread.
    """

    weights: Weights
    prompts: ScoredPrompts
    base: Mask
    means: Tensor | None = None
    seed: int = 0
    rows_per_step: int = ROWS_PER_STEP
    cancelled: Callable[[], bool] | None = None
    #: Forward passes by layer they started from; shows how much the shared prefix saved.
    starts: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.space: NodeSpace = node_space(self.weights.config)
        self._clean: dict[str, Tensor] = {}
        self._streams: dict[tuple[int, int], Tensor] = {}
        #: Row numbers of each pass, rows of like length together.
        self._passes = list(self.prompts.passes(self.rows_per_step))
        self._source_rows = _derangement(len(self.prompts.tokens), self.seed)
        self._layer_of_node = np.concatenate(
            [
                np.full(s.width, self.weights.config.n_layer if s.layer is None else s.layer)
                for s in self.space.sites
            ]
        )

    @property
    def n_rows(self) -> int:
        """Number of prompts B."""
        return len(self.prompts.tokens)

    @property
    def masks_per_step(self) -> int:
        """How many masks share a batch."""
        return max(1, self.rows_per_step // self.n_rows)

    @property
    def _streams_nbytes(self) -> int:
        """What the base's streams take at most."""
        config, n_tokens = self.weights.config, self.prompts.tokens.numel()
        return config.n_layer * config.d_model * n_tokens * self.weights.dtype.itemsize

    def score_base(self) -> Scores:
        """The base's own scores, keeping its stream at each layer's entry for the masks to come."""
        return next(scores for scores in self.base_steps() if scores is not None)

    def base_steps(self) -> Iterator[Scores | None]:
        """As `score_base`, one pass per `next`: None until the scores are known."""
        yield from self._score([self.base], start_layer=0, keep_streams=True)

    def run(self, masks: Iterable[Mask]) -> Iterator[Scores | None]:
        """Scores of `masks` in order, `masks_per_step` at a time.

        Each `next` is one pass: None until the next scores are known.
        """
        remaining = iter(masks)
        while group := list(islice(remaining, self.masks_per_step)):
            yield from self._score(group, self._first_layer(group))

    def _first_layer(self, masks: Sequence[Mask]) -> int:
        """The first layer in which any of `masks` differs from the base."""
        last = self.weights.config.n_layer - 1
        if not self._streams:
            return 0
        first = last
        for mask in masks:
            differs = mask.codes != self.base.codes
            if differs.any():
                first = min(first, int(self._layer_of_node[np.argmax(differs)]))
            if mask.cuts != self.base.cuts:
                layers = [_layer_of(cut) for cut in set(mask.cuts) ^ set(self.base.cuts)]
                first = min([first, *layers])
        return first

    def _score(
        self, masks: Sequence[Mask], start_layer: int, keep_streams: bool = False
    ) -> Iterator[Scores | None]:
        parts: list[Tensor] = []
        for number in range(len(self._passes)):
            if parts:
                yield None
            parts.append(self._score_pass(masks, number, start_layer, keep_streams))
        if self.prompts.answers is not None:
            in_pass_order = torch.cat(parts, dim=1)  # [m, B, 2]
            answered = torch.empty_like(in_pass_order)
            answered[:, torch.cat(self._passes).to(answered.device)] = in_pass_order
            yield Scores(two_token_losses(answered).mean(1), correct(answered).mean(1), answered)
        else:
            summed = torch.stack(parts).sum(0)  # [m, 2]: sum of losses, targets that count
            yield Scores(summed[:, 0] / summed[:, 1], None, None)

    def _score_pass(
        self, masks: Sequence[Mask], number: int, start_layer: int, keep_streams: bool
    ) -> Tensor:
        rows, m = self._passes[number], len(masks)
        prompts = self.prompts.rows(rows)
        tokens = prompts.tokens.repeat(m, 1)
        keep_streams = keep_streams and self._streams_nbytes <= _MOST_STREAM_NBYTES
        n_layer = self.weights.config.n_layer
        kept = [f"{layer}.resid_in" for layer in range(1, n_layer)] if keep_streams else []
        plan = Plan(
            record=tuple(Record(site) for site in kept),
            interventions=tuple(self._interventions(masks, rows, start_layer)),
            cuts=tuple(self._cuts(masks, rows, start_layer)),
            logits="last" if prompts.answers is not None else "none",
            targets=None if prompts.targets is None else prompts.targets.repeat(m, 1),
            lengths=prompts.lengths.repeat(m),
            cancelled=self.cancelled,
        )
        self.starts[start_layer] = self.starts.get(start_layer, 0) + 1
        if start_layer == 0:
            run = forward(self.weights, tokens, plan)
        else:
            stream = self._streams[start_layer, number].repeat(m, 1, 1)
            run = forward_from(self.weights, tokens, start_layer, stream, plan)
        for layer, site in enumerate(kept, start=1):
            self._streams[layer, number] = run.records[site]
        return self._measured(run, prompts, m)

    def _measured(self, run: Run, prompts: ScoredPrompts, m: int) -> Tensor:
        if prompts.answers is not None:
            assert run.logits is not None  # the plan asked for the last position's
            answers = prompts.answers.repeat(m, 1)
            return answer_logits(run.logits, answers).view(m, -1, 2)
        assert run.token_loss is not None
        assert prompts.targets is not None
        counts = (prompts.targets >= 0).repeat(m, 1)
        losses = run.token_loss.where(counts, 0).view(m, -1).sum(1)
        return torch.stack((losses, counts.view(m, -1).sum(1)), dim=1).float()

    def _interventions(
        self, masks: Sequence[Mask], rows: Tensor, start_layer: int
    ) -> Iterator[Intervention]:
        codes = np.stack([mask.codes for mask in masks])  # [m, n_nodes]
        n_rows = len(rows)
        for site in self.space.sites:
            if site.layer is not None and site.layer < start_layer:
                continue
            here = codes[:, self.space.span(site.name)]
            for code in np.unique(here[here != KEEP]):
                stays = here != code  # [m, width]
                if len(masks) == 1 or (stays == stays[:1]).all():
                    stays = stays[0]
                mask = torch.from_numpy(stays).to(self.weights.device)
                if mask.ndim == 2:
                    mask = mask.repeat_interleave(n_rows, dim=0)
                yield Keep(site.name, mask, self._fill(site.name, int(code), rows, len(masks)))

    def _cuts(self, masks: Sequence[Mask], rows: Tensor, start_layer: int) -> Iterator[Cut]:
        n_rows = len(rows)
        for i, mask in enumerate(masks):
            in_batch = tuple(range(i * n_rows, (i + 1) * n_rows))
            for cut in mask.cuts:
                if _layer_of(cut) < start_layer:
                    continue  # what it changes is in the stream already
                fill = self._fill(cut.source, cut.code, rows, len(masks))
                here = 0.0 if fill is None else fill[..., cut.source_channel]
                channels = (cut.source_channel, cut.target_channel)
                yield Cut(cut.source, cut.target, *channels, fill=here, rows=in_batch)

    def _fill(self, site: str, code: int, rows: Tensor, m: int) -> Tensor | None:
        if code == ZERO:
            return None
        if code == MEAN:
            if self.means is None:
                raise ValueError("a mask uses MEAN, but the sweep has no means")
            return self.means[self.space.span(site)]
        n_positions = int(self.prompts.lengths[rows].max())
        return self._resampled(site)[rows, :n_positions].repeat(m, 1, 1)

    def _resampled(self, site: str) -> Tensor:
        """What other prompts have at `site` in the unablated model [B, T, width].

        Prompts of different lengths are laid end to end, since the last position is what counts.
        """
        if site not in self._clean:
            self._record_clean()
        return self._clean[site]

    def _record_clean(self) -> None:
        tokens, lengths = self.prompts.tokens, self.prompts.lengths
        names = [s.name for s in self.space.sites]
        records: dict[str, list[Tensor]] = {name: [] for name in names}
        for first in range(0, self.n_rows, self.rows_per_step):
            rows = slice(first, first + self.rows_per_step)
            plan = Plan(
                record=tuple(Record(name) for name in names),
                logits="none",
                lengths=lengths[rows],
                cancelled=self.cancelled,
            )
            run = forward(self.weights, tokens[rows], plan)
            for name in names:
                records[name].append(run.records[name])
        source = self._source_rows.to(tokens.device)
        position = torch.arange(tokens.shape[1], device=tokens.device)
        shift = (lengths[source] - lengths)[:, None]
        at = (position + shift).clamp(min=0, max=tokens.shape[1] - 1)  # [B, T]
        for name in names:
            clean = torch.cat(records.pop(name))
            self._clean[name] = clean[source[:, None], at]


def _layer_of(cut: EdgeCut) -> int:
    return int(cut.source.partition(".")[0])


def _derangement(n: int, seed: int) -> Tensor:
    """For each of n rows another row [n], never itself (unless there is only one)."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(n)
    source = np.empty(n, dtype=np.int64)
    source[order] = np.roll(order, 1)
    return torch.from_numpy(source)
