"""From plain arguments to requests: prompts, node sets, masks, interventions."""

import inspect
from typing import Any

import msgspec
import numpy as np
import pytest

from circuit_client import iv, surface, surface_aio
from circuit_client.verbs.ablate import ablate
from circuit_client.verbs.forward import forward
from circuit_client.verbs.hook import hook
from circuit_client.verbs.models import detokenize
from circuit_protocol import errors, requests
from circuit_protocol.interventions import SiteChannels, Zero
from circuit_protocol.tensors import unpack


def tokens_of(call: Any) -> np.ndarray:
    return unpack(call.request.prompts.tokens, call.frames)


@pytest.mark.parametrize(
    ("tokens", "array", "lengths"),
    [
        ([1, 2, 3], [[1, 2, 3]], None),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]], None),
        ([[1, 2], [3, 4]], [[1, 2], [3, 4]], None),
        ([[1, 2, 3], [4]], [[1, 2, 3], [4, 0, 0]], (3, 1)),
        ([np.array([5]), [6, 7]], [[5, 0], [6, 7]], (1, 2)),
    ],
)
def test_tokens_in_any_form(tokens: Any, array: list, lengths: tuple | None) -> None:
    call = forward(tokens=tokens)
    np.testing.assert_array_equal(tokens_of(call), array)
    assert call.request.prompts.lengths == lengths  # pyright: ignore


def test_small_ids_travel_as_int32_and_large_ones_unharmed() -> None:
    assert tokens_of(forward(tokens=[1])).dtype == np.int32
    assert tokens_of(forward(tokens=[2**40])).tolist() == [[2**40]]


@pytest.mark.parametrize("tokens", [[1.5], [[1.0, 2.0]], np.array([0.5])])
def test_fractions_are_no_tokens(tokens: Any) -> None:
    with pytest.raises(errors.BadTokens):
        forward(tokens=tokens)


def test_a_prompt_is_needed_once() -> None:
    with pytest.raises(errors.InvalidRequest, match="neither"):
        forward()
    with pytest.raises(errors.InvalidRequest, match="both"):
        forward(tokens=[1], text="x")
    with pytest.raises(errors.BadShape):
        forward(tokens=np.zeros((1, 1, 1), int))


def test_token_losses_come_with_targets_unless_declined() -> None:
    assert forward(tokens=[1], targets="next").request.token_loss  # pyright: ignore
    assert not forward(tokens=[1]).request.token_loss  # pyright: ignore
    assert not forward(tokens=[1], targets="next", token_loss=False).request.token_loss  # pyright: ignore


def test_ragged_targets_are_padded_with_what_is_not_counted() -> None:
    call = hook(tokens=[[1, 2, 3], [4, 5]], targets=[[2, 3, -1], [5, -1]], sites="x")
    targets: Any = call.request.input.targets  # pyright: ignore
    assert unpack(targets, call.frames).tolist() == [[2, 3, -1], [5, -1, -1]]


def test_arrays_beyond_the_header_go_into_frames_of_their_own() -> None:
    big = np.arange(1000)
    call = forward(tokens=big, interventions=[iv.add("x", np.arange(500.0))])
    assert len(call.frames) == 2
    request: Any = call.request
    assert unpack(request.interventions[0].vector, call.frames).tolist() == list(range(500))


def test_interventions_know_their_places() -> None:
    call = forward(
        tokens=[1], interventions=iv.zero("x", channels=np.array([1, 2]), positions=[-1])
    )
    request: Any = call.request
    assert request.interventions == (Zero(site="x", channels=(1, 2), positions=(-1,)),)
    there = msgspec.msgpack.encode(call.numbered("1", "tiny"))
    assert msgspec.msgpack.decode(there, type=requests.Forward).interventions == (
        request.interventions
    )


def test_nodes_in_any_form() -> None:
    wanted = (SiteChannels(site="a", channels=(1, 2)), SiteChannels(site="b"))
    for nodes in ({"a": [1, 2], "b": None}, "a[1,2] b", ["a[1,2]", SiteChannels(site="b")]):
        request: Any = ablate(task="t", nodes=nodes).request
        assert request.masks == ((requests.AblateNodes(nodes=wanted),),)


def test_things_given_together_are_one_mask() -> None:
    request: Any = ablate(task="t", sites=["s"], heads={2: [0, 3]}, layers=[1], half="mlp").request
    assert request.masks == (
        (
            requests.AblateSites(site="s"),
            requests.AblateHeads(layer=2, heads=(0, 3)),
            requests.AblateLayers(layers=(1,), half="mlp"),
        ),
    )


def test_masks_in_exactly_one_way() -> None:
    with pytest.raises(errors.InvalidRequest, match="exactly one"):
        ablate(task="t")
    with pytest.raises(errors.InvalidRequest, match="exactly one"):
        ablate(task="t", layers=[0], every="head")
    request: Any = ablate(task="t", keep="a[1]").request
    assert request.masks == ((),), "a circuit alone is one mask"


def test_packed_masks_are_booleans() -> None:
    with pytest.raises(errors.BadShape):
        ablate(task="t", packed=np.zeros((2, 5)))
    call = ablate(task="t", packed=np.ones(5, bool))
    request: Any = call.request
    assert request.packed.shape == (1, 5)


def test_detokenize_takes_one_row_or_several() -> None:
    for tokens in ([1, 2], np.array([1, 2]), [[1, 2]]):
        request: Any = detokenize(tokens).request
        assert request.tokens == ((1, 2),)


def verbs_of(module: Any) -> dict[str, Any]:
    found = {}
    for name, namespace in vars(module).items():
        if isinstance(namespace, type) and issubclass(namespace, module.Namespace):
            for attribute, value in vars(namespace).items():
                if isinstance(value, module.verb | module.stream):
                    found[f"{name}.{attribute}"] = (type(value).__name__, value._build)
    return found


def test_both_surfaces_have_the_same_verbs() -> None:
    assert verbs_of(surface) == verbs_of(surface_aio)


def test_every_request_type_has_a_verb() -> None:
    #: Sent by the connection itself.
    inside = {requests.Cancel, requests.Credit, requests.Release}
    named = {type_.__name__ for type_ in requests.AnyRequest.__args__ if type_ not in inside}
    source = "".join(
        inspect.getsource(inspect.getmodule(build))  # pyright: ignore
        for _, build in verbs_of(surface).values()
    )
    assert [name for name in sorted(named) if f"{name}(" not in source] == []


def test_verbs_document_themselves() -> None:
    for name, (_, build) in verbs_of(surface).items():
        assert build.__doc__, name


def test_a_site_is_recorded_once() -> None:
    again = requests.Record(site="a", reduce="norm")
    with pytest.raises(errors.InvalidRequest, match="recorded twice"):
        hook(sites=["a", "b", again], text="x")
