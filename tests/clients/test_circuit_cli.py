"""`circuit prune`, `verify` and `circuits`, in this process, against the scripted daemon."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import click
import msgspec
import numpy as np
import pytest

from circuit_client.cli import prune as prune_module
from circuit_client.cli import verify as verify_module
from circuit_client.cli.app import circuit, run
from circuit_client.cli.arguments import CircuitName
from circuit_client.cli.circuit_changes import read_edge, read_nodes
from circuit_client.cli.struct_options import read_struct
from circuit_protocol import circuit_replies as cr
from circuit_protocol import circuit_requests as cq
from circuit_protocol import errors, replies, requests
from circuit_protocol.circuits import ControlName, PruneSettings, Verdict, VerifySettings
from circuit_protocol.interventions import SiteChannels
from circuit_protocol.messages import Edge
from circuit_protocol.session import SessionPatch, SessionState
from circuit_protocol.tensors import Frame, pack
from made_circuits import circuit_card, quote_circuit, random_circuit, summaries
from scripted_daemon import Out, Script, ScriptedDaemon, daemon

QUOTE = quote_circuit(card=circuit_card())
Run = Callable[..., tuple[int, str, str]]
WORDS = {1: b"if", 2: b" x", 3: b":\n"}


def pruning(request: cq.Prune, frames: list) -> Iterator[Out]:
    found = summaries(max(1, len(request.ks) + len(request.target_losses)))
    yield replies.Progress(id="x", stage="prune", done=1, total=4, loss=0.5, k=90, final=False)
    yield cr.PrunePart(id="x", circuits=found, final=False)
    yield cr.PruneResult(id="x", circuits=found, compute_s=4.5)


def verifying(verdict: Verdict) -> Script:
    def script(request: cq.Verify, frames: list) -> Iterator[Out]:
        card = circuit_card(verdict)
        yield cr.VerifyPart(id="x", control=card.controls[0], final=False)
        yield cr.VerifyResult(id="x", card=card, circuit=QUOTE.circuit)

    return script


def describe(request: requests.DescribeModel, frames: list) -> Iterator[Out]:
    yield replies.ModelDescription(
        id="x", model="m", path="", model_hash="", config_json="{}", n_nodes=1, n_parameters=1,
        n_nonzeros=1, block_density=1.0, nbytes_on_disk=1, matrices=(),
        sites=(replies.SiteInfo(site="0.attn.q", width=64, n_heads=8, is_node_site=True),),
    )  # fmt: skip


def derive(request: cq.EditCircuit | cq.CombineCircuits, frames: list) -> Iterator[Out]:
    yield cr.CircuitDerived(
        id="x", circuit_id="ed17ed", circuit=QUOTE.circuit, delta=0.1, saved=request.save,
        sweep=request.sweep, label="11",
    )  # fmt: skip


def detokenize(request: requests.Detokenize, frames: list) -> Iterator[Out]:
    rows = tuple(
        replies.TextPiece(text="", data=b"".join(WORDS[t] for t in row)) for row in request.tokens
    )
    yield replies.Texts(id="x", rows=rows)


def sampling(request: cq.NodeSamples, frames: list) -> Iterator[Out]:
    body: list[Frame] = []
    window = cr.SampleWindow(tokens=(1, 2, 3), activations=(0.0, 2.0, 0.5), position=1)
    yield (
        cr.NodeSampled(
            id="x", site=request.site, channel=request.channel, mean=0.25,
            quantiles=tuple(np.linspace(-1, 2, 9).tolist()),
            bands=(cr.SampleBand(fraction=0.001, end="top", windows=(window,)),),
            task_tokens=pack(np.array([[1, 2], [3, 0]], np.int32), body),
            task_lengths=pack(np.array([2, 1]), body),
            head=None if ".attn.q" not in request.site else 3,
            attention=None
            if ".attn.q" not in request.site
            else pack(
                np.array([[[0.5, 0, 0.5], [0.25, 0.5, 0.25]], [[1, 0, 0], [0, 0, 0]]], np.float32),
                body,
            ),
            task_activations=pack(np.array([[0.5, 1.5], [-1.0, 0.0]], np.float32), body),
        ),
        body,
    )  # fmt: skip


def hooking(request: requests.Hook, frames: list) -> Iterator[Out]:
    body: list[Frame] = []
    patterns = np.zeros((1, 8, 3, 4), np.float32)
    patterns[0, 3, 2] = [0.0, 0.5, 0.25, 0.25]
    arrays = [patterns, np.zeros((1, 1, 64), np.float32)]
    yield (
        replies.HookResult(
            id="x", tokens=pack(np.array([[1, 2, 3]], np.int32), body),
            lengths=pack(np.array([3]), body),
            recorded=tuple(
                replies.Recorded(site=r.site, value=pack(a, body))
                for r, a in zip(request.records, arrays, strict=True)
            ),
        ),
        body,
    )  # fmt: skip


def exporting(request: cq.ExportCircuit, frames: list) -> Iterator[Out]:
    body: list[Frame] = []
    data = pack(np.frombuffer(b"PK" * 1200, np.uint8), body)
    yield cr.CircuitExported(id="x", data=data, file_name="viz_data.pt"), body


SCRIPTS: dict[type, Script] = {
    cq.Prune: pruning,
    cq.Verify: verifying("supported"),
    cq.ListCircuits: lambda r, f: iter([cr.CircuitList(id="x", circuits=summaries(3))]),
    cq.ShowCircuit: lambda r, f: iter([QUOTE]),
    cq.MeasureCircuit: lambda r, f: iter([QUOTE]),
    cq.ImportCircuit: lambda r, f: iter([QUOTE]),
    cq.DeleteCircuit: lambda r, f: iter([replies.Done(id="x", changed=True)]),
    cq.EditCircuit: derive,
    cq.CombineCircuits: derive,
    cq.NodeSamples: sampling,
    cq.ExportCircuit: exporting,
    requests.DescribeModel: describe,
    requests.Detokenize: detokenize,
    requests.Hook: hooking,
}


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedDaemon]:
    with daemon(tmp_path, dict(SCRIPTS)) as d:
        monkeypatch.setenv("CIRCUIT_ENDPOINT", d.endpoint)
        for name in ("COLORTERM", "NO_COLOR", "CIRCUIT_MODEL", "CIRCUIT_THEME", "COLORFGBG"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("COLUMNS", "90")
        yield d


@pytest.fixture
def type_(capsys: pytest.CaptureFixture[str]) -> Run:
    def typed(*arguments: str) -> tuple[int, str, str]:
        code = run(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return typed


# -------------------------------------------------------------------------------------- prune


def test_prune_ends_in_one_json_line_for_one_circuit(fake: ScriptedDaemon, type_: Run) -> None:
    code, out, err = type_("prune", "--task", "bracket_counting", "--json")
    assert code == 0
    (line,) = out.splitlines()
    document = json.loads(line)
    wanted = ["nodes", "edges", "loss", "held_out_loss", "accuracy", "circuit", "seconds"]
    assert list(document)[:7] == wanted
    assert [document[name] for name in wanted] == [4, 8, 0.6, 0.171, 0.7, f"{0:016x}", 4.5]
    assert "4 nodes, 8 edges, loss 0.6000" in err, "what is found is told as it comes"


def test_prune_gives_a_line_for_each_target(fake: ScriptedDaemon, type_: Run) -> None:
    code, out, _ = type_("prune", "-t", "a", "-t", "b", "--k", "4", "--k", "8", "--target-loss",
                         "0.3", "--seed", "3", "--seed", "5", "--json")  # fmt: skip
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["nodes"] for line in lines] == [4, 8, 16]
    assert [line["seconds"] for line in lines] == [41.5] * 3, "as their provenance says"
    asked = fake.wait_for(cq.Prune)
    assert (asked.tasks, asked.seeds, asked.ks, asked.target_losses) == (
        ("a", "b"), (3, 5), (4, 8), (0.3,)
    )  # fmt: skip


def test_prune_draws_a_table_and_the_curve(fake: ScriptedDaemon, type_: Run) -> None:
    code, out, _ = type_("prune", "-t", "a", "--k", "4", "--k", "8", "--k", "9")
    assert code == 0
    assert re.search(r"bracket_counting +0\.15 +0 +0\.6000 +4 +8 +0\.171 +70\.0% +41\.5 s", out)
    assert "nodes kept (log)" in out


def test_every_setting_is_an_option_and_reaches_the_daemon(
    fake: ScriptedDaemon, type_: Run
) -> None:
    given = {
        "n_steps": "7", "n_pairs_per_step": "8", "k_coef": "0.5", "init_noise_scale": "0.25",
        "init_noise_bias": "-0.5", "weight_decay": "0.125", "lr": "0.5", "beta1": "0.5",
        "beta2": "0.25", "lr_warm_up": "0.5", "heaviside_temp": "2.5", "clip_norm": "none",
        "rank_by": "tau", "stochastic_rest": "0.5",
    }  # fmt: skip
    flags = ["--no-open-at-zero", "--greedy", "--prune-edges", "--calibrate"]
    named = {*given, *(flag[2:].removeprefix("no-").replace("-", "_") for flag in flags)}
    assert named == set(PruneSettings.__struct_fields__), "this test knows every setting"
    words = [w for name, value in given.items() for w in (f"--{name.replace('_', '-')}", value)]
    assert type_("prune", "-t", "a", *words, *flags)[0] == 0
    settings = fake.wait_for(cq.Prune).settings
    wanted = {n: float(v) if n not in ("rank_by", "clip_norm") else v for n, v in given.items()}
    wanted |= {"clip_norm": None, "n_steps": 7, "n_pairs_per_step": 8, "open_at_zero": False}
    wanted |= {"greedy": True, "prune_edges": True, "calibrate": True}
    assert msgspec.structs.asdict(settings) == wanted


@pytest.mark.parametrize(
    ("struct", "helps"),
    [
        (PruneSettings, prune_module.SETTING_HELPS),
        (VerifySettings, verify_module.SETTING_HELPS),
    ],
)
def test_every_setting_is_explained(struct: Any, helps: dict[str, str]) -> None:
    assert set(helps) == set(struct.__struct_fields__)


def test_settings_left_out_are_the_structs_own(fake: ScriptedDaemon, type_: Run) -> None:
    type_("prune", "-t", "a")
    assert fake.wait_for(cq.Prune).settings == PruneSettings()


def test_a_setting_out_of_range_is_refused_by_name(type_: Run, fake: ScriptedDaemon) -> None:
    code, out, err = type_("prune", "-t", "a", "--lr", "-1")
    assert (code, out) == (2, "")
    assert "--lr: Expected `float` > 0.0" in err
    with pytest.raises(click.UsageError):
        read_struct(VerifySettings, dict.fromkeys(VerifySettings.__struct_fields__)
                    | {"n_pairs": 1})  # fmt: skip


def test_a_target_without_a_circuit_is_told_and_sets_the_exit_code(
    fake: ScriptedDaemon, type_: Run
) -> None:
    failure = cr.PruneFailure(
        task="with_as",
        seed=0,
        target_loss=0.01,
        error=errors.InvalidRequest("no k reaches the target", found="0.2").to_info(),
    )

    def partly(request: Any, frames: list) -> Iterator[Out]:
        yield cr.PrunePart(id="x", failures=(failure,), final=False)
        yield cr.PruneResult(id="x", circuits=summaries(1), failures=(failure,))

    fake.scripts[cq.Prune] = partly
    code, out, err = type_("prune", "-t", "with_as", "--json")
    assert code == 2
    assert len(out.splitlines()) == 1
    assert "with_as, seed 0, 0.01: no k reaches the target (found 0.2)" in err


def test_prune_detaches(fake: ScriptedDaemon, type_: Run) -> None:
    fake.scripts[cq.Prune] = lambda r, f: iter([replies.JobAccepted(id="x", job="j7")])
    code, out, _ = type_("prune", "-t", "a", "--detach", "--json")
    assert (code, json.loads(out)) == (0, {"job": "j7"})
    assert fake.wait_for(cq.Prune).detach


def test_a_watched_prune_ends_in_its_table(fake: ScriptedDaemon, type_: Run) -> None:
    info = replies.JobInfo(
        job="j7", state="done", request_type="prune", description="t", created_at_s=1.0
    )
    fake.scripts[requests.WatchJob] = lambda r, f: pruning(
        cq.Prune(id="x", model="m", tasks=("t",)), f
    )
    fake.scripts[requests.GetJob] = lambda r, f: iter([replies.JobList(id="x", jobs=(info,))])
    code, out, _ = type_("jobs", "watch", "j7")
    assert code == 0
    assert re.search(r"bracket_counting +0\.15 +0 +0\.6000", out)
    _, out, _ = type_("jobs", "watch", "j7", "--json")
    last = json.loads(out.splitlines()[-1])
    assert last["circuits"][0]["nodes"] == 4


# ------------------------------------------------------------------------------------- verify


@pytest.mark.parametrize(("verdict", "code"), [("supported", 0), ("not supported", 3),
                                               ("depends", 4)])  # fmt: skip
def test_each_verdict_has_its_exit_code(
    fake: ScriptedDaemon, type_: Run, verdict: Any, code: int
) -> None:
    assert set(get_args(Verdict)) == {"supported", "not supported", "depends"}
    fake.scripts[cq.Verify] = verifying(verdict)
    got, out, err = type_("verify", "3f9a")
    assert got == code
    assert out.startswith(verdict.upper())
    assert out.count("held out:") == 1
    assert "held out" not in err, "the card says it once; progress is for terminals"
    got, out, _ = type_("verify", "3f9a", "--json")
    assert (got, json.loads(out)["verdict"]) == (code, verdict)


def test_verify_asks_the_circuits_own_model_for_the_controls_named(
    fake: ScriptedDaemon, type_: Run
) -> None:
    type_("verify", "3f9a", "--controls", "held_out", "--controls", "seeds", "--n-pairs", "64")
    asked = fake.wait_for(cq.Verify)
    assert asked.model == "csd-py-sparse"
    assert asked.settings == VerifySettings(controls=("held_out", "seeds"), n_pairs=64)
    code, _, err = type_("verify", "3f9a", "--controls", "luck")
    assert code == 2
    assert all(name in err for name in get_args(ControlName))


# ----------------------------------------------------------------------------------- circuits


def test_list_filters_and_draws(fake: ScriptedDaemon, type_: Run) -> None:
    code, out, _ = type_("circuits", "list", "--task", "t", "--k", "8", "--curve")
    assert code == 0
    asked = fake.wait_for(cq.ListCircuits)
    assert (asked.task, asked.k, asked.model) == ("t", 8, None)
    assert len(re.findall(r"^0000", out, re.MULTILINE)) == 3
    assert "nodes kept (log)" in out
    _, out, _ = type_("circuits", "list", "--json")
    assert [c["measured"]["k"] for c in json.loads(out)["circuits"]] == [4, 8, 16]


def test_an_empty_catalogue_says_how_to_fill_it(fake: ScriptedDaemon, type_: Run) -> None:
    fake.scripts[cq.ListCircuits] = lambda r, f: iter([cr.CircuitList(id="x", circuits=())])
    assert "circuit prune" in type_("circuits", "list")[1]


@pytest.mark.parametrize("columns", [80, 120])
def test_show_draws_within_the_terminal(
    fake: ScriptedDaemon, type_: Run, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    fake.scripts[cq.ShowCircuit] = lambda r, f: iter([random_circuit(300)])
    monkeypatch.setenv("COLUMNS", str(columns))
    code, out, _ = type_("circuits", "show", "3f9a", "--curve", "--card")
    assert code == 0
    assert max(map(len, out.splitlines())) <= columns
    assert re.search(r"head \d+ ", out), "the model says how wide its heads are"
    assert "nodes kept (log)" in out
    assert "no card yet" in out
    assert "\x1b[" not in out


def test_show_in_colours_as_facts_and_as_json(fake: ScriptedDaemon, type_: Run) -> None:
    assert "48;2;" in type_("circuits", "show", "3f9a", "--color", "truecolor")[1]
    assert "settings  greedy=True" in type_("circuits", "show", "3f9a", "--facts")[1]
    document = json.loads(type_("circuits", "show", "3f9a", "--json")[1])
    assert document["circuit"]["task"] == "single_double_quote"
    assert document["card"]["verdict"] == "not supported"


def test_a_circuit_of_a_model_that_is_gone_is_drawn_without_heads(
    fake: ScriptedDaemon, type_: Run
) -> None:
    def gone(request: Any, frames: list) -> Iterator[Out]:
        yield errors.NotFound("no such model", asked="m")

    fake.scripts[requests.DescribeModel] = gone
    code, out, _ = type_("circuits", "show", "3f9a")
    assert code == 0
    assert re.search(r"^  q +657", out, re.MULTILINE)


def test_edit_prints_the_loss_before_and_after(fake: ScriptedDaemon, type_: Run) -> None:
    code, out, _ = type_("circuits", "edit", "3f9a", "--drop", "0.mlp.post_act:863,2790",
                         "--add", "2.attn.k[7]", "--save")  # fmt: skip
    assert code == 0
    assert out.startswith("loss 0.0490 → 0.1490  +0.1000 nats per side")
    assert "saved as edited/11" in out
    asked = fake.wait_for(cq.EditCircuit)
    assert asked.drop == (SiteChannels(site="0.mlp.post_act", channels=(863, 2790)),)
    assert asked.add == (SiteChannels(site="2.attn.k", channels=(7,)),)
    assert asked.model == "csd-py-sparse"
    document = json.loads(type_("circuits", "edit", "3f9a", "--drop", "a:1", "--json")[1])
    assert document["loss_before"] == pytest.approx(0.049)
    assert document["circuit_id"] == "ed17ed"


def test_nodes_and_edges_as_a_person_types_them() -> None:
    assert read_nodes("a.b:1,3-5") == (SiteChannels(site="a.b", channels=(1, 3, 4, 5)),)
    assert read_nodes("a[1] b[2]") == (
        SiteChannels(site="a", channels=(1,)), SiteChannels(site="b", channels=(2,))
    )  # fmt: skip
    edge = Edge(source="0.mlp.act_in", source_channel=5, target="0.mlp.post_act", target_channel=8)
    assert read_edge("0.mlp.act_in:5 -> 0.mlp.post_act:8") == edge
    assert read_edge("0.mlp.act_in[5]->0.mlp.post_act[8]") == edge
    with pytest.raises(click.UsageError):
        read_edge("0.mlp.act_in:5")


def test_circuits_are_combined(fake: ScriptedDaemon, type_: Run) -> None:
    assert type_("circuits", "union", "a", "b")[0] == 0
    assert fake.wait_for(cq.CombineCircuits).how == "union"
    assert type_("circuits", "intersection", "a", "b", "--save")[0] == 0
    asked = fake.wait_for(cq.CombineCircuits)
    assert (asked.how, asked.circuits, asked.save) == ("intersection", ("a", "b"), True)
    assert type_("circuits", "union", "a")[0] == 2


@pytest.mark.parametrize(
    ("name", "begins"),
    [("c.json", "{"), ("c.graphml", "<?xml"), ("c.dot", "digraph"), ("c.svg", "<?xml"),
     ("c.html", "<!doctype html>")],
)  # fmt: skip
def test_export_takes_the_format_from_the_files_ending(
    fake: ScriptedDaemon, type_: Run, tmp_path: Path, name: str, begins: str
) -> None:
    code, out, err = type_("circuits", "export", "3f9a", "-o", str(tmp_path / name))
    assert (code, out) == (0, "")
    assert f"wrote {tmp_path / name}" in err
    assert (tmp_path / name).read_text().startswith(begins)


def test_export_to_stdout_and_as_two_tables(
    fake: ScriptedDaemon, type_: Run, tmp_path: Path
) -> None:
    assert type_("circuits", "export", "3f9a", "--format", "dot")[1].startswith("digraph")
    assert json.loads(type_("circuits", "export", "3f9a")[1])["format"].startswith("circuitd")
    _, out, _ = type_("circuits", "export", "3f9a", "-o", str(tmp_path / "c.csv"), "--json")
    files = json.loads(out)["files"]
    assert files == [str(tmp_path / "c.csv"), str(tmp_path / "c.edges.csv")]
    assert len(Path(files[0]).read_text().splitlines()) == 1 + 12
    assert len(Path(files[1]).read_text().splitlines()) == 1 + 9


def test_export_for_the_published_viewer(fake: ScriptedDaemon, type_: Run, tmp_path: Path) -> None:
    assert type_("circuits", "export", "3f9a", "-o", str(tmp_path / "viz_data.pt"))[0] == 0
    assert (tmp_path / "viz_data.pt").read_bytes() == b"PK" * 1200


def test_import_of_what_was_exported(fake: ScriptedDaemon, type_: Run, tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    type_("circuits", "export", "3f9a", "-o", str(file))
    code, out, _ = type_("circuits", "import", str(file), "--note", "mine")
    assert code == 0
    assert "12 nodes, 9 edges" in out
    asked = fake.wait_for(cq.ImportCircuit)
    assert (asked.circuit, asked.note) == (QUOTE.circuit, "mine")
    assert type_("circuits", "import", str(tmp_path / "nothing.pt"))[0] == 2


def test_measure_and_delete(fake: ScriptedDaemon, type_: Run) -> None:
    assert type_("circuits", "measure", "3f9a", "-n", "8", "--no-edges")[0] == 0
    asked = fake.wait_for(cq.MeasureCircuit)
    assert (asked.n_pairs, asked.edges) == (8, False)
    assert type_("circuits", "delete", "3f9a") == (0, "deleted\n", "")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("prune -t x --k -1", "--k"),
        ("prune -t x --target-loss 0", "--target-loss"),
        ("prune -t x --pairs 1", "--pairs"),
        ("prune -t x --search -3", "--search"),
        ("prune -t x --lr 0", "--lr"),
        ("verify 3f9a --n-seeds 0", "--n-seeds"),
        ("circuits measure 3f9a -n 0", "--pairs"),
        ("circuits list --limit 0", "--limit"),
        ("circuits export 3f9a -o c.xyz", "No format has the ending .xyz"),
    ],
)
def test_a_wrong_value_is_told_with_the_option_it_was_given_to(
    fake: ScriptedDaemon, type_: Run, words: str, says: str
) -> None:
    code, out, err = type_(*words.split())
    assert (code, out) == (2, "")
    assert says in err


def test_a_list_that_a_filter_leaves_empty_does_not_say_that_there_are_no_circuits(
    fake: ScriptedDaemon, type_: Run
) -> None:
    fake.scripts[cq.ListCircuits] = lambda r, f: iter([cr.CircuitList(id="x", circuits=())])
    assert "circuit prune" in type_("circuits", "list")[1]
    assert "circuit prune" not in type_("circuits", "list", "--task", "nobody")[1]


def test_the_help_of_prune_shows_the_settings_of_the_algorithm_by_themselves(type_: Run) -> None:
    _, out, _ = type_("prune", "--help")
    options, settings = out.split("Settings:")
    assert "--target-loss" in options
    assert "--k-coef" not in options
    assert "--k-coef" in settings


def test_samples_are_drawn_on_their_tokens(fake: ScriptedDaemon, type_: Run) -> None:
    code, out, _ = type_("circuits", "samples", "2.mlp.post_act[7]", "--circuit", "3f9a")
    assert code == 0
    assert "2.mlp.post_act[7]  mean 0.25, from -1 to 2" in out
    assert "top 0.1 %\nif⟦ x⟧⁺⁹:↵⁺²" in out
    assert "task, first of each pair\nif⁺²⟦ x⟧⁺⁷" in out
    document = json.loads(type_("circuits", "samples", "a[7]", "--json")[1])
    assert document["task"]["activations"] == [[0.5, 1.5], [-1.0]]
    assert "attention" not in out
    assert document["attention"] is None
    _, out, _ = type_("circuits", "samples", "10.attn.q[657]", "--circuit", "3f9a")
    drawn = out.partition("attention of head 3, from the last token\n")[2]
    assert drawn.startswith("if²⟦ x⟧⁴\n  from ␣x, 25% to the sink")
    document = json.loads(type_("circuits", "samples", "10.attn.q[657]", "--json")[1])
    assert (document["attention"]["head"], document["attention"]["rows"]) == (3, [0, 1])
    assert type_("circuits", "samples", "2.mlp.post_act")[0] == 2
    assert type_("circuits", "samples", "2.mlp.post_act:7", "--json")[0] == 0


def test_attention_is_drawn_on_the_tokens_attended_to(fake: ScriptedDaemon, type_: Run) -> None:
    code, out, _ = type_("circuits", "attention", "3f9a", "--layer", "10", "--heads", "3", "x")
    assert code == 0
    assert "layer 10 head 3" in out
    assert "if⟦ x⟧⁴:↵²" in out, "0.5 and 0.25 of nine levels"
    assert "25% to the sink" in out
    _, out, _ = type_("circuits", "attention", "3f9a", "-l", "0", "x")
    assert "keeps no query, key or value in layer 0 (but in 10)" in out
    assert type_("circuits", "attention", "3f9a", "-l", "10", "--heads", "3", "--at", "9")[0] == 2


# ---------------------------------------------------------------------- sessions, completion


def test_selecting_a_circuit_selects_its_model_task_and_size(
    fake: ScriptedDaemon, type_: Run
) -> None:
    def update(request: requests.UpdateSession, frames: list) -> Iterator[Out]:
        fields = {
            name: value
            for name in SessionPatch.__struct_fields__
            if (value := getattr(request.patch, name)) is not msgspec.UNSET
        }
        yield replies.SessionEvent(id="x", state=SessionState(name="mine", revision=1, **fields))

    fake.scripts[requests.UpdateSession] = update
    code, out, _ = type_("sessions", "update", "mine", "--circuit", "3f9a", "--json")
    assert code == 0
    state = json.loads(out)["state"] if "state" in json.loads(out) else json.loads(out)
    assert (state["circuit"], state["k"]) == (QUOTE.summary.id, 12)
    assert (state["model"], state["task"]) == ("csd-py-sparse", "single_double_quote")
    _, out, _ = type_("sessions", "update", "mine", "--circuit", "3f9a", "--task", "mine", "--json")
    assert '"task":"mine"' in out, "what is given stands"
    state = replies.SessionEvent(id="x", state=SessionState(name="mine"), final=False)
    fake.scripts[requests.AttachSession] = lambda r, f: iter([state])
    code, _, _ = type_("sessions", "update", "mine", "--create", "--circuit", "3f9a")
    assert code == 0
    assert fake.wait_for(requests.AttachSession).create


def test_circuits_are_completed_by_id_and_by_place(fake: ScriptedDaemon) -> None:
    context, argument = click.Context(circuit), click.Argument(["circuit"])
    by_id = CircuitName().shell_complete(context, argument, f"{1:016x}"[:16])
    assert [i.value for i in by_id] == [f"{1:016x}"]
    by_place = CircuitName().shell_complete(context, argument, "bracket_counting/learned-mean-0/1")
    assert [i.value for i in by_place] == ["bracket_counting/learned-mean-0/16"]
