"""The table of keys, and a user's own."""

from pathlib import Path

import pytest

from circuit_protocol.errors import InvalidRequest, NotFound
from circuit_tui.keys import PLACES, TABLE, read_keymap
from circuit_tui.sharing import CLIPBOARD_NBYTES_MAX, osc52
from circuit_tui.splash import splash


def test_every_binding_has_a_name_of_its_own_and_a_place_that_the_help_knows() -> None:
    assert len({key.id for key in TABLE}) == len(TABLE)
    assert {key.where for key in TABLE} <= PLACES.keys()
    for key in TABLE:
        assert key.help.endswith(".")


def test_no_key_is_one_that_terminals_or_tmux_keep() -> None:
    kept = {
        "ctrl+b",
        "ctrl+c",
        "ctrl+h",
        "ctrl+i",
        "ctrl+j",
        "ctrl+m",
        "ctrl+q",
        "ctrl+s",
        "ctrl+z",
    }
    for key in TABLE:
        assert not kept & set(key.keys.split(",")), key.id
        assert "alt+" not in key.keys


def test_a_file_gives_other_keys(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text('"app.help" = "f12"\n[circuit]\ngraph = "v"\n')
    assert read_keymap(file) == {"app.help": "f12", "circuit.graph": "v"}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('"app.hepl" = "f12"', NotFound),
        ("nonsense", InvalidRequest),
        ('"app.help" = 3', InvalidRequest),
        ('"circuit.graph" = "m"', InvalidRequest),  # the matrix' key
    ],
)
def test_a_file_that_is_wrong_is_refused(tmp_path: Path, text: str, error: type) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(text)
    with pytest.raises(error):
        read_keymap(file)
    with pytest.raises(NotFound):
        read_keymap(tmp_path / "absent.toml")


def test_copies_reach_the_outer_terminal_and_stay_within_what_it_takes() -> None:
    assert osc52("hi", {}) == "\x1b]52;c;aGk=\x07"
    assert "\x1bPtmux;" in (osc52("hi", {"TMUX": "x"}) or "")
    assert osc52("x" * (CLIPBOARD_NBYTES_MAX + 1), {}) is None


def test_the_first_frame_fits_the_terminal() -> None:
    frame = splash(80, ascii_only=True)
    assert frame.isascii()
    assert "connecting" in frame
