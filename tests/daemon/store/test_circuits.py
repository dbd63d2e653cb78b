"""The catalogue of circuits: places, references, read-only roots, damage, concurrent writers."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from circuit_protocol.circuits import Card, Circuit, CircuitDetails, VerifySettings, circuit_id
from circuit_protocol.errors import CheckpointError, Forbidden, InvalidRequest, NotFound
from circuit_protocol.interventions import SiteChannels
from circuitd.store.circuits import CircuitStore, component_of, place_of
from made_circuits import quote_circuit, random_circuit

QUOTE = quote_circuit().circuit
CARD = Card(circuit="x", verdict="supported", reasons=("it holds",), controls=(),
            settings=VerifySettings())  # fmt: skip


def with_nodes(
    *channels: int, task: str = "bracket_counting", created_at_s: float = 1.0
) -> Circuit:
    return replace(
        QUOTE,
        task=task,
        nodes=(SiteChannels(site="0.mlp.post_act", channels=channels),),
        found=replace(QUOTE.found, created_at_s=created_at_s),
    )


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    root = tmp_path / "shipped"
    CircuitStore(root).save(QUOTE, "paper", details=quote_circuit().details)
    return root


@pytest.fixture
def store(tmp_path: Path, shipped: Path) -> CircuitStore:
    return CircuitStore(tmp_path / "own", [shipped])


def test_a_circuit_comes_back_as_it_was_saved(tmp_path):
    store = CircuitStore(tmp_path)
    made = random_circuit(80)
    summary = store.save(made.circuit, "a sweep".replace(" ", "-"), details=made.details)
    assert (summary.sweep, summary.label) == ("a-sweep", str(made.circuit.measured.k))
    stored = store.get(summary.id)
    assert (stored.circuit, stored.details, stored.card) == (made.circuit, made.details, None)
    path = tmp_path / "viz" / "csd-py-sparse" / "bracket_counting" / "a-sweep" / summary.label
    assert sorted(p.name for p in path.iterdir()) == ["circuit.json", "details.json"]


def test_the_same_circuit_found_again_keeps_its_place_and_another_gets_digits_of_its_id(tmp_path):
    store = CircuitStore(tmp_path)
    first, second = with_nodes(1, 2), with_nodes(3, 4)
    assert store.save(first, "s").label == "2"
    other = store.save(second, "s")
    assert other.label == f"2-{circuit_id(second)[:6]}"
    again = store.save(replace(first, found=replace(first.found, created_at_s=9.0)), "s")
    assert (again.label, again.created_at_s) == ("2", 9.0)
    assert store.save(second, "s").label == other.label
    assert len(store.summaries()) == 2
    assert store.save(first, "t").label == "2"  # another sweep is another place
    assert store.save(with_nodes(5, 6), "s", label="k_optim").label == "k_optim"


def test_lists_are_newest_first_and_filtered(store):
    for n in range(1, 4):
        store.save(with_nodes(*range(n), created_at_s=float(n)), "s")
    assert [s.measured.k for s in store.summaries(sweep="s")] == [12, 12, 12]  # as it says itself
    assert [s.label for s in store.summaries(task="bracket_counting")] == ["3", "2", "1"]
    assert [s.label for s in store.summaries(limit=1)] == ["12"]
    assert store.summaries(model="nobody") == ()
    assert store.summaries(k=12, sweep="paper")[0].read_only
    assert store.summaries(task="..") == ()


def test_a_circuit_is_found_by_id_unique_beginning_and_place(store):
    own = store.save(with_nodes(1), "s")
    for ref in (own.id, own.id[:4], "bracket_counting/s/1", "csd-py-sparse/bracket_counting/s/1"):
        assert store.find(ref).summary == own
    assert store.find(own.id, model="csd-py-sparse").summary == own
    assert store.find(place_of(own)).summary == own


def test_a_circuit_found_again_does_not_hide_its_card(tmp_path):
    store = CircuitStore(tmp_path)
    own = store.save(with_nodes(1), "s", card=CARD)
    again = store.save(with_nodes(1, created_at_s=9.0), "t")
    assert again.id == own.id
    assert store.get(own.id).card == CARD
    assert store.get(place_of(again)).card is None


def test_a_beginning_that_several_share_names_them_and_an_unknown_one_the_nearest(tmp_path):
    store = CircuitStore(tmp_path)
    ids = [store.save(with_nodes(n), "s").id for n in range(40)]
    shared = next(i[:1] for i in ids if sum(j.startswith(i[:1]) for j in ids) > 1)
    with pytest.raises(InvalidRequest) as caught:
        store.find(shared)
    assert set(caught.value.nearest) <= {i for i in ids if i.startswith(shared)}
    wrong = ids[0][:-1] + ("0" if ids[0][-1] != "0" else "1")
    with pytest.raises(NotFound) as unknown:
        store.find(wrong)
    assert ids[0] in unknown.value.nearest
    with pytest.raises(NotFound) as elsewhere:
        store.find("bracket_countin/s/1")
    assert "bracket_counting/s/1" in elsewhere.value.nearest
    for ref in ("../../x", "a/b", "a/b/c/d/e", "not hexadecimal", ids[0] + "0"):
        with pytest.raises(NotFound):
            store.find(ref)


def test_a_place_without_model_that_two_models_have_must_name_one(tmp_path):
    store = CircuitStore(tmp_path)
    for model in ("m", "/some/where/n"):
        store.save(replace(with_nodes(1), model=model, model_hash=model), "s")
    with pytest.raises(InvalidRequest, match="several circuits"):
        store.find("bracket_counting/s/1")
    assert store.find("n/bracket_counting/s/1").summary.model == "/some/where/n"
    assert store.find("bracket_counting/s/1", model="/else/where/n/").summary.model.endswith("n")
    assert component_of("hf://who/what") == "what"


def test_what_is_shipped_cannot_be_deleted_and_a_card_goes_beside_a_copy(store, shipped, tmp_path):
    place = "csd-py-sparse/single_double_quote/paper/12"
    with pytest.raises(Forbidden):
        store.delete(circuit_id(QUOTE))
    summary = store.put_card(circuit_id(QUOTE)[:8], CARD)
    assert (summary.verdict, summary.read_only) == ("supported", False)
    assert store.get(place).details == quote_circuit().details
    assert not (shipped / "viz" / place / "card.json").exists()
    assert len(store.summaries()) == 1  # the copy hides the shipped one
    store.delete(place)
    assert store.summaries()[0].read_only
    assert not (tmp_path / "own" / "viz" / "csd-py-sparse").exists()  # no empty folders stay


def test_a_shipped_circuit_found_again_is_not_copied(store, tmp_path):
    assert store.save(QUOTE, "paper").read_only
    assert not (tmp_path / "own" / "viz" / "csd-py-sparse").exists()


def test_deleting_removes_the_files_and_wants_the_place_of_one_that_lies_in_several(tmp_path):
    store = CircuitStore(tmp_path)
    summary = store.save(with_nodes(1), "s")
    store.save(with_nodes(1), "t")
    with pytest.raises(InvalidRequest) as caught:
        store.delete(summary.id)
    assert set(caught.value.nearest) == {place_of(s) for s in store.summaries()}
    store.delete(place_of(summary))
    assert [s.sweep for s in store.summaries()] == ["t"]
    store.delete(summary.id)
    assert store.summaries() == ()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (b"", "circuit.json"),
        (b'{"model": "m"}', "circuit.json"),
        (b"\xff\xfe", "circuit.json"),
        (msgspec.json.encode(with_nodes(2, 1)), "ascend"),
        (msgspec.json.encode(replace(QUOTE, task="another_task")), "another_task"),
        (msgspec.json.encode(replace(QUOTE, nodes=QUOTE.nodes[:1] * 2)), "twice"),
    ],
)
def test_a_damaged_circuit_is_listed_as_broken_and_can_be_deleted(tmp_path, damage, says):
    store = CircuitStore(tmp_path)
    good = store.save(with_nodes(7), "s")
    bad = store.save(with_nodes(8, 9), "s")
    (tmp_path / "viz" / place_of(bad) / "circuit.json").write_bytes(damage)
    broken = next(s for s in store.summaries() if s.broken is not None)
    assert says in (broken.broken or "")
    assert (broken.label, broken.measured.k) == ("2", 0)
    assert store.find(good.id).summary == good
    with pytest.raises(CheckpointError, match="damaged"):
        store.get(place_of(bad))
    store.delete(place_of(bad))
    assert store.summaries() == (good,)


def test_damaged_details_and_cards_are_as_good_as_none(tmp_path):
    store = CircuitStore(tmp_path)
    summary = store.save(QUOTE, "s", details=CircuitDetails(), card=CARD)
    assert summary.verdict == "supported"
    for name in ("details.json", "card.json"):
        (tmp_path / "viz" / place_of(summary) / name).write_bytes(b"{")
    stored = store.get(summary.id)
    assert (stored.details, stored.card, stored.summary.verdict) == (None, None, None)


@pytest.mark.parametrize("name", ["..", "a/b", ".hidden", "", "a\n", "x" * 101])
def test_names_that_are_no_folders_are_refused_and_nothing_is_written(tmp_path, name):
    store = CircuitStore(tmp_path)
    with pytest.raises(InvalidRequest):
        store.save(QUOTE, name)
    with pytest.raises(InvalidRequest):
        store.save(replace(QUOTE, task=name or "/"), "s")
    assert list((tmp_path).rglob("circuit.json")) == []


def test_a_number_that_json_has_not_is_refused_and_nothing_is_written(tmp_path):
    store = CircuitStore(tmp_path)
    numbers = replace(QUOTE.measured, loss=float("nan"))
    with pytest.raises(InvalidRequest):
        store.save(replace(QUOTE, measured=numbers), "s")
    assert store.summaries() == ()
    assert not list(tmp_path.rglob(".writing-*"))


def test_writers_at_the_same_time_do_not_lose_or_mix_circuits(tmp_path):
    circuits = [with_nodes(n, n + 1) for n in range(8)]

    def write(part: list[Circuit]) -> None:
        for circuit in part:
            CircuitStore(tmp_path).save(circuit, "s")

    threads = [
        threading.Thread(target=write, args=(circuits[i::2] + circuits[:4],)) for i in (0, 1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    summaries = CircuitStore(tmp_path).summaries()
    assert {s.id for s in summaries} == {circuit_id(c) for c in circuits}
    assert len(summaries) == len(circuits)


def test_a_list_of_thousands_is_quick_once_it_was_made(tmp_path):
    circuit = msgspec.json.encode(with_nodes(1))
    for n in range(1000):
        folder = tmp_path / "viz" / "m" / "bracket_counting" / f"s{n % 10}" / str(n)
        folder.mkdir(parents=True)
        (folder / "circuit.json").write_bytes(circuit)
    store = CircuitStore(tmp_path)
    assert len(store.summaries()) == 1000
    started_s = time.process_time()
    assert len(store.summaries(sweep="s3")) == 100
    assert time.process_time() - started_s < 0.2


def test_a_changed_file_is_read_again(tmp_path):
    store = CircuitStore(tmp_path)
    summary = store.save(with_nodes(1), "s")
    path = tmp_path / "viz" / place_of(summary) / "circuit.json"
    path.write_bytes(msgspec.json.encode(with_nodes(1, 2)))
    assert store.find(place_of(summary)).summary.id == circuit_id(with_nodes(1, 2))


@given(st.text(max_size=40))
def test_no_reference_leads_out_of_the_tree(text):
    store = CircuitStore(Path("/nonexistent"))
    with pytest.raises((NotFound, InvalidRequest)):
        store.find(text)
