"""Chunks of a fetch: every byte once, in order, never more than there is credit for."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuit_protocol.errors import InvalidRequest
from circuitd.server.fetches import ChunkSpan, Fetch


@given(
    total=st.integers(0, 5000),
    offset=st.integers(0, 5000),
    chunk=st.integers(1, 700),
    grants=st.lists(st.integers(1, 5), max_size=10),
)
def test_chunks_cover_the_range_in_order_within_the_credit(total, offset, chunk, grants) -> None:
    offset = min(offset, total)
    fetch = Fetch(total, offset=offset, nbytes=None, chunk_nbytes=chunk, credit=2)
    spans: list[ChunkSpan] = []
    allowed = 2
    for grant in [0, *grants, 10_000]:
        if grant:
            fetch.grant(grant)
            allowed += grant
        while (span := fetch.take()) is not None:
            spans.append(span)
            fetch.check_invariants()
        assert len(spans) <= allowed
    assert spans[0].offset == offset
    assert all(a.offset + a.nbytes == b.offset for a, b in pairwise(spans))
    assert spans[-1].offset + spans[-1].nbytes == total
    assert [s.final for s in spans] == [False] * (len(spans) - 1) + [True]


def test_nothing_to_send_is_one_empty_final_chunk() -> None:
    fetch = Fetch(0, offset=0, nbytes=None, chunk_nbytes=1024, credit=1)
    assert fetch.take() == ChunkSpan(0, 0, final=True)
    assert fetch.take() is None


@pytest.mark.parametrize(("offset", "nbytes"), [(11, None), (5, 6), (0, 11)])
def test_a_range_outside_the_tensor_is_refused(offset: int, nbytes: int | None) -> None:
    with pytest.raises(InvalidRequest):
        Fetch(10, offset=offset, nbytes=nbytes, chunk_nbytes=1024, credit=1)
