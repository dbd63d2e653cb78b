"""Peers: TransformerLens, nnsight and plain PyTorch beside circuitd, on one GPT-2 of one size.

Each peer runs in a process of its own, of the environment .venv-peers, with as many threads as
circuitd; they take turns. Before anything is timed, each must compute circuitd's logits, recorded
activations and edited logits.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.bench import Bench
from benchmarks.conditions import ROOT, n_cores
from benchmarks.memory import MIB, memory_of
from benchmarks.networks import WEIGHTS_FILE, prompt
from benchmarks.report import Table
from benchmarks.timing import Subject, Timing, local, take_turns
from circuit_client import iv
from circuitd.engine.config import GPTConfig
from circuitd.engine.gpt import forward
from circuitd.engine.interventions import Zero
from circuitd.engine.plan import Plan, Record
from circuitd.engine.sites import sites

PYTHON = ROOT / ".venv-peers" / "bin" / "python"
FRAMEWORKS = ("pytorch", "transformer_lens", "nnsight")
SUBJECTS = ("bare", "one_site", "one_edit", "all_sites")
N_POSITIONS = 128
#: Different orders of summation of the same float32 network.
TOLERANCE = 2e-4


@dataclass(eq=False)
class PeerProcess:
    """A running peer: what it said when it was ready, and its line."""

    framework: str
    ready: dict[str, Any]
    _process: subprocess.Popen[str]

    @property
    def label(self) -> str:
        """The framework with its version."""
        return f"{self.framework.replace('_', ' ')} {self.ready['version'].partition('+')[0]}"

    def ask(self, **request: Any) -> dict[str, Any]:
        """One request, one answer. Raises RuntimeError if the peer has ended."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return _answer(self._process, self.framework)

    def subject(self, name: str) -> Subject:
        """One of its subjects, timed in its own process."""
        return lambda calls: self.ask(subject=name, calls=calls)["seconds"]


