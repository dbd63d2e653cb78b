"""The verdict as a table: which controls' outcomes give which verdict, and on what it depends."""

import pytest

from circuit_protocol.circuits import Control
from circuitd.circuits.verify import CONTROLS, judge
from circuitd.circuits.verify.verdict import CHOICES, ESSENTIAL


def controls(**outcomes: bool | None) -> list[Control]:
    """All passed, but for those given; "absent" leaves one out."""
    return [
        Control(name=name, passed=outcomes.get(name, True), sentence=f"Sentence of {name}.")
        for name in CONTROLS
        if outcomes.get(name, True) != "absent"
    ]


def test_what_passes_everything_is_supported():
    found = judge(controls(faithfulness=None))
    assert found.verdict == "supported"
    assert found.depends_on == ()
    assert "Sentence of held_out." in found.reasons


@pytest.mark.parametrize("name", ESSENTIAL)
def test_one_essential_failure_is_enough_and_is_the_reason(name):
    found = judge(controls(**{name: False}))
    assert found.verdict == "not supported"
    assert found.reasons == (f"Sentence of {name}.",)


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_that_changes_the_answer_makes_it_depend_on_that_choice(name):
    found = judge(controls(**{name: False}))
    assert found.verdict == "depends"
    assert found.depends_on == (CHOICES[name],)
    assert found.reasons == (f"Sentence of {name}.",)


@pytest.mark.parametrize("name", ESSENTIAL)
def test_an_essential_control_that_cannot_decide_leaves_it_open(name):
    found = judge(controls(**{name: None}))
    assert (found.verdict, found.depends_on) == ("depends", (ESSENTIAL[name],))


@pytest.mark.parametrize("name", ESSENTIAL)
def test_nothing_is_supported_without_every_essential_control(name):
    found = judge(controls(**{name: "absent"}))
    assert found.verdict == "depends"
    assert found.depends_on == ("controls that were not run",)
    assert name.replace("_", " ") in found.reasons[-1]


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_that_was_not_tested_or_cannot_decide_does_not_hinder(name):
    untested = judge(controls(**{name: "absent"}))
    assert untested.verdict == "supported"
    assert name.replace("_", " ") in untested.reasons[-1]
    assert judge(controls(**{name: None})).verdict == "supported"


def test_failure_outweighs_dependence():
    found = judge(controls(seeds=False, ablation_kinds=False, shuffled_labels=False))
    assert found.verdict == "not supported"
    assert judge([]).verdict == "depends"


def test_every_control_is_essential_a_choice_or_only_informs():
    assert set(CONTROLS) == set(ESSENTIAL) | set(CHOICES) | {"faithfulness"}
