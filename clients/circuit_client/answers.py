"""What the verbs answer: the numbers as numpy arrays, the reply as it came under `.raw`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np

from circuit_client.call import Received
from circuit_client.values import Value
from circuit_protocol import replies
from circuit_protocol.errors import InvalidRequest, NotFound
from circuit_protocol.interventions import Values
from circuit_protocol.replies import Change, Reply

RawT = TypeVar("RawT", bound=Reply)


class Answer(Generic[RawT]):
    """A reply with its tensors. Arrays that stayed in the daemon are fetched when first touched.

    (An asynchronous connection fetches them before it returns the answer, unless the request said
    `deliver="handle"`.)
    """

    def __init__(self, raw: RawT, received: Received) -> None:
        #: The reply of the protocol, as it came.
        self.raw = raw
        self._received = received
        # Every handle is leased from now on, so that it is released even if nobody touches it.
        self._held = tuple(self.held_values())

    def held_values(self) -> Iterator[Value]:
        """The large tensors, which may still be in the daemon."""
        yield from ()

    def _value(self, tensor: Values) -> Value:
        return self._received.value(tensor)

    def _optional(self, tensor: Values | None, what: str, hint: str) -> Value:
        if tensor is None:
            raise InvalidRequest(f"this answer has no {what}", hint=hint)
        return self._value(tensor)


@dataclass(frozen=True, slots=True)
class TopTokens:
    """The likeliest next tokens: ids and log-probabilities, both [B, T or 1, k]."""

    ids: np.ndarray
    logprobs: np.ndarray


class ForwardAnswer(Answer[replies.ForwardResult]):
    """The answer of `forward`: `tokens` [B, T], `lengths` [B], `logits` [B, T or 1, V], `loss`."""

    @cached_property
    def tokens(self) -> np.ndarray:
        """Token ids as they were run, [B, T], right-padded."""
        return self._value(self.raw.tokens).numpy()

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens per row, [B]."""
        return self._value(self.raw.lengths).numpy()

    @cached_property
    def logits_value(self) -> Value:
        """The logits without fetching them: for `c.tensors` and for interventions."""
        return self._optional(self.raw.logits, "logits", 'Ask with logits="all" or "last"')

    @property
    def logits(self) -> np.ndarray:
        """[B, T, V], or [B, 1, V] if only the last position's were asked for."""
        return self.logits_value.numpy()

    @property
    def loss(self) -> float:
        """Mean cross-entropy over the targets, in nats per token."""
        if self.raw.loss is None:
            raise InvalidRequest("this answer has no loss", hint='Ask with targets, e.g. "next"')
        return self.raw.loss

    @cached_property
    def token_loss(self) -> np.ndarray:
        """Cross-entropy of each position's target in nats, [B, T]; NaN where there is none."""
        hint = "Ask with targets and token_loss=True"
        return self._optional(self.raw.token_loss, "token losses", hint).numpy()

    @cached_property
    def top_k(self) -> TopTokens:
        """The likeliest next tokens."""
        if self.raw.top_k is None:
            raise InvalidRequest("this answer has no top tokens", hint="Ask with top_k=5")
        top = self.raw.top_k
        return TopTokens(self._value(top.ids).numpy(), self._value(top.logprobs).numpy())

    def held_values(self) -> Iterator[Value]:
        """The logits, if there are any."""
        if self.raw.logits is not None:
            yield self.logits_value

    def __repr__(self) -> str:
        loss = "" if self.raw.loss is None else f", loss {self.raw.loss:.4f}"
        return f"ForwardAnswer({list(self.raw.tokens.shape)} tokens{loss})"


