"""What is remembered of values that took long to make."""

from circuitd.lru import Lru


def kept(lru: Lru[str], keys: str) -> str:
    """Which of `keys` are still there; the asking keeps their order."""
    return "".join(key for key in keys if lru.get(key) is not None)


def test_what_was_not_asked_for_longest_goes_first() -> None:
    lru: Lru[str] = Lru(3)
    for key in "abc":
        assert lru.keep(key, key.upper()) == key.upper()
    assert lru.get("a") == "A"
    lru.keep("d", "D")
    assert kept(lru, "abcd") == "acd"


def test_a_value_takes_the_place_and_the_room_of_the_one_before_it() -> None:
    lru: Lru[str] = Lru(4, size=len)
    lru.keep("a", "xxx")
    lru.keep("b", "x")
    lru.keep("a", "x")
    lru.keep("c", "xx")
    assert kept(lru, "abc") == "abc"
    assert lru.get("a") == "x"


def test_values_make_room_for_a_larger_one_but_not_for_one_that_can_never_fit() -> None:
    lru: Lru[str] = Lru(4, size=len)
    for key in "abcd":
        lru.keep(key, "x")
    assert lru.keep("e", "x" * 5) == "x" * 5
    assert kept(lru, "abcde") == "abcd"
    lru.keep("f", "xxx")
    assert kept(lru, "abcdef") == "df"


def test_a_value_that_has_outgrown_the_capacity_leaves_no_older_one_behind() -> None:
    lru: Lru[str] = Lru(2, size=len)
    lru.keep("a", "x")
    lru.keep("a", "xxx")
    assert lru.get("a") is None
