"""What stands above every picture of a circuit: what it is of, how large, how good."""

from circuit_protocol.circuit_replies import CircuitShown
from circuit_protocol.circuits import Measured


def title(shown: CircuitShown) -> str:
    """Task and model."""
    return f"{shown.circuit.task} in {shown.circuit.model}"


def sizes(measured: Measured) -> str:
    """Nodes and edges."""
    return f"{count(measured.k, 'node')}, {count(measured.n_edges, 'edge')}"


def numbers(measured: Measured) -> str:
    """Losses in nats per side, of the circuit and of the whole model, and accuracy."""
    parts = [f"loss {measured.loss:.3f}"]
    if measured.held_out_loss is not None:
        parts.append(f"held out {measured.held_out_loss:.3f}")
    parts += [f"model {measured.model_loss:.3f}", f"accuracy {measured.accuracy:.1%}"]
    return ", ".join(parts)


def how(shown: CircuitShown) -> str:
    """Where the circuit comes from, what its other nodes are held at, and its id."""
    found = shown.circuit.found
    parts = [found.origin, f"{shown.circuit.ablation}-ablated"]
    if found.settings is not None:
        parts.append(f"seed {found.seed}")
    if found.target_loss is not None:
        parts.append(f"target loss {found.target_loss:g}")
    if found.target_k is not None:
        parts.append(f"target k {found.target_k}")
    parts.append(shown.summary.id)
    return ", ".join(parts)


def count(n: int, what: str) -> str:
    """The number and its noun: `1 node`, `2 nodes`."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"
