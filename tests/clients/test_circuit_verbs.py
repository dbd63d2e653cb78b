"""The verbs on circuits: what they send, and what they make of the replies, in both connections."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from circuit_client import connect, connect_async
from circuit_client.call import DEFAULT_MODEL
from circuit_client.verbs import circuit_files, circuits
from circuit_client.verbs.attention import attention
from circuit_client.verbs.prune import prune
from circuit_client.verbs.verify import verify
from circuit_protocol import circuit_replies as cr
from circuit_protocol import circuit_requests as cq
from circuit_protocol import errors, replies, requests
from circuit_protocol.circuits import PruneSettings, VerifySettings
from circuit_protocol.interventions import Keep, SiteChannels
from circuit_protocol.tensors import Frame, Handle, pack, unpack
from made_circuits import circuit_card, quote_circuit, summaries
from scripted_daemon import Out, daemon

QUOTE = quote_circuit()


def pruning(request: cq.Prune, frames: list) -> Iterator[Out]:
    found = summaries(3)
    yield replies.Progress(id="x", stage="prune", done=1, total=4, loss=0.5, k=90, final=False)
    yield cr.PrunePart(id="x", circuits=found[:2], final=False)
    yield replies.Progress(id="x", stage="prune", done=3, total=4, loss=0.2, k=40, final=False)
    yield cr.PrunePart(id="x", circuits=found[2:], final=False)
    yield cr.PruneResult(id="x", circuits=found, compute_s=4.5)


def verifying(request: cq.Verify, frames: list) -> Iterator[Out]:
    card = circuit_card()
    for control in card.controls:
        yield cr.VerifyPart(id="x", control=control, final=False)
    yield cr.VerifyResult(id="x", card=card, circuit=QUOTE.circuit)


def sampling(request: cq.NodeSamples, frames: list) -> Iterator[Out]:
    body: list[Frame] = []
    window = cr.SampleWindow(tokens=(1, 2, 3), activations=(0.0, 2.0, 0.5), position=1)
    yield (
        cr.NodeSampled(
            id="x",
            site=request.site,
            channel=request.channel,
            mean=0.25,
            quantiles=tuple(np.linspace(-1, 2, 9).tolist()),
            bands=(cr.SampleBand(fraction=0.001, end="top", windows=(window,)),),
            task_tokens=pack(np.array([[1, 2], [3, 0]], np.int32), body),
            task_lengths=pack(np.array([2, 1]), body),
            task_activations=pack(np.array([[0.5, 1.5], [-1.0, 0.0]], np.float32), body),
        ),
        body,
    )


def exporting(request: cq.ExportCircuit, frames: list) -> Iterator[Out]:
    body: list[Frame] = []
    data = pack(np.frombuffer(b"PK\x03\x04" * 600, np.uint8), body)
    yield cr.CircuitExported(id="x", data=data, file_name="viz_data.pt"), body


def hooking(request: requests.Hook, frames: list) -> Iterator[Out]:
    """Two prompts of 3 tokens; 4 heads, each 8 wide; a sink as the fourth key."""
    body: list[Frame] = []
    patterns = np.zeros((2, 4, 3, 4), np.float32)
    patterns[:, :, :, 3] = 0.75
    patterns[:, 2, 2, 1] = 0.25
    arrays = {"1.attn.pattern": patterns, "1.attn.q": np.zeros((2, 1, 32), np.float32)}
    yield (
        replies.HookResult(
            id="x",
            tokens=pack(np.array([[1, 2, 3], [4, 5, 6]], np.int32), body),
            lengths=pack(np.array([3, 3]), body),
            recorded=tuple(
                replies.Recorded(site=r.site, value=pack(arrays[r.site], body))
                for r in request.records
            ),
        ),
        body,
    )


SCRIPTS: Any = {
    cq.Prune: pruning,
    cq.Verify: verifying,
    cq.NodeSamples: sampling,
    cq.ExportCircuit: exporting,
    requests.Hook: hooking,
    cq.ShowCircuit: lambda request, frames: iter([QUOTE]),
}


# ------------------------------------------------------------------------------- what is sent


def test_prune_takes_one_or_several_of_everything() -> None:
    one: Any = prune(tasks="a", target_losses=0.3, ks=7, seeds=2).request
    assert (one.tasks, one.target_losses, one.ks, one.seeds) == (("a",), (0.3,), (7,), (2,))
    several: Any = prune("m", tasks=["a", "b"], seeds=range(3), target_losses=[0.5, 0.15]).request
    assert several.tasks == ("a", "b")
    assert several.seeds == (0, 1, 2)
    assert several.model == "m"
    assert several.ks == ()
    assert prune(tasks="a").request.settings == PruneSettings()  # pyright: ignore


def test_only_what_writes_is_not_sent_again_over_a_lost_line() -> None:
    assert not prune(tasks="a").resend
    assert prune(tasks="a", save=False).resend
    assert circuits.edit("c", drop="x[1]").resend
    assert not circuits.edit("c", drop="x[1]", save=True).resend
    assert not circuits.delete("c").resend


def test_a_circuit_is_named_by_any_answer_that_has_one() -> None:
    derived = cr.CircuitDerived(id="x", circuit_id="dd", circuit=QUOTE.circuit, delta=0.0)
    names: list[Any] = ["ref", QUOTE, QUOTE.summary, derived]
    asked = [circuits.show(name).request.circuit for name in names]  # pyright: ignore
    assert asked == ["ref", QUOTE.summary.id, QUOTE.summary.id, "dd"]


def test_an_answer_brings_its_model_and_a_name_the_default() -> None:
    assert verify(QUOTE).request.model == "csd-py-sparse"  # pyright: ignore
    assert verify(QUOTE, "other").request.model == "other"  # pyright: ignore
    assert verify("3f9a").request.model == DEFAULT_MODEL  # pyright: ignore
    assert circuits.measure(QUOTE.summary).request.model == "csd-py-sparse"  # pyright: ignore


def test_edit_takes_nodes_in_any_form() -> None:
    request: Any = circuits.edit("c", drop={"a": [1, 2]}, add="b[3] c[4,5]").request
    assert request.drop == (SiteChannels(site="a", channels=(1, 2)),)
    assert request.add == (
        SiteChannels(site="b", channels=(3,)),
        SiteChannels(site="c", channels=(4, 5)),
    )


def test_union_and_intersection_are_one_request() -> None:
    union: Any = circuits.union("a", "b", model="m").request
    shared: Any = circuits.intersection("a", "b", "c", save=True, sweep="s").request
    assert (union.how, union.circuits, union.save) == ("union", ("a", "b"), False)
    assert (shared.how, shared.circuits, shared.sweep) == ("intersection", ("a", "b", "c"), "s")


def test_an_import_of_a_published_file_sends_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / "viz_data.pt"
    file.write_bytes(bytes(range(256)) * 10)
    call = circuit_files.import_file(file, "m", task="t", note="from afar")
    request: Any = call.request
    assert unpack(request.viz_data, call.frames).tobytes() == file.read_bytes()
    assert (request.task, request.note, request.circuit) == ("t", "from afar", None)


def test_an_import_refuses_what_is_no_circuit(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text('{"circuit": {"model": 3}}')
    with pytest.raises(errors.InvalidRequest, match="holds no circuit"):
        circuit_files.import_file(file)
    file.write_bytes(msgspec.json.encode(QUOTE.circuit))
    with pytest.raises(errors.InvalidRequest, match="another task"):
        circuit_files.import_file(file, task="with_as")
    with pytest.raises(FileNotFoundError):
        circuit_files.import_file(tmp_path / "nothing.pt", task="t")


def test_attention_keeps_the_circuit_and_its_task() -> None:
    request: Any = attention(QUOTE, 10).request
    assert request.interventions == (Keep(site="*", nodes=QUOTE.circuit.nodes, fill="mean"),)
    assert request.input.task == "single_double_quote"
    assert request.model == "csd-py-sparse"
    assert [r.site for r in request.records] == ["10.attn.pattern", "10.attn.q"]
    bare: Any = attention("10.attn.q[1]", 10, text="x").request
    assert bare.input.prompts.texts == ("x",)
    resampled = msgspec.structs.replace(QUOTE.circuit, ablation="resample")
    with pytest.raises(errors.InvalidRequest, match="resample"):
        attention(resampled, 10)


# ------------------------------------------------------------------------------ what comes back


def test_prune_streams_progress_and_partial_results(tmp_path: Path) -> None:
    seen: list[replies.Progress] = []
    with daemon(tmp_path, SCRIPTS) as d, connect(d.endpoint) as c:
        stream = c.prune.start(tasks="bracket_counting", progress=seen.append)
        events = list(stream)
        found = [s.id for e in events if isinstance(e, cr.PrunePart) for s in e.circuits]
        assert found == [s.id for s in stream.result().circuits]
        assert [p.k for p in seen] == [90, 40]
        assert c.prune(tasks="bracket_counting").compute_s == 4.5


async def test_prune_streams_asynchronously_too(tmp_path: Path) -> None:
    with daemon(tmp_path, SCRIPTS) as d:
        async with connect_async(d.endpoint) as c:
            stream = c.prune.start(tasks="bracket_counting")
            kinds = [type(event).__name__ async for event in stream]
            assert kinds == ["Progress", "PrunePart", "Progress", "PrunePart"]
            assert len((await stream.result()).circuits) == 3


def test_prune_is_detached_as_a_job(tmp_path: Path) -> None:
    def accept(request: cq.Prune, frames: list) -> Iterator[Out]:
        assert request.detach
        yield replies.JobAccepted(id="x", job="j1")

    def watch(request: requests.WatchJob, frames: list) -> Iterator[Out]:
        yield from pruning(cq.Prune(id="x", model="m", tasks=("t",)), frames)

    scripts = {cq.Prune: accept, requests.WatchJob: watch}
    with daemon(tmp_path, scripts) as d, connect(d.endpoint) as c:
        job = c.prune.detach(tasks="bracket_counting")
        assert job.name == "j1"
        assert len(job.result().circuits) == 3


def test_verify_streams_controls_and_ends_in_the_card(tmp_path: Path) -> None:
    with daemon(tmp_path, SCRIPTS) as d, connect(d.endpoint) as c:
        stream = c.verify.start(QUOTE, settings=VerifySettings(n_pairs=64))
        assert tuple(stream) == circuit_card().controls
        assert stream.result() == circuit_card()
        assert d.wait_for(cq.Verify).settings.n_pairs == 64


def test_samples_are_arrays(tmp_path: Path) -> None:
    with daemon(tmp_path, SCRIPTS) as d, connect(d.endpoint) as c:
        answer = c.circuits.samples("2.mlp.post_act", 7, circuit=QUOTE, n_windows=1)
        assert answer.quantiles.shape == (len(answer.QUANTILES_AT),)
        assert answer.task_activations.tolist() == [[0.5, 1.5], [-1.0, 0.0]]
        assert answer.task_lengths.tolist() == [2, 1]
        assert answer.bands[0].windows[0].activations[answer.bands[0].windows[0].position] == 2.0
        assert d.wait_for(cq.NodeSamples).circuit == QUOTE.summary.id


def test_an_exported_file_is_written_under_its_name(tmp_path: Path) -> None:
    with daemon(tmp_path, SCRIPTS) as d, connect(d.endpoint) as c:
        data = c.circuits.export_viz_data(QUOTE)
        assert data.save(tmp_path) == tmp_path / "viz_data.pt"
        assert (tmp_path / "viz_data.pt").read_bytes() == b"PK\x03\x04" * 600


async def test_large_answers_are_fetched_before_a_coroutine_has_them(tmp_path: Path) -> None:
    body: list[Frame] = []
    small = pack(np.array([[1, 2, 3]], np.int32), body), pack(np.array([3]), body)
    held = {
        "h-file": np.frombuffer(b"PK\x03\x04" * 600, np.uint8),
        "h-attn.pattern": np.full((1, 4, 3, 4), 0.25, np.float32),
        "h-attn.q": np.zeros((1, 1, 32), np.float32),
    }

    def handle(name: str) -> Handle:
        dtype = "U8" if held[name].dtype == np.uint8 else "F32"
        return Handle(handle=name, dtype=dtype, shape=held[name].shape, nbytes=held[name].nbytes)

    def exported(request: Any, frames: list) -> Iterator[Out]:
        yield cr.CircuitExported(id="x", data=handle("h-file"), file_name="viz_data.pt")

    def hooked(request: requests.Hook, frames: list) -> Iterator[Out]:
        recorded = tuple(
            replies.Recorded(site=r.site, value=handle(f"h-{r.site.partition('.')[2]}"))
            for r in request.records
        )
        yield replies.HookResult(id="x", tokens=small[0], lengths=small[1], recorded=recorded), body

    scripts = {cq.ExportCircuit: exported, requests.Hook: hooked}
    with daemon(tmp_path, scripts) as d:
        d.held.update(held)
        async with connect_async(d.endpoint) as c:
            data = await c.circuits.export_viz_data("3f9a")
            assert data.data == b"PK\x03\x04" * 600
            answer = await c.circuits.attention("1.attn.q[9]", 1, text="x")
            assert answer.heads == (1,)
            assert answer[1].shape == (1, 3, 4)


def test_attention_knows_the_retained_heads_and_the_sink(tmp_path: Path) -> None:
    nodes = "1.attn.q[16] 1.attn.v[31] 1.attn.act_in[3] 0.attn.k[1]"
    with daemon(tmp_path, SCRIPTS) as d, connect(d.endpoint) as c:
        answer = c.circuits.attention(nodes, 1, text=["x", "y"])
        assert answer.heads == (2, 3), "channels 16 and 31 of heads 8 wide"
        assert answer.has_sink
        assert answer[2].shape == (2, 3, 4)
        assert answer[2][0, 2].tolist() == [0.0, 0.25, 0.0, 0.75]
        with pytest.raises(errors.NotFound):
            answer[4]
        assert c.circuits.attention(nodes, 1, heads=[0], text="x").heads == (0,)
