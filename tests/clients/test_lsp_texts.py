"""Where things stand in a document: lines, units, tokens, windows. Invariants, on any text."""

import itertools
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lsprotocol import types
from pygls.workspace import PositionCodec

from circuit_lsp.reading import Reading
from circuit_lsp.texts import Text
from circuit_lsp.tokens import spot_at, spots_of, utf8_length, visible
from circuit_lsp.windows import blocks_around, cut_around
from circuit_protocol.replies import TokenInfo

ENCODINGS = [
    types.PositionEncodingKind.Utf8,
    types.PositionEncodingKind.Utf16,
    types.PositionEncodingKind.Utf32,
]
#: Texts with what breaks naive counting: line ends of all kinds, separators that are none, emoji.
texts = st.text(
    st.sampled_from(string.ascii_letters[:4] + " \t\n\r\x0c\x0b\u2028\u0085äé漢字🙂🏳️‍🌈\u0301"),
    max_size=60,
)


def text_of(source: str, encoding: types.PositionEncodingKind = ENCODINGS[1]) -> Text:
    return Text("file:///a.py", 1, source, "python", PositionCodec(encoding))


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(source=texts)
def test_a_place_and_its_offset_are_the_same(encoding, source):
    text = text_of(source, encoding)
    for offset in range(len(source) + 1):
        inside_crlf = source[max(0, offset - 1) : offset + 1] == "\r\n"
        if not inside_crlf:
            assert text.offset_at(text.position_at(offset)) == offset


@given(source=texts)
def test_lines_end_where_lsp_says_and_nowhere_else(source):
    text = text_of(source)
    plain = source.replace("\r\n", "\n").replace("\r", "\n")
    assert len(text.line_starts) == plain.count("\n") + 1


def test_units_are_those_agreed_on():
    source = "a漢🙂b"
    ends = [text_of(source, e).position_at(4).character for e in ENCODINGS]
    assert ends == [1 + 3 + 4 + 1, 1 + 1 + 2 + 1, 4]


@given(source=texts, start=st.integers(0, 60), length=st.integers(0, 60), new=texts)
def test_an_edit_changes_what_it_names(source, start, length, new):
    text = text_of(source)
    start = min(start, len(source))
    end = min(start + length, len(source))
    change = types.TextDocumentContentChangePartial(range=text.lsp_range(start, end), text=new)
    first = text.offset_at(change.range.start)
    last = text.offset_at(change.range.end)
    changed = text.changed([change], 2)
    assert changed.source == source[:first] + new + source[last:]
    assert changed.version == 2
    difference = changed.first_difference(text)
    assert changed.source[:difference] == source[:difference]


def test_places_beyond_the_text_are_its_end():
    text = text_of("ab\ncd")
    assert text.offset_at(types.Position(line=9, character=9)) == 5
    assert text.offset_at(types.Position(line=0, character=9)) == 2


def test_lone_surrogates_are_replaced_one_by_one():
    text = text_of("a\ud83db")
    assert len(text.plain) == len(text.source)
    text.plain.encode()


@st.composite
def cut_texts(draw):
    """A text and tokens that cut its bytes anywhere, also within code points."""
    text = draw(texts)
    data = text.encode()
    cuts = sorted(draw(st.sets(st.integers(0, len(data)))) | {0, len(data)})
    tokens = [
        TokenInfo(id=i, data=data[a:b], offset=a)
        for i, (a, b) in enumerate(itertools.pairwise(cuts))
    ]
    return text, tokens


@given(cut_texts())
def test_spots_cover_the_text_and_all_its_tokens_once(cut):
    text, tokens = cut
    spots = spots_of(text, tokens, base=10)
    assert "".join(text[s.start - 10 : s.end - 10] for s in spots) == text
    assert [i for s in spots for i in range(s.first, s.last + 1)] == list(range(len(tokens)))
    for spot in spots:
        data = b"".join(t.data for t in tokens[spot.first : spot.last + 1])
        assert data.decode() == text[spot.start - 10 : spot.end - 10]
        for offset in range(spot.start, spot.end):
            assert spot_at(spots, offset) is spot


@given(texts)
def test_utf8_length_is_that_of_the_encoder(text):
    assert [utf8_length(c) for c in text] == [len(c.encode()) for c in text]


def test_tokens_are_shown_with_blanks_and_broken_bytes():
    assert visible(b" x\n") == "␣x↵"
    assert visible("漢".encode()[:2]) == "\\xe6\\xbc"


@given(n=st.integers(0, 3000), focus=st.integers(0, 3000), block=st.integers(2, 300))
def test_blocks_join_cover_the_focus_and_give_context(n, focus, block):
    focus = min(focus, max(0, n - 1))
    blocks = blocks_around(n, focus, block)
    if n == 0:
        assert blocks == ()
        return
    assert blocks[0].scored <= focus < blocks[-1].stop
    for before, after in itertools.pairwise(blocks):
        assert after.scored == before.stop
    for one in blocks:
        assert 0 <= one.start <= one.scored < one.stop <= n
        assert one.stop - one.start <= block
        assert one.scored == 0 or one.scored - one.start >= block // 2


@given(lines=st.integers(1, 400), width=st.integers(0, 200), focus=st.floats(0, 1))
def test_a_cut_holds_what_surrounds_the_focus(lines, width, focus):
    text = text_of(("x" * width + "\n") * lines)
    at = int(focus * len(text.source))
    start, end = cut_around(text.source, text.line_starts, at, 16)
    assert 0 <= start <= at <= end <= len(text.source)
    reach = 4 * 16 * 4
    assert start == 0 or at - start >= reach // 2
    assert end == len(text.source) or end - at >= reach // 2
    assert end - start <= 4 * reach


def test_numbers_find_their_tokens_across_blocks():
    import numpy as np

    model = type("M", (), {"block_size": 4})()
    tokens = tuple(TokenInfo(id=i, data=b"x", offset=i) for i in range(10))
    blocks = blocks_around(10, 5, 4)
    reading = Reading(text_of("x" * 10), model, 0, 10, tokens, blocks)
    # Position t of a block carries the number of its own token: then token i gets i back.
    own = np.full((len(blocks), 4), np.nan)
    following = np.full((len(blocks), 4), np.nan)
    for row, b in enumerate(blocks):
        own[row, : b.stop - b.start] = range(b.start, b.stop)
        following[row, : b.stop - b.start - 1] = range(b.start + 1, b.stop)
    first, stop = reading.scored
    assert reading.gather(own, 0)[first:stop].tolist() == list(range(first, stop))
    known = [i for i in range(first, stop) if i > 0]
    assert reading.gather(following, 1)[known].tolist() == known
