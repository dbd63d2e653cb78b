"""docs/tui.md says the keys that work."""

from circuit_protocol.pages import docs_dir
from circuit_tui.keys import PLACES, TABLE
from circuit_tui.reference import fill


def test_the_page_has_todays_keys() -> None:
    page = (docs_dir() / "tui.md").read_text("utf-8")
    assert fill(page) == page, "run `python -m circuit_tui.reference`"
    for key in TABLE:
        assert f"`{key.id}`" in page


def test_every_key_belongs_to_a_place_that_has_a_name() -> None:
    assert {key.where for key in TABLE} <= set(PLACES)
