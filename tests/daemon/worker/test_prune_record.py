"""What a prune request remembers: each question's circuit once, also after a crash."""

from pathlib import Path

from msgspec.structs import replace

from circuitd.worker.prune_record import PruneRecord, Unit
from made_circuits import quote_circuit


def test_a_circuit_that_two_targets_share_stays_for_both_and_a_repeat_replaces(tmp_path: Path):
    shown = quote_circuit()
    of_half, of_third = (
        replace(shown.circuit, found=replace(shown.circuit.found, target_loss=loss))
        for loss in (0.5, 0.35)
    )
    record = PruneRecord(tmp_path)
    record.add(shown.summary, of_half)
    record.add(shown.summary, of_third)
    record.finish(Unit("t", 0))
    resumed = PruneRecord(tmp_path)
    resumed.add(shown.summary, of_third)
    assert [found.circuit for found in resumed.circuits] == [of_half, of_third]
    assert resumed.is_done(Unit("t", 0))