class Recordings:
    """Arrays by site name, fetched when touched."""

    def __init__(self, values: Mapping[str, Value], what: str) -> None:
        self._values = values
        self._what = what

    def value(self, site: str) -> Value:
        """What was recorded at `site`, without fetching it."""
        try:
            return self._values[site]
        except KeyError:
            raise NotFound.unknown(self._what, site, self._values) from None

    def get(self, site: str) -> np.ndarray | None:
        """The array of `site`, or None if nothing was recorded there."""
        value = self._values.get(site)
        return None if value is None else value.numpy()

    def __getitem__(self, site: str) -> np.ndarray:
        return self.value(site).numpy()

    def __contains__(self, site: object) -> bool:
        return site in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class HookAnswer(Answer[replies.HookResult]):
    """The answer of `hook`: `answer[site]` is the array [B, T, width] (or what `reduce` left).

    With `against`, values are the first plan's minus the second's, and `changes` ranks the channels
    that differ.
    """

    @cached_property
    def tokens(self) -> np.ndarray:
        """Token ids as they were run, [B, T], right-padded."""
        return self._value(self.raw.tokens).numpy()

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens per row, [B]."""
        return self._value(self.raw.lengths).numpy()

    @cached_property
    def recorded(self) -> Recordings:
        """The recorded activations by site."""
        values = {r.site: self._value(r.value) for r in self.raw.recorded}
        return Recordings(values, "recorded site")

    @cached_property
    def gradients(self) -> Recordings:
        """The gradients by site, if the request asked for any."""
        values = {
            r.site: self._value(r.gradient) for r in self.raw.recorded if r.gradient is not None
        }
        return Recordings(values, "site with a gradient")

    @cached_property
    def indices(self) -> Recordings:
        """For `reduce="top_k"`: row, position and channel of each value, [k, 3]."""
        values = {
            r.site: self._value(r.indices) for r in self.raw.recorded if r.indices is not None
        }
        return Recordings(values, "site with indices")

    @property
    def sites(self) -> tuple[str, ...]:
        """The recorded sites, in the order of the forward pass."""
        return tuple(self.recorded)

    @property
    def loss(self) -> float | None:
        """The loss of the first plan, in nats; None without targets or answers."""
        return self.raw.loss

    @property
    def against_loss(self) -> float | None:
        """The loss of the second plan."""
        return self.raw.against_loss

    @property
    def changes(self) -> tuple[Change, ...]:
        """The channels that differ most between the two plans, largest first."""
        return self.raw.changes

    def value(self, site: str) -> Value:
        """What was recorded at `site`, without fetching it."""
        return self.recorded.value(site)

    def __getitem__(self, site: str) -> np.ndarray:
        return self.recorded[site]

    def held_values(self) -> Iterator[Value]:
        """Activations and gradients."""
        for recordings in (self.recorded, self.gradients):
            for site in recordings:
                yield recordings.value(site)

    def __repr__(self) -> str:
        return f"HookAnswer({', '.join(self.sites)})"


class AblateAnswer(Answer[replies.AblateResult]):
    """The answer of `ablate`. All losses are means per side, in nats; M is the number of masks."""

    @property
    def model_loss(self) -> float:
        """Loss of the model with nothing ablated."""
        return self.raw.model_loss

    @property
    def model_accuracy(self) -> float | None:
        """Share of rows the model answers right."""
        return self.raw.model_accuracy

    @property
    def base_loss(self) -> float:
        """Loss with only `keep` left; the model's own where no `keep` was given."""
        return self.raw.base_loss

    @property
    def base_accuracy(self) -> float | None:
        """Share of rows answered right with only `keep` left."""
        return self.raw.base_accuracy

    @cached_property
    def losses(self) -> np.ndarray:
        """Loss under each mask, [M]."""
        return self._value(self.raw.losses).numpy()

    @cached_property
    def deltas(self) -> np.ndarray:
        """`losses - base_loss`, [M]."""
        return self._value(self.raw.deltas).numpy()

    @cached_property
    def accuracies(self) -> np.ndarray:
        """Share of rows answered right under each mask, [M]."""
        hint = "Accuracy needs a task or answers"
        return self._optional(self.raw.accuracies, "accuracies", hint).numpy()

    @cached_property
    def logit_changes_value(self) -> Value:
        """The logit changes without fetching them."""
        hint = "Ask with logit_changes=True"
        return self._optional(self.raw.logit_changes, "logit changes", hint)

    @property
    def logit_changes(self) -> np.ndarray:
        """Change of both answers' logits per mask and row, [M, B, 2] (right, wrong)."""
        return self.logit_changes_value.numpy()

    @property
    def things(self) -> tuple[replies.AblatedThing, ...]:
        """What each mask of an `every` request ablated."""
        return self.raw.things

    def held_values(self) -> Iterator[Value]:
        """The logit changes, if there are any."""
        if self.raw.logit_changes is not None:
            yield self.logit_changes_value

    def __repr__(self) -> str:
        masks = self.raw.losses.shape[0]
        return f"AblateAnswer({masks} masks, base loss {self.base_loss:.4f})"


