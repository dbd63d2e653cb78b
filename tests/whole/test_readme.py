"""The README's Python runs as it stands, against a real daemon with the shipped model."""

import re
from pathlib import Path

import pytest

from whole.running import RunningDaemon

README = Path(__file__).parents[2] / "README.md"


def test_the_python_of_the_readme_runs(
    daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    code = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert code is not None
    monkeypatch.setenv("CIRCUIT_ENDPOINT", daemon.address("ipc").endpoint)
    exec(compile(code[1], str(README), "exec"), {"__name__": "readme"})
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 3
    loss, deltas = float(printed[0].split()[0]), float(printed[2].split()[1])
    assert 0 < loss < 12
    assert deltas > 0


def test_every_file_the_readme_links_to_exists():
    links = re.findall(r"\]\(([^)#:]+)\)", README.read_text())
    missing = [link for link in links if not (README.parent / link).exists()]
    assert links
    assert not missing
