"""What ships in data/viz: circuits of the model as it ships, each with details and its card."""

from __future__ import annotations

from pathlib import Path

import pytest

from circuitd.store.checkpoint import load_checkpoint
from circuitd.store.circuits import CircuitStore, StoredCircuit, place_of
from circuitd.tasks.registry import TaskRegistry
from circuitd.tasks.signature import task_signature

DATA = Path(__file__).parents[3] / "data"
MODEL = "csd-py-sparse"


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> list[StoredCircuit]:
    store = CircuitStore(tmp_path_factory.mktemp("own"), [DATA])
    return [store.get(place_of(summary)) for summary in store.summaries(model=MODEL)]


def test_at_least_eight_tasks_come_with_circuits_for_several_targets(shipped):
    sizes: dict[str, set[int]] = {}
    for stored in shipped:
        sizes.setdefault(stored.circuit.task, set()).add(stored.circuit.measured.k)
    assert len([task for task, found in sizes.items() if len(found) > 1]) >= 8


def test_every_shipped_circuit_is_of_the_shipped_weights_and_of_its_task_as_it_is(shipped):
    of_model = load_checkpoint(DATA / "models" / MODEL).model_hash
    registry = TaskRegistry()
    for stored in shipped:
        assert stored.circuit.model_hash == of_model
        assert stored.circuit.task_signature == task_signature(registry.get(stored.circuit.task))


def test_every_shipped_circuit_has_its_details_and_its_own_card(shipped):
    for stored in shipped:
        assert stored.details is not None
        assert stored.card is not None, stored.summary
        assert stored.card.circuit == stored.summary.id
        assert len(stored.card.controls) == 10
