"""When a document is read: the state machine alone, step by step and in any order."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from circuit_lsp.messages.documents import HeatChoice
from circuit_lsp.watching import Read, Say, Stop, Wait, Watch

CHOICE = HeatChoice()


def test_nothing_happens_until_asked():
    watch = Watch(CHOICE, is_up=True)
    assert watch.edited(0.1) == watch.moved(0.1) == watch.outdated() == watch.came_up() == []
    assert not watch.is_on


def test_an_edit_waits_for_quiet_and_ends_what_is_computed():
    watch = Watch(CHOICE, is_up=True)
    [_, read] = watch.turned_on()
    assert isinstance(read, Read)
    [stop, wait] = watch.edited(0.15)
    assert stop == Stop()
    assert wait == Wait(read.ticket + 1, 0.15)
    assert not watch.answered(read.ticket), "the answer is of a text that is gone"
    [_, again] = watch.due(wait.ticket)
    assert watch.answered(again.ticket)
    assert watch.phase == "fresh"


def test_of_many_edits_only_the_last_is_read():
    watch = Watch(CHOICE, is_up=True)
    watch.turned_on()
    waits = [watch.edited(0.1)[1] for _ in range(5)]
    assert [watch.due(w.ticket) for w in waits[:4]] == [[]] * 4
    assert isinstance(watch.due(waits[4].ticket)[1], Read)


def test_without_a_daemon_it_says_so_once_and_stays_quiet():
    watch = Watch(CHOICE, is_up=False)
    assert watch.turned_on() == [Say()]
    assert watch.edited(0.1) == watch.outdated() == watch.went_away() == []
    assert watch.turned_on() == []
    assert isinstance(watch.came_up()[1], Read)
    assert watch.went_away() == [Stop(), Say()]


def test_turned_off_it_clears_and_forgets():
    watch = Watch(CHOICE, is_up=True)
    [_, read] = watch.turned_on()
    assert watch.turned_off() == [Stop(), Say()]
    assert watch.turned_off() == []
    assert not watch.answered(read.ticket)


def test_a_failure_is_not_tried_again_by_itself():
    watch = Watch(CHOICE, is_up=True)
    [_, read] = watch.turned_on()
    assert watch.failed(read.ticket)
    assert watch.phase == "failed"
    assert isinstance(watch.edited(0.1)[1], Wait)


class Watched(RuleBasedStateMachine):
    """Any order of events: at most one thing is in progress, and only what is newest counts."""

    def __init__(self):
        super().__init__()
        self.watch = Watch(CHOICE, is_up=True)
        self.computing: int | None = None
        self.waiting: int | None = None
        self.old: list[int] = []
        self.wanted = False

    def carry_out(self, orders):
        for order in orders:
            match order:
                case Stop():
                    self.old += [t for t in (self.computing, self.waiting) if t is not None]
                    self.computing = self.waiting = None
                case Read(ticket):
                    assert self.computing is None
                    assert self.waiting is None
                    self.computing = ticket
                case Wait(ticket, _):
                    assert self.computing is None
                    assert self.waiting is None
                    self.waiting = ticket

    @rule()
    def on(self):
        self.wanted = True
        self.carry_out(self.watch.turned_on())

    @rule()
    def off(self):
        self.wanted = False
        self.carry_out(self.watch.turned_off())

    @rule()
    def edit(self):
        self.carry_out(self.watch.edited(0.1))

    @rule()
    def move(self):
        self.carry_out(self.watch.moved(0.1))

    @rule()
    def outdate(self):
        self.carry_out(self.watch.outdated())

    @rule()
    def lose(self):
        self.carry_out(self.watch.went_away())

    @rule()
    def find(self):
        self.carry_out(self.watch.came_up())

    @rule()
    def due(self):
        if self.waiting is not None:
            ticket, self.waiting = self.waiting, None
            self.carry_out(self.watch.due(ticket))

    @rule(well=st.booleans())
    def answer(self, well):
        if self.computing is not None:
            ticket, self.computing = self.computing, None
            assert self.watch.answered(ticket) if well else self.watch.failed(ticket)

    @rule(pick=st.integers(0, 100))
    def late(self, pick):
        if self.old:
            ticket = self.old[pick % len(self.old)]
            assert not self.watch.answered(ticket)
            assert not self.watch.failed(ticket)
            assert self.watch.due(ticket) == []

    @invariant()
    def phase_says_what_is_in_progress(self):
        assert (self.watch.phase == "reading") == (self.computing is not None)
        assert (self.watch.phase == "settling") == (self.waiting is not None)
        assert self.watch.is_on == self.wanted


Watched.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestWatched = Watched.TestCase
