"""Numbers as people read them, and what a token is said to be."""

import json
from urllib.parse import quote

import msgspec

from circuit_lsp.messages.documents import HeatKind
from circuit_lsp.messages.shared import Message


def percent(share: float) -> str:
    """A probability, with as many digits as say something."""
    if share >= 0.1:
        return f"{share:.0%}"
    if share >= 0.001:
        return f"{share:.1%}"
    return f"{share:.3%}" if share >= 0.00001 else "<0.001%"


def heat_number(value: float, of: HeatKind) -> str:
    """The number behind a token."""
    match of:
        case "loss":
            return f"{value:.1f}"
        case "probability":
            return percent(value)
        case "node" | "difference":
            return f"{value:+.2f}"


def heat_name(of: HeatKind) -> str:
    """What the number is."""
    return {
        "loss": "loss",
        "probability": "probability",
        "node": "activation",
        "difference": "difference of losses",
    }[of]


def code(text: str) -> str:
    """Any text as code in Markdown."""
    fence = "`"
    while fence in text:
        fence += "`"
    padding = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{padding}{text}{padding}{fence}"


def cell(text: str) -> str:
    """Code in a cell of a table, where a bar would end it."""
    return code(text).replace("|", "\\|")


def command_link(title: str, command: str, argument: Message) -> str:
    """A link that runs a command, as VS Code has it."""
    arguments = json.dumps([msgspec.to_builtins(argument)], separators=(",", ":"))
    return f"[{title}](command:{command}?{quote(arguments)})"
