"""A residual channel: the tokens that write it or are raised by it, and what positions add."""

from typing import Any, ClassVar, Final, Literal

import numpy as np
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical

from circuit_client.model_answers import Embedded
from circuit_client.render.heat import scale_for
from circuit_client.verbs.models import embedding
from circuit_protocol.errors import CircuitError
from circuit_protocol.inspection import TokenWeight
from circuit_tui.keys import bindings
from circuit_tui.saying import said
from circuit_tui.screens.page import Page
from circuit_tui.state import Scene
from circuit_tui.views.table import Cell, Column, Row, as_text
from circuit_tui.views.text import quoted
from circuit_tui.widgets.panes import Pane, PaneTabs
from circuit_tui.widgets.plot import Plot, Series
from circuit_tui.widgets.rows import Rows

_COLUMNS: Final = (Column("token", shrink=True, least=6), Column("weight", "right"))
#: Sites whose channels are those of the stream.
_STREAM: Final = ("act_in", "resid_delta", "resid_in", "resid_mid", "final_resid")
Side = Literal["embedding", "unembedding"]


class ChannelPage(Page):
    """Read a channel of the residual stream."""

    PLACE = "channel"
    TITLE_TEXT = "circuit"
    HELP_TEXT = (
        "Which tokens write a channel of the residual stream: the twenty largest and the twenty "
        "smallest weights of the embedding, how all weights are distributed, and what each "
        "position adds. u: instead the tokens whose logits the channel raises and lowers. The "
        "channel is that of the selected node, where it is one of the stream; [ and ] go on."
    )
    BINDINGS: ClassVar[list[BindingType]] = list(bindings("channel"))
    PANES: ClassVar[dict[str, str]] = {
        "top-pane": "largest",
        "bottom-pane": "smallest",
        "histogram-pane": "distribution",
        "positions-pane": "positions",
    }
    DEFAULT_CSS = """
    ChannelPage #ends { width: 56; }
    ChannelPage.-narrow #ends { width: 1fr; }
    ChannelPage.-narrow .-away { display: none; }
    ChannelPage #histogram-pane, ChannelPage #positions-pane { padding: 0 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._channel = 0
        self._of: Side = "embedding"
        self._shown: Embedded | None = None
        self._asked: tuple[Any, ...] | None = None

    def compose_page(self) -> ComposeResult:
        """Both ends at the left, plots at the right."""
        look = self.circuit_app.look
        yield PaneTabs(self.PANES)
        with Horizontal():
            with Horizontal(id="ends"):
                yield Pane("largest", Rows(_COLUMNS, empty="asking", id="top"), id="top-pane")
                yield Pane("smallest", Rows(_COLUMNS, empty="asking", id="bottom"),
                           id="bottom-pane")  # fmt: skip
            with Vertical(id="plots"):
                yield Pane("distribution", Plot(look=look, empty="no token writes this channel",
                                                id="histogram"), id="histogram-pane")  # fmt: skip
                yield Pane("positions", Plot(look=look, empty="positions add nothing here",
                                             id="positions"), id="positions-pane")  # fmt: skip

    def on_mount(self) -> None:
        """Begin at the largest weights."""
        super().on_mount()
        self.show_pane("top-pane")

    def show_scene(self, before: Scene | None, after: Scene) -> None:
        """The selected node's channel, if it is one of the stream."""
        node = after.node
        is_new = before is None or before.node != node
        if is_new and node is not None and node.site.rpartition(".")[2] in _STREAM:
            self._channel = node.channel
        self._ask()

    def _ask(self) -> None:
        wanted = (self.scene.model, self._channel, self._of)
        if wanted == self._asked or self.scene.model is None:
            return
        self._asked = wanted
        call = embedding(self._channel, self.scene.model, of=self._of)
        self.ask("channel", call, self._take, what=f"channel {self._channel}",
                 otherwise=self._refused)  # fmt: skip

    def _take(self, shown: Embedded) -> None:
        self._shown = shown
        self.refresh_page()
        self._fill()

    def _refused(self, error: CircuitError) -> None:
        self._shown = None
        self.query_one("#top", Rows).fill((), empty=" ".join(said(error)))
        self.query_one("#bottom", Rows).fill((), empty="")
        self.query_one("#histogram", Plot).show(())
        self.query_one("#positions", Plot).show(())

    def _fill(self) -> None:
        if self._shown is None:
            return
        raw, answer = self._shown.raw, self._shown
        scale = scale_for([t.weight for t in (*raw.top, *raw.bottom)], "diverging")
        plain = self.circuit_app.look.ascii_only

        def rows(tokens: tuple[TokenWeight, ...]) -> list[Row]:
            return [
                Row(
                    str(t.id),
                    (
                        Cell(quoted(t.data, ascii_only=plain)),
                        Cell(f"{t.weight:+z.3f}", level=scale.level(t.weight) or None),
                    ),
                )
                for t in tokens
            ]

        empty = "a positional channel: no token writes it"
        self.query_one("#top", Rows).fill(rows(raw.top), empty=empty)
        self.query_one("#bottom", Rows).fill(rows(raw.bottom), empty=empty)
        words = "write it" if raw.of == "embedding" else "are raised or lowered by it"
        self.query_one("#top-pane", Pane).note(f"of channel {raw.channel}")
        self.query_one("#histogram-pane", Pane).note(
            f"{raw.n_nonzero:,} of {raw.n_tokens:,} {words}"
        )
        middles = (answer.edges[:-1] + answer.edges[1:]) / 2 if len(answer.counts) else np.zeros(0)
        # Most weights are exactly zero: only a scale of powers shows the others beside them.
        counted = Series.of("tokens", middles, np.where(answer.counts, answer.counts, np.nan),
                            points=True)  # fmt: skip
        self.query_one("#histogram", Plot).show(
            [counted] if len(middles) else [], x_name="weight", y_name="tokens", log_y=True
        )
        positions = answer.positions
        added = [] if positions is None else [
            Series.of("added", np.arange(len(positions)), positions)
        ]  # fmt: skip
        self.query_one("#positions", Plot).show(added, x_name="position", y_name="added")

    def action_other_side(self) -> None:
        """From what writes it to what it raises, and back."""
        self._of = "unembedding" if self._of == "embedding" else "embedding"
        self._ask()

    def action_channel(self, by: int) -> None:
        """Another channel."""
        self._channel = max(0, self._channel + by)
        self._ask()

    def place_name(self) -> str:
        """The channel, and which side."""
        return f"channel {self._channel}, {self._of}"

    def plain_text(self) -> str:
        """Both ends."""
        parts = [self.query_one(name, Rows).rows for name in ("#top", "#bottom")]
        return "\n\n".join(as_text(_COLUMNS, rows) for rows in parts)

    def as_python(self) -> str:
        """The request for it."""
        return (
            "from circuit_client import connect\n\n"
            "with connect() as c:\n"
            f"    print(c.models.embedding({self._channel}, {self.scene.model!r}, "
            f"of={self._of!r}).top)\n"
        )

    def as_command(self) -> str:
        """The command that prints it."""
        side = " --unembedding" if self._of == "unembedding" else ""
        return f"circuit models embedding {self._channel}{side} --model {self.scene.model}"

    def as_json(self) -> Any:
        """Both ends and the histogram."""
        if self._shown is None:
            return None
        raw = self._shown.raw

        def named(tokens: tuple[TokenWeight, ...]) -> list[Any]:
            return [
                {"id": t.id, "text": t.data.decode("utf-8", "replace"), "weight": t.weight}
                for t in tokens
            ]

        return {
            "channel": raw.channel,
            "of": raw.of,
            "top": named(raw.top),
            "bottom": named(raw.bottom),
            "histogram": {"counts": list(raw.counts), "edges": list(raw.edges)},
        }
