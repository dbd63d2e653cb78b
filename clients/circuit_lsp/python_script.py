"""A circuit as a Python script that asks the daemon for the same: what "copy as Python" copies."""

from circuit_client.notation import format_intervention
from circuit_lsp.facts import Look
from circuit_protocol.circuit_replies import CircuitShown

_SCRIPT = """\
from circuit_client import connect, iv
from circuit_client.notation import parse_interventions

with connect() as c:
    circuit = c.circuits.show({id!r}, model={model!r})
    kept = iv.keep(circuit.circuit.nodes, fill={fill!r})
    interventions = [kept]
{more}\
    print(circuit.summary.task, circuit.circuit.measured.k, "nodes")

    # Its loss on fresh pairs of the task, and what each node adds to it.
    answer = c.ablate(circuit.circuit.model, task={task!r}, every="node",
                      keep=circuit.circuit.nodes, kind={kind!r})
    print("loss", answer.base_loss, "of the whole model", answer.model_loss)
    for thing, delta in sorted(zip(answer.things, answer.deltas), key=lambda x: -x[1])[:10]:
        print(f"{{thing.site}}[{{thing.channel}}]  {{delta:+.4f}} nats")

    # What it predicts after a text of yours.
    top = c.forward(circuit.circuit.model, text="def f(x):", logits="last", top_k=5,
                    interventions=interventions).top_k
    print(top.ids, top.logprobs)
"""


def script_of(shown: CircuitShown, look: Look) -> str:
    """The script, with the interventions of the session."""
    more = "".join(
        f"    interventions += parse_interventions({format_intervention(i)!r})\n"
        for i in look.interventions
    )
    circuit = shown.circuit
    return _SCRIPT.format(
        id=shown.summary.id,
        model=circuit.model,
        task=circuit.task,
        kind=circuit.ablation,
        fill="zero" if circuit.ablation == "zero" else "mean",
        more=more,
    )
