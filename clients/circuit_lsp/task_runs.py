"""A task run on the model or on a circuit, whole or one pair of it."""

import numpy as np

from circuit_client.aio import AsyncConnection
from circuit_client.iv import InterventionLike
from circuit_lsp.effects import single_token
from circuit_lsp.facts import Facts, Look
from circuit_lsp.features.words import percent
from circuit_lsp.heat import kept
from circuit_lsp.messages.commands import PairParams, PairRun, TaskRun, TaskRunParams
from circuit_lsp.predictions import next_logprobs
from circuit_lsp.tokens import visible


async def run_task(c: AsyncConnection, facts: Facts, look: Look, params: TaskRunParams) -> TaskRun:
    """Score the model on held-out pairs of a task; with a circuit, that too."""
    if params.circuit is None:
        model = await facts.model(look.model)
        scores = await c.tasks.evaluate(params.task, model=model.name, n=params.n)
        (score,) = scores.scores
        loss, accuracy = score.loss or 0.0, score.accuracy
        return TaskRun(
            task=params.task,
            model=model.name,
            circuit=None,
            loss=loss,
            accuracy=accuracy,
            model_loss=None,
            sentence=f"{model.name} on {params.task}: loss {loss:.3f} nats per side"
            + ("." if accuracy is None else f", {percent(accuracy)} right."),
        )
    circuit = await facts.circuit(params.circuit, look.model)
    model_name = circuit.shown.circuit.model
    answer = await c.ablate(
        model_name,
        task=params.task,
        n=params.n,
        split="held_out",
        keep=circuit.shown.circuit.nodes,
        kind=circuit.shown.circuit.ablation,
    )
    right = "" if answer.base_accuracy is None else f", {percent(answer.base_accuracy)} right"
    return TaskRun(
        task=params.task,
        model=model_name,
        circuit=circuit.name,
        loss=answer.base_loss,
        accuracy=answer.base_accuracy,
        model_loss=answer.model_loss,
        sentence=f"{params.task} with only the {len(circuit.graph.nodes)} nodes of "
        f"{circuit.name[:8]}: loss {answer.base_loss:.3f} nats per side{right}; "
        f"the whole model {answer.model_loss:.3f}.",
    )


async def run_pair(c: AsyncConnection, facts: Facts, look: Look, params: PairParams) -> PairRun:
    """How likely each side's answer is against the other side's, after its prompt."""
    interventions: tuple[InterventionLike, ...] = ()
    model = await facts.model(look.model)
    if params.circuit is not None:
        circuit = await facts.circuit(params.circuit, look.model)
        model = await facts.model(circuit.shown.circuit.model)
        interventions = (kept(circuit),)
    answers = [await single_token(c, model.name, target) for target in params.targets]
    rows = [np.array([t.id for t in row]) for row in await c.tokenize(params.prompts, model.name)]
    logprobs = await next_logprobs(
        c, model.name, [row[-model.block_size :] for row in rows], interventions
    )
    shares: list[float] = []
    for row, (right, wrong) in zip(logprobs, (answers, answers[::-1]), strict=True):
        shares.append(float(1.0 / (1.0 + np.exp(row[wrong] - row[right]))))
    shown = [visible(target.encode()) for target in params.targets]
    where = "" if params.circuit is None else " with only the circuit"
    return PairRun(
        probabilities=(shares[0], shares[1]),
        sentence=f"Of `{shown[0]}` and `{shown[1]}`, the right one has {percent(shares[0])} "
        f"and {percent(shares[1])}{where}.",
    )
