"""The formats that a circuit can be written in, by name."""

from collections.abc import Callable
from importlib import import_module
from typing import Final, Literal, cast, get_args

from circuit_protocol.circuit_replies import CircuitShown

#: Made here from what `circuits.show` answers. (`viz_data` is made by the daemon.)
TextFormat = Literal["json", "csv", "graphml", "dot", "svg", "html"]
TEXT_FORMATS: Final[tuple[TextFormat, ...]] = get_args(TextFormat)

_HOMES: Final[dict[TextFormat, tuple[str, str]]] = {
    "json": ("documents", "to_json"),
    "csv": ("documents", "to_csv"),
    "graphml": ("graphs", "to_graphml"),
    "dot": ("graphs", "to_dot"),
    "svg": ("svg", "to_svg"),
    "html": ("page", "to_html"),
}


def write(shown: CircuitShown, form: TextFormat, *, d_head: int | None = None) -> str:
    """The circuit in `form`. `d_head` names heads; without it q, k and v have plain channels."""
    module, name = _HOMES[form]
    home = import_module(f"circuit_client.export.{module}")
    made = cast(Callable[..., str], getattr(home, name))
    return made(shown, d_head=d_head)
