"""Messages about text: heat on its tokens, one token, and what nodes do to a prediction."""

from typing import Literal

from circuit_lsp.messages.shared import Message, Node, NodeEffect, Prediction, Range
from circuit_lsp.messages.shared import Position as Position

HeatKind = Literal["loss", "probability", "node", "difference"]
HeatState = Literal["off", "waiting", "fresh", "unavailable"]


class HeatChoice(Message, frozen=True, kw_only=True):
    """Which number every token is coloured by.

    `loss` in nats and `probability` are of each token given those before it. `node` is the
    activation of `node` (null: of the session's node), in `circuit` if one is named, else in the
    whole model. `difference` is
    the loss in `circuit` minus the model's, or the loss of `other_model` minus the model's: what
    it costs to have only that. `circuit` null with `difference` and no other model: the session's.
    """

    of: HeatKind = "loss"
    node: Node | None = None
    circuit: str | None = None
    other_model: str | None = None


class HeatScale(Message, frozen=True, kw_only=True):
    """What levels mean: `limit`, in `unit`, is level 9. A diverging scale reaches as far below."""

    kind: Literal["sequential", "diverging"]
    limit: float
    unit: str


class HeatToken(Message, frozen=True, kw_only=True):
    """A token's place and number.

    Tokens that share a character (a code point may take several) are one entry: `n_tokens` of
    them, losses added, probabilities multiplied, of activations the one of largest magnitude.
    `value` null: there is none (the first token has no loss).
    """

    range: Range
    value: float | None
    #: From -9 to 9; 0 is what no colour shows.
    level: int
    n_tokens: int = 1


class Heat(Message, frozen=True, kw_only=True):
    """The heat of a document at `version`.

    `waiting`: asked for, not there yet. `unavailable`: `note` says why. Long documents are read
    around the cursor: `covered` says where, and `note` that it is not all; `n_tokens_left_out` is
    about how many. `interventions` are the session's, which were applied. The mean loss is over the
    covered tokens, nats per token.
    """

    uri: str
    version: int | None
    state: HeatState
    choice: HeatChoice
    model: str | None = None
    tokens: tuple[HeatToken, ...] = ()
    scale: HeatScale | None = None
    covered: Range | None = None
    is_whole: bool = True
    n_tokens_left_out: int = 0
    interventions: tuple[str, ...] = ()
    note: str | None = None
    mean_loss: float | None = None
    compute_s: float = 0.0


class WatchParams(Message, frozen=True, kw_only=True):
    """Turn heat on or off for a document (`uri` null: for every document from now on).

    `choice` null leaves it as it is. Fresh heat arrives as `circuit/heat`.
    """

    uri: str | None = None
    on: bool = True
    choice: HeatChoice | None = None


class DocumentParams(Message, frozen=True, kw_only=True):
    """One open document."""

    uri: str


class FocusParams(Message, frozen=True, kw_only=True):
    """Where the cursor is: long documents are read around it."""

    uri: str
    position: Position


class TokenParams(Message, frozen=True, kw_only=True):
    """The token at a place."""

    uri: str
    position: Position
    n_predictions: int = 5
    n_nodes: int = 5


class TokenScore(Message, frozen=True, kw_only=True):
    """One token as the model sees it: how likely it was, and what else was.

    Null for the first token, which nothing comes before. `rank` 1 is the likeliest.
    """

    id: int
    text: str
    probability: float | None
    rank: int | None
    loss: float | None
    predictions: tuple[Prediction, ...]


class TokenDetail(Message, frozen=True, kw_only=True):
    """What is known about a place. Several tokens where one character takes several.

    `nodes` are those of `circuit` that are active at the last of them, strongest first.
    """

    uri: str
    version: int | None
    range: Range
    model: str
    tokens: tuple[TokenScore, ...]
    circuit: str | None
    nodes: tuple[NodeEffect, ...]


class ExplainParams(Message, frozen=True, kw_only=True):
    """Why the token at `position` and not `versus` (the text of one token), or not the token
    `versus_id` (for one whose bytes are no text); without either, as against all others.

    Each node of `circuit` is ablated alone; null: the session's, else the model's with the least
    loss.
    """

    uri: str
    position: Position
    versus: str | None = None
    versus_id: int | None = None
    circuit: str | None = None
    n_nodes: int = 12


class Explanation(Message, frozen=True, kw_only=True):
    """Which nodes carry a prediction, strongest first. `loss` is this prediction's, in nats (two
    tokens' where there is a `versus`): in the whole model, and with only the circuit.
    """

    uri: str
    version: int | None
    range: Range
    model: str
    circuit: str | None
    target: str
    versus: str | None
    loss_model: float
    loss_circuit: float | None
    nodes: tuple[NodeEffect, ...]
    #: One or two sentences for people.
    sentence: str


class AblateParams(Message, frozen=True, kw_only=True):
    """Run the text up to and with the token at `position` with `nodes` ablated.

    With `circuit`, all nodes outside it are ablated, too. What changes is the prediction of the
    token at `position` and of the one after it.
    """

    uri: str
    position: Position
    nodes: tuple[Node, ...] = ()
    circuit: str | None = None
    kind: Literal["zero", "mean"] = "mean"
    n_predictions: int = 5


class AblationEffect(Message, frozen=True, kw_only=True):
    """Before and after, of the token at the place, and what is predicted in its stead."""

    uri: str
    version: int | None
    range: Range
    model: str
    target: str
    nodes: tuple[Node, ...]
    loss_before: float
    loss_after: float
    probability_before: float
    probability_after: float
    before: tuple[Prediction, ...]
    after: tuple[Prediction, ...]
    sentence: str
