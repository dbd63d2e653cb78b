"""The real Emacs in batch mode, with eglot and editors/emacs/circuit.el."""

import json
import subprocess
import sys
from pathlib import Path

from editors.conftest import tool
from editors.test_lsp_features import SOURCE

ROOT = Path(__file__).parents[2]


def test_someone_who_uses_only_emacs_gets_heat_hovers_and_circuits(daemon, tmp_path):
    emacs = tool("emacs", "apt-get install emacs-nox elpa-eglot")
    source, out = tmp_path / "a.py", tmp_path / "out.json"
    source.write_text(SOURCE)
    ended = subprocess.run(
        [emacs, "--batch", "-l", Path(__file__).with_name("walk.el"),
         ROOT / "editors" / "emacs", Path(sys.executable).with_name("circuit"), source, out],
        env={**daemon.environment, "HOME": str(tmp_path), "LANG": "C.UTF-8"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert out.exists(), ended.stderr
    results = json.loads(out.read_text())
    assert "problem" not in results, results["problem"] + ended.stderr
    assert results["before"] == 0
    assert results["overlays"] >= 15
    assert (results["text"], results["level"] > 0) == (" f", True)
    assert results["hover"].startswith("␣x  token 431")
    assert results["circuit"].startswith("for_while in csd-py-sparse")
    assert "nodes of the circuit of for_while" in results["explanation"]
    assert results["cleared"] == 0