class MaskLosses(Answer[replies.AblatePart]):
    """Losses of some masks, as they are done."""

    @property
    def start(self) -> int:
        """Index of the first of these masks."""
        return self.raw.start

    @cached_property
    def losses(self) -> np.ndarray:
        """Losses of masks `start`, `start` + 1, …"""
        return self._value(self.raw.losses).numpy()


class TaskTokens(Answer[replies.TaskSample]):
    """Pairs of a task as tokens: rows i and i + n are a pair."""

    @cached_property
    def tokens(self) -> np.ndarray:
        """[2n, T], right-padded."""
        return self._value(self.raw.tokens).numpy()

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens per row, [2n]."""
        return self._value(self.raw.lengths).numpy()

    @cached_property
    def answers(self) -> np.ndarray:
        """[2n, 2]: the right and the wrong next token of each row."""
        return self._value(self.raw.answers).numpy()


class Step(Answer[replies.GenerateStep]):
    """One generated token."""

    @property
    def token(self) -> int:
        """The token's id."""
        return self.raw.token

    @property
    def data(self) -> bytes:
        """The token's bytes; they may end within a character."""
        return self.raw.data

    @property
    def logprob(self) -> float:
        """Log-probability under the model, before temperature and top-k."""
        return self.raw.logprob

    @cached_property
    def recorded(self) -> Recordings:
        """What was recorded at this step, by site."""
        values = {r.site: self._value(r.value) for r in self.raw.recorded}
        return Recordings(values, "recorded site")


class Generated(Answer[replies.GenerateResult]):
    """The end of `generate`."""

    @property
    def tokens(self) -> tuple[int, ...]:
        """The new tokens."""
        return self.raw.tokens

    @property
    def text(self) -> str:
        """The new text."""
        return self.raw.text


class Reduction(Answer[replies.Reduced]):
    """A view or summary of a held tensor."""

    @cached_property
    def whole(self) -> Value:
        """The outcome without fetching it."""
        return self._value(self.raw.value)

    @property
    def value(self) -> np.ndarray:
        """The outcome."""
        return self.whole.numpy()

    @cached_property
    def indices(self) -> np.ndarray:
        """For top_k: where each value stands, [k, ndim]."""
        return self._optional(self.raw.indices, "indices", "Only top_k has them").numpy()

    def held_values(self) -> Iterator[Value]:
        """The outcome."""
        yield self.whole


_ANSWERS: dict[type[Reply], type[Answer]] = {
    replies.ForwardResult: ForwardAnswer,
    replies.HookResult: HookAnswer,
    replies.AblateResult: AblateAnswer,
    replies.AblatePart: MaskLosses,
    replies.TaskSample: TaskTokens,
    replies.GenerateStep: Step,
    replies.GenerateResult: Generated,
    replies.Reduced: Reduction,
}


def read_any(received: Received) -> Answer | Reply:
    """The answer of the type that fits the reply; replies without tensors stay as they are."""
    answer_type = _ANSWERS.get(type(received.reply))
    return received.reply if answer_type is None else answer_type(received.reply, received)
