"""What a type checker says about code that uses the client."""

import json
import subprocess
import sys
from pathlib import Path

SAMPLE = """
from typing import assert_type

import numpy as np
from circuit_client import (
    AblateAnswer, AsyncStream, ForwardAnswer, Generated, Job, Step, Stream,
    connect, connect_async, iv,
)
from circuit_client.answers import MaskLosses
from circuit_protocol.replies import ModelSummary, Progress, StatusReport
from circuit_protocol.session import SessionState


def use() -> None:
    with connect("ipc:///x", timeout_s=1.0) as c:
        assert_type(c.status(), StatusReport)
        assert_type(c.models.list(), tuple[ModelSummary, ...])
        a = c.forward("m", tokens=np.zeros((1, 2), int), targets="next", top_k=3, dtype="bfloat16",
                      interventions=[iv.zero("2.mlp.post_act", channels=[1])])
        assert_type(a, ForwardAnswer)
        assert_type(a.logits, np.ndarray)
        assert_type(a.loss, float)
        assert_type(c.hook(text="x", sites=["*"])["s"], np.ndarray)
        started = c.ablate.start(task="t", every="node")
        assert_type(started, Stream[Progress | MaskLosses, AblateAnswer])
        job = c.ablate.detach(task="t", every="node")
        assert_type(job, Job[Progress | MaskLosses, AblateAnswer])
        for step in c.generate(text="x"):
            assert_type(step, Step)
        assert_type(c.generate(text="x").result(), Generated)
        assert_type(c.sessions.get("s"), SessionState)


async def use_async() -> None:
    async with connect_async() as c:
        assert_type(await c.forward(text="x"), ForwardAnswer)
        assert_type(c.generate(text="x"), AsyncStream[Step, Generated])
        async for step in c.generate(text="x"):
            assert_type(step, Step)


def misuse() -> None:
    with connect() as c:
        c.forward(tokns=[1])  # WRONG
        c.forward(text="x", dtype="float23")  # WRONG
        c.ablate(task="t", every="nodes")  # WRONG
        c.hook(text="x")  # WRONG
        c.forwrd(text="x")  # WRONG
"""


def test_pyright_knows_every_argument_and_result(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    (tmp_path / "sample.py").write_text(SAMPLE)
    config = {
        "include": ["sample.py"],
        "extraPaths": [str(root / part) for part in ("protocol", "clients")],
        "pythonVersion": "3.11",
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "-p", str(tmp_path),
         "--pythonpath", sys.executable],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    report = json.loads(done.stdout)
    wrong = {i for i, line in enumerate(SAMPLE.splitlines()) if line.endswith("# WRONG")}
    found = {d["range"]["start"]["line"] for d in report["generalDiagnostics"]}
    assert found == wrong, report["generalDiagnostics"]