@contextmanager
def peer_process(framework: str, weights: Path, shape: Path) -> Iterator[PeerProcess]:
    """Start a peer and wait until it has loaded the network; ends with the block."""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONWARNINGS": "ignore",
    }
    script = Path(__file__).with_name("peer_process.py")
    process = subprocess.Popen(
        [str(PYTHON), str(script), framework, str(weights), str(shape)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    try:
        yield PeerProcess(framework, _answer(process, framework), process)
    finally:
        process.communicate()  # its standard input ends, and so does it


def _answer(process: subprocess.Popen[str], framework: str) -> dict[str, Any]:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):  # a library may print what it likes
            return json.loads(line)
    raise RuntimeError(f"{framework} ended with status {process.wait()}; see standard error")


def measure(bench: Bench) -> list[Table]:
    """One row per framework."""
    if not PYTHON.exists():
        raise FileNotFoundError(f"{PYTHON.parent.parent.name}: `make bench` sets it up")
    network = bench.dense
    tokens = prompt(network.config, 1, N_POSITIONS)
    table = Table(
        "peers",
        f"Peers on a GPT-2 of the shipped model's size, {N_POSITIONS} tokens",
        (
            *("bare_ms", "one_site_ms", "one_site_times", "one_edit_ms", "one_edit_times"),
            *("all_sites_ms", "all_sites_times", "recorded", "recorded_mib", "rss_mib", "pss_mib"),
        ),
        notes=[
            "x: times the framework's own bare forward pass, in the same round.",
            "All frameworks were checked to compute the same numbers from the same weights.",
            "`recorded` is how many tensors the framework keeps when told to keep all.",
        ],
    )
    with ExitStack() as stack:
        shape = bench.scratch / "peer-shape.json"
        shape.write_text(json.dumps(shape_of(network.config, tokens)))
        weights = network.directory / WEIGHTS_FILE
        peers = [stack.enter_context(peer_process(f, weights, shape)) for f in FRAMEWORKS]
        ours = _Ours(bench, tokens)
        for peer in peers:
            _check_same(peer, ours, bench.scratch / f"{peer.framework}.npz")
        subjects: dict[str, Subject] = {}
        for name in SUBJECTS:
            subjects[f"circuitd engine {name}"] = local(getattr(ours, name))
            subjects[f"circuitd daemon {name}"] = local(getattr(ours, f"daemon_{name}"))
            subjects |= {f"{p.framework} {name}": p.subject(name) for p in peers}
        timings = take_turns(subjects, rounds=bench.rounds(12), burst=bench.burst(5))
        for peer in peers:
            memory = memory_of(peer.ready["pid"])
            table.add(
                peer.label,
                **_timed(timings, peer.framework),
                recorded=peer.ready["n_recorded"],
                recorded_mib=peer.ready["recorded_nbytes"] / MIB,
                rss_mib=memory.rss_mib,
                pss_mib=memory.pss_mib,
            )
        recorded = ours.all_sites()
        memory = memory_of(os.getpid())
        table.add(
            "circuitd engine",
            **_timed(timings, "circuitd engine"),
            recorded=len(recorded),
            recorded_mib=sum(value.nbytes for value in recorded) / MIB,
            rss_mib=memory.rss_mib,
            pss_mib=memory.pss_mib,
        )
        daemon = [memory_of(pid) for pid in bench.daemon.pids]
        table.add(
            "circuitd daemon, ipc",
            **_timed(timings, "circuitd daemon"),
            recorded=len(recorded),
            recorded_mib=sum(value.nbytes for value in recorded) / MIB,
            rss_mib=sum(memory.rss_mib for memory in daemon),
            pss_mib=sum(memory.pss_mib for memory in daemon),
        )
    return [table]


def _timed(timings: dict[str, Timing], who: str) -> dict[str, Any]:
    bare = timings[f"{who} bare"]
    cells: dict[str, Any] = {"bare_ms": bare.call_ms}
    for name in SUBJECTS[1:]:
        timing = timings[f"{who} {name}"]
        cells[f"{name}_ms"] = timing.p50_ms
        cells[f"{name}_times"] = timing.times(bare)
    return cells


def shape_of(config: GPTConfig, tokens: np.ndarray) -> dict[str, Any]:
    """What a peer is told: dimensions, the tokens of its passes, how many threads it may use."""
    names = ("block_size", "vocab_size", "n_layer", "n_head", "d_model", "d_mlp")
    return {
        **{name: getattr(config, name) for name in names},
        "tokens": tokens.tolist(),
        "threads": n_cores(),
    }


class _Ours:
    """The peers' subjects on circuitd's engine, in this process and in the daemon."""

    def __init__(self, bench: Bench, tokens: np.ndarray) -> None:
        network = bench.dense
        self._weights = network.chosen
        self._client = bench.daemon.client
        self._model = network.name
        self._array = tokens
        self._tokens = torch.from_numpy(tokens).long()
        self._site = f"{network.config.n_layer - 1}.mlp.post_act"
        self._all = tuple(Record(site.name) for site in sites(network.config))

    def bare(self) -> torch.Tensor:
        return self._run(Plan()).logits

    def one_site(self) -> torch.Tensor:
        return self._run(Plan(record=(Record(self._site),))).records[self._site]

    def one_edit(self) -> torch.Tensor:
        return self._run(Plan(interventions=(Zero(self._site, channels=(0,)),))).logits

    def all_sites(self) -> list[torch.Tensor]:
        return list(self._run(Plan(record=self._all)).records.values())

    def daemon_bare(self) -> np.ndarray:
        return self._client.forward(
            self._model, tokens=self._array, use_cache=False, deliver="inline"
        ).logits

    def daemon_one_site(self) -> np.ndarray:
        return self._hook([self._site])[self._site]

    def daemon_one_edit(self) -> np.ndarray:
        return self._client.forward(
            self._model,
            tokens=self._array,
            interventions=[iv.zero(self._site, channels=[0])],
            use_cache=False,
            deliver="inline",
        ).logits

    def daemon_all_sites(self) -> list[np.ndarray]:
        answer = self._hook(["*"])
        return [answer[site] for site in answer.sites]

    def _hook(self, wanted: list[str]) -> Any:
        return self._client.hook(
            self._model, tokens=self._array, sites=wanted, use_cache=False, deliver="inline"
        )

    def _run(self, plan: Plan) -> Any:
        return forward(self._weights, self._tokens, plan)


def _check_same(peer: PeerProcess, ours: _Ours, path: Path) -> None:
    """Raise RuntimeError unless the peer computes circuitd's numbers."""
    peer.ask(save=str(path))
    with np.load(path) as theirs:
        for name in SUBJECTS[:3]:
            mine = getattr(ours, name)().numpy()
            worst = float(np.abs(theirs[name] - mine).max() / np.abs(mine).max())
            if worst > TOLERANCE:
                raise RuntimeError(f"{peer.framework} differs at {name} by {worst:.1e}, relative")
    print(f"  {peer.label} computes the same", file=sys.stderr)
