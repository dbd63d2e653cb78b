"""`prune`: circuits of several tasks, seeds and targets, as they are found; resumable as a job.

One unit is one task with one seed: its nodes are ranked once and the ranking is cut at every
target. A failure ends its own unit or target, not the others; if nothing at all was found, the
request ends in the first failure.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from msgspec.structs import replace

import circuitd
from circuit_protocol.circuit_replies import PruneFailure, PrunePart, PruneResult
from circuit_protocol.circuit_requests import Prune
from circuit_protocol.circuits import (
    Circuit,
    CircuitDetails,
    Measured,
    Provenance,
    PruneSettings,
    PruneStep,
)
from circuit_protocol.errors import CircuitError, from_info
from circuit_protocol.messages import Edge
from circuitd.circuits.errors import FindError, TaskNotDone, TooManyNodes
from circuitd.circuits.find import Found, Ranking, Target, check_answers, cut, rank
from circuitd.circuits.measure import PartsDone, measure_parts
from circuitd.circuits.nodes import node_space
from circuitd.circuits.problem import Outcome, Problem, Split
from circuitd.circuits.prune import Pruner
from circuitd.circuits.search import Search, Trial
from circuitd.circuits.value import in_order, node_set
from circuitd.store.circuits import Place, check_folder, component_of, summary_of
from circuitd.tasks.errors import TaskError
from circuitd.tasks.signature import task_signature
from circuitd.worker.context import Context
from circuitd.worker.errors import as_circuit_error
from circuitd.worker.grounds import task_prompts
from circuitd.worker.output import Output
from circuitd.worker.prune_record import PruneRecord, Unit
from circuitd.worker.registry import Steps

T = TypeVar("T")
#: Something computed in steps that are passed on as outputs.
Computed = Generator[Output | None, None, T]
#: Training pairs that learning draws its batches from.
N_POOL_PAIRS = 1024
#: Pairs on which the deltas of a circuit's parts are measured.
N_DETAIL_PAIRS = 32
#: A circuit with more nodes and edges than this is stored without their deltas: they would take
#: longer than finding it did. `circuits.measure` computes them when somebody asks.
N_MEASURED_PARTS = 1500
#: Rankings that need no fixed value of an ablated node.
_RANKED_BY_RESAMPLING = ("activation_patching", "random")
_DEFAULT_TARGET = Target(loss=0.15)


def run(request: Prune, context: Context) -> Steps:
    """Find every circuit asked for; the last reply names them all."""
    record = PruneRecord(context.checkpoint_dir)
    units = [Unit(task, seed) for task in request.tasks for seed in request.seeds]
    if record.is_new:
        yield from _check(request, context)
    else:
        yield _part(context, record, 0, 0)
    for number, unit in enumerate(units):
        if record.is_done(unit):
            continue
        finder = _Finder(request, context, record, unit, number, len(units))
        n_circuits, n_failures = len(record.circuits), len(record.failures)
        try:
            yield from finder.find()
        except (FindError, TaskError, CircuitError) as error:
            finder.fail(error)
        record.finish(unit)
        if record.circuits or number < len(units) - 1:  # else the request's error says it
            yield _part(context, record, n_circuits, n_failures)
    if not record.circuits and record.failures:
        raise from_info(record.failures[0].error)
    yield context.output(
        PruneResult(
            id=request.id,
            circuits=tuple(found.summary for found in record.circuits),
            failures=tuple(record.failures),
            trials=tuple(record.trials),
            found=() if request.save else tuple(found.circuit for found in record.circuits),
            compute_s=context.elapsed_s,
        )
    )


def _check(request: Prune, context: Context) -> Steps:
    """Refuse before the first run what no run could mend: that takes a look at every task.

    Raises TooManyNodes, InvalidRequest for names that cannot be folders, TaskError, AnswersCoincide
    and BadTokens.
    """
    n_nodes = node_space(context.model.config).n_nodes
    if request.ks and max(request.ks) > n_nodes:
        raise TooManyNodes(max(request.ks), n_nodes)
    if request.save:
        for task in request.tasks:
            check_folder("task", task)
        if request.sweep is not None:
            check_folder("sweep", request.sweep)
    splits: tuple[tuple[Split, int], ...] = (
        ("train", request.n_pairs),
        ("held_out", request.n_held_out_pairs),
    )
    for task in request.tasks:
        for split, n in splits:
            check_answers(task_prompts(context, task, split, n, request.data_seed))
            yield None


def _part(context: Context, record: PruneRecord, n_circuits: int, n_failures: int) -> Output:
    """What was found since there were so many."""
    return context.output(
        PrunePart(
            id=context.request.id,
            final=False,
            circuits=tuple(found.summary for found in record.circuits[n_circuits:]),
            failures=tuple(record.failures[n_failures:]),
        )
    )


@dataclass(eq=False)
class _Finder:
    """Finds the circuits of one unit."""

    request: Prune
    context: Context
    record: PruneRecord
    unit: Unit
    number: int
    n_units: int

    def __post_init__(self) -> None:
        given = self.request
        losses = [Target(loss=loss) for loss in given.target_losses]
        self.targets = losses + [Target(k=k) for k in given.ks] or [_DEFAULT_TARGET]
        self.sweep = given.sweep or f"{given.method}-{given.ablation}-seed{self.unit.seed}"
        self.started_s = time.perf_counter()
        self.last: PruneStep | None = None
        #: Steps of pruning done and to do in this unit, its searches included.
        self.n_done, self.n_total = 0, max(1, given.settings.n_steps * (1 + given.search))

    def find(self) -> Computed[None]:
        """Rank, cut, measure and store."""
        problem = self._problem()
        whole = yield from self._whole(problem)
        targets = [target for target in self.targets if self._is_open(target, whole[0].loss)]
        if not targets:
            return
        settings = self.request.settings
        if self.request.search and self.request.method == "learned":
            settings = yield from self._searched(problem, targets[0])
        ranking = yield from self._ranked(problem, settings, self.unit.seed)
        for target in targets:
            try:
                found = yield from self._stepped("cut", cut(problem, ranking, target, settings))
            except FindError as error:
                self.fail(error, target)
                continue
            circuit = self._circuit(problem, found, target, settings, whole)
            details = yield from self._details(problem, circuit, ranking)
            self._keep(circuit, details)

    def _is_open(self, target: Target, model_loss: float) -> bool:
        """Whether a target has still to be cut at; one that the whole model misses fails here."""
        if self.record.has_answered(self.unit, target.loss, target.k):
            return False
        if target.loss is not None and model_loss > target.loss:
            self.fail(TaskNotDone(model_loss, target.loss), target)
            return False
        return True

    def fail(self, error: Exception, target: Target | None = None) -> None:
        """Write down that a target, or the whole unit, gave no circuit."""
        known = as_circuit_error(error, where=f"prune of {self.unit.task}", reason=None)
        self.record.failures.append(
            PruneFailure(
                task=self.unit.task,
                seed=self.unit.seed,
                error=known.to_info(),
                target_loss=target.loss if target else None,
                target_k=target.k if target else None,
            )
        )

    def _problem(self) -> Problem:
        given, task = self.request, self.unit.task
        train = task_prompts(self.context, task, "train", given.n_pairs, given.data_seed)
        held_out = task_prompts(
            self.context, task, "held_out", given.n_held_out_pairs, given.data_seed
        )
        # Another draw than the fixed pairs: what is cut on was not learned from.
        pool = task_prompts(self.context, task, "train", N_POOL_PAIRS, given.data_seed + 1)
        gated = self.context.model.gated(given.ablation)
        return Problem(gated, pool, train, held_out, given.ablation, given.data_seed)

    def _searched(self, problem: Problem, target: Target) -> Computed[PruneSettings]:
        """The best settings of a search at a target."""
        mine = [
            t for t in self.record.trials if (t.task, t.seed) == (self.unit.task, self.unit.seed)
        ]
        history = [self.record.as_trial(trial) for trial in mine]
        search = Search(self.request.settings, self.unit.seed, history)
        while len(search.trials) < self.request.search:
            self.n_done = len(search.trials) * self.request.settings.n_steps
            settings = search.ask()
            loss: float | None = None
            try:
                ranking = yield from self._ranked(problem, settings, self.unit.seed)
                steps = cut(problem, ranking, target, settings)
                found = yield from self._stepped("search", steps)
                trial, loss = Trial(settings, found.k), found.train.loss
            except FindError as error:
                trial = Trial(settings, None, str(error))
            search.tell(trial)
            self.record.add_trial(self.unit, trial, loss)
        self.n_done = self.request.search * self.request.settings.n_steps
        return search.best

    def _ranked(self, problem: Problem, settings: PruneSettings, seed: int) -> Computed[Ranking]:
        """Rank the nodes, going on from the record where it has a learning run of this unit."""
        pruner = None
        if self.request.method == "learned":
            pruner = Pruner(problem.gated, problem.pool, settings, seed)
            self.started_s -= self.record.resume(self.unit, pruner)
        begun = self.n_done

        def report(pruner: Pruner) -> None:
            self.last = pruner.curve[-1]
            self.n_done = begun + pruner.step

        def watch(pruner: Pruner) -> None:
            report(pruner)
            self.record.checkpoint(self.unit, pruner, time.perf_counter() - self.started_s)

        if pruner is not None and pruner.curve:
            report(pruner)

        steps = rank(problem, self.request.method, settings, seed, pruner=pruner, watch=watch)
        return (yield from self._stepped("prune", steps))

    def _whole(self, problem: Problem) -> Computed[tuple[Outcome, Outcome]]:
        """The unpruned model's outcome on both splits."""
        nodes = np.ones(problem.space.n_nodes, dtype=bool)
        train = yield from self._stepped("measure", problem.score(nodes, problem.train))
        held_out = yield from self._stepped("measure", problem.score(nodes, problem.held_out))
        return train, held_out

    def _details(
        self, problem: Problem, circuit: Circuit, ranking: Ranking
    ) -> Computed[CircuitDetails]:
        if circuit.measured.k + circuit.measured.n_edges > N_MEASURED_PARTS:
            return CircuitDetails(curve=ranking.curve)
        prompts = task_prompts(
            self.context, self.unit.task, "train", N_DETAIL_PAIRS, self.request.data_seed
        )
        steps = measure_parts(problem, prompts, circuit)
        details = yield from self._stepped("measure", steps)
        return replace(details, curve=ranking.curve)

    def _stepped(self, stage: str, steps: Generator[PartsDone | None, None, T]) -> Computed[T]:
        """Pass steps on as progress."""
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value
            yield self.context.progress(
                stage,
                self.number + min(1.0, self.n_done / self.n_total) * 0.99,
                self.n_units,
                unit="runs",
                loss=None if self.last is None else self.last.loss,
                k=None if self.last is None else self.last.k,
            )

    def _circuit(
        self,
        problem: Problem,
        found: Found,
        target: Target,
        settings: PruneSettings,
        whole: tuple[Outcome, Outcome],
    ) -> Circuit:
        given, model = self.request, self.context.model
        is_learned = given.method == "learned"
        assert found.held_out is not None  # a prune measures on both splits
        return Circuit(
            model=given.model,
            model_hash=model.model_hash,
            task=self.unit.task,
            task_signature=task_signature(self.context.host.tasks.get(self.unit.task)),
            ablation=given.ablation,
            nodes=node_set(problem.space, found.kept),
            cut_edges=in_order(
                Edge(
                    source=edge.source,
                    source_channel=edge.source_channel,
                    target=edge.target,
                    target_channel=edge.target_channel,
                )
                for edge in found.cut_edges
            ),
            calibration=found.calibration,
            measured=Measured(
                k=found.k,
                n_edges=found.n_edges,
                loss=found.train.loss,
                accuracy=found.train.accuracy,
                model_loss=whole[0].loss,
                model_accuracy=whole[0].accuracy,
                held_out_loss=found.held_out.loss,
                held_out_accuracy=found.held_out.accuracy,
                model_held_out_loss=whole[1].loss,
                n_pairs=given.n_pairs,
                n_held_out_pairs=given.n_held_out_pairs,
                data_seed=given.data_seed,
            ),
            found=Provenance(
                origin=given.method,
                version=circuitd.__version__,
                created_at_s=time.time(),
                seconds=time.perf_counter() - self.started_s,
                seed=self.unit.seed,
                target_loss=target.loss,
                target_k=target.k,
                settings=settings if is_learned else None,
                ranked_under=model.stand_in
                if given.ablation == "resample" and given.method not in _RANKED_BY_RESAMPLING
                else None,
                n_trials=given.search if is_learned else 0,
                note=f"execution: {problem.gated.execution}",
            ),
        )

    def _keep(self, circuit: Circuit, details: CircuitDetails) -> None:
        if self.request.save:
            summary = self.context.host.circuits.save(circuit, self.sweep, details=details)
        else:
            label = str(circuit.measured.k)
            place = Place(component_of(circuit.model), circuit.task, self.sweep, label)
            summary = summary_of(circuit, place)
        self.record.add(summary, circuit)
