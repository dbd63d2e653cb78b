"""Drawing a circuit for this terminal, with the heads that its model has."""

from circuit_client.cli.output import Output
from circuit_client.render.circuit import Canvas, circuit_lines
from circuit_client.render.style import Line
from circuit_client.sync import Connection
from circuit_protocol.circuit_replies import CircuitShown
from circuit_protocol.errors import CircuitError


def draw(c: Connection, out: Output, shown: CircuitShown, *, whole: bool = False) -> list[Line]:
    """The circuit in the lines of this terminal."""
    canvas = Canvas(out.columns, out.depth, out.theme, out.ascii_only, None if whole else 2)
    return circuit_lines(shown, canvas, d_head=head_width(c, shown))


def head_width(c: Connection, shown: CircuitShown) -> int | None:
    """Channels per head of the circuit's model; None where that model is not here any more."""
    try:
        sites = c.models.describe(shown.circuit.model).sites
    except CircuitError:
        return None
    return next(
        (s.width // s.n_heads for s in sites if s.site.endswith("attn.q") and s.n_heads), None
    )
