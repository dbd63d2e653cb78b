"""Nodes and interventions as people type them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuit_client.notation import (
    format_intervention,
    format_nodes,
    parse_interventions,
    parse_nodes,
)
from circuit_protocol import interventions as iv
from circuit_protocol.errors import InvalidRequest
from circuit_protocol.interventions import SiteChannels
from circuit_protocol.tensors import Tensor, unpack


def test_the_examples_of_the_page() -> None:
    assert parse_interventions("zero:2.mlp.post_act[3,5]@-1") == (
        iv.Zero(site="2.mlp.post_act", channels=(3, 5), positions=(-1,)),
    )
    assert parse_interventions("scale:*.attn.v{head 3}*0.5") == (
        iv.Scale(site="*.attn.v", heads=(3,), factor=0.5),
    )
    assert parse_interventions("mean:*.attn.v{3,5-7}#0,1") == (
        iv.Mean(site="*.attn.v", heads=(3, 5, 6, 7), rows=(0, 1)),
    )
    assert parse_interventions("clamp:0.mlp.post_act=..2") == (
        iv.Clamp(site="0.mlp.post_act", high=2.0),
    )
    assert parse_interventions("resample:*.resid_mid~7") == (
        iv.Resample(site="*.resid_mid", seed=7),
    )
    assert parse_interventions("keep:0.mlp.post_act[1] final_resid[2]") == (
        iv.Keep(site="*", nodes=parse_nodes("0.mlp.post_act[1];final_resid[2]")),
    )


def test_one_number_added_to_several_channels() -> None:
    (add,) = parse_interventions("add:1.resid_mid[7-9]+0.25")
    assert isinstance(add, iv.Add)
    assert isinstance(add.vector, Tensor)
    np.testing.assert_array_equal(unpack(add.vector, ()), np.full(3, 0.25, np.float32))


def test_json_holds_what_the_notation_does_not() -> None:
    text = '[{"op":"project","site":"x","directions":{"type":"handle","handle":"h","dtype":"F32",'
    text += '"shape":[1,4],"nbytes":16}}]'
    (project,) = parse_interventions(text)
    assert isinstance(project, iv.Project)


@pytest.mark.parametrize(
    "text",
    [
        "", "zero", "zap:x", "zero:", "zero:x=3", "scale:x", "scale:x*a", "set:x", "clamp:x=..",
        "clamp:x=1", "resample:x~q", "zero:x[a]b c", "[1", '{"op":"zero"}', "keep:", "add:x+",
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_the_callers_error(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_interventions(text)


def test_a_misspelt_operation_offers_the_nearest() -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_interventions("zerro:x")
    assert caught.value.nearest == ("zero",)


@pytest.mark.parametrize(
    "text", ["", "a[", "a]b", "a[x]", "a[1]b[2]", "a[7-3]", "a[0-99999999999]"]
)
def test_what_are_no_nodes(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_nodes(text)


sites = st.sampled_from(["2.mlp.post_act", "*.attn.v", "10.attn.q", "?.resid_mid", "final_resid"])
numbers = st.none() | st.lists(st.integers(0, 9999), min_size=1, max_size=4).map(tuple)
signed = st.none() | st.lists(st.integers(-99, 99), min_size=1, max_size=4).map(tuple)
places = st.fixed_dictionaries(
    {"site": sites, "channels": numbers, "heads": numbers, "positions": signed, "rows": numbers}
)
finite = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        places.map(lambda p: iv.Zero(**p)),
        places.map(lambda p: iv.Mean(**p)),
        st.tuples(places, finite).map(lambda t: iv.Set(**t[0], value=t[1])),
        st.tuples(places, finite).map(lambda t: iv.Scale(**t[0], factor=t[1])),
        st.tuples(places, finite, finite).map(lambda t: iv.Clamp(**t[0], low=t[1], high=t[2])),
        st.tuples(places, st.integers(0, 10**6)).map(lambda t: iv.Resample(**t[0], seed=t[1])),
    )
)
def test_what_is_printed_reads_as_it_was(intervention: iv.Intervention) -> None:
    assert parse_interventions(format_intervention(intervention)) == (intervention,)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(sites, numbers).map(lambda t: SiteChannels(site=t[0], channels=t[1])), min_size=1
    ).map(tuple)
)
def test_nodes_print_as_they_read(nodes: tuple[SiteChannels, ...]) -> None:
    assert parse_nodes(format_nodes(nodes)) == nodes
