"""A release: the source archive builds, and what it builds runs anywhere with the shipped model."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
MODEL = "csd-py-sparse"
#: What a checkout collects while one works in it.
SCRATCH_DIRECTORIES = {"node_modules", "__pycache__", "dist", "build", "runs"}
SCRATCH_SUFFIXES = {".pyc", ".log", ".tmp", ".sqlite", ".whl", ".gz"}

USE = f"""
import json
from pathlib import Path

import torch

import circuit_client, circuit_protocol, circuitd
from circuitd.engine.gpt import forward
from circuitd.store.checkpoint import load_checkpoint
from circuitd.store.roots import artefact_roots, find_model
from circuitd.worker.tokenizers import Tokenizers

directory = find_model({MODEL!r}, artefact_roots())
model = load_checkpoint(directory)
tokenizer = Tokenizers().find(directory, model.config.tokenizer_name)
logits = forward(model.weights, torch.arange(8)[None]).logits
print(json.dumps({{
    "packages": [m.__file__ for m in (circuit_client, circuit_protocol, circuitd)],
    "directory": str(directory),
    "shape": list(logits.shape),
    "finite": bool(logits.isfinite().all()),
    "vocab_size": model.config.vocab_size,
    "has_tokenizer": tokenizer is not None,
}}))
"""


class Release(NamedTuple):
    """The two archives of a release and the wheel, installed."""

    sdist: Path
    wheel: Path
    site: Path


def run(*command: str | Path, cwd: Path, site: Path | None = None) -> str:
    """Standard output of a run that succeeds; with `site`, of the packages installed there.

    Neither this checkout's settings nor its user's models are seen.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CIRCUIT", "XDG_", "PYTHON"))
    }
    if site is not None:  # torch and the other dependencies come from this environment, after it
        environment |= {"PYTHONPATH": str(site), "HOME": str(cwd)}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """The source archive of this checkout, the wheel built from that archive, and its install."""
    out, unpacked = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("source")
    build = (sys.executable, "-m", "hatchling", "build", "-d", out, "-t")
    run(*build, "sdist", cwd=ROOT)
    (sdist,) = out.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (source,) = unpacked.iterdir()
    run(*build, "wheel", cwd=source)
    (wheel,) = out.glob("*.whl")
    site = tmp_path_factory.mktemp("site")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    install = ("install", "--no-deps", "--no-index", "--no-compile", "--target", site, wheel)
    run(*pip, *install, cwd=site)
    return Release(sdist, wheel, site)


def is_scratch(name: str) -> bool:
    *directories, file = Path(name).parts
    hidden = any(part.startswith(".") and part != ".ci" for part in directories)
    made = not SCRATCH_DIRECTORIES.isdisjoint(directories)
    return hidden or made or Path(file).suffix in SCRATCH_SUFFIXES


def test_the_source_archive_has_everything_and_no_scratch(release: Release):
    with tarfile.open(release.sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    assert all(is_scratch(f"a/{name}") for name in ("node_modules/b", ".venv/b", "b.log", "b.pyc"))
    needed = {"pyproject.toml", "LICENSE", "Makefile", "constraints.txt", ".ci/run"}
    needed |= {f"data/models/{MODEL}/beeg_config.json", "docs/protocol.md", "README.md"}
    needed |= {"tests/whole/test_wheel.py", "training/__main__.py", "benchmarks/__main__.py"}
    assert needed <= set(names)
    assert [name for name in names if is_scratch(name)] == []


def test_the_wheel_has_the_packages_their_data_and_nothing_else(release: Release):
    with zipfile.ZipFile(release.wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {
        "circuit_client", "circuit_lsp", "circuit_protocol", "circuit_tui", "circuitd",
    }  # fmt: skip
    shipped = {name for name in names if name.startswith("circuitd/data/")}
    kept = {
        f"circuitd/data/{path.relative_to(ROOT / 'data').as_posix()}"
        for path in (ROOT / "data").rglob("*")
        if path.is_file() and path.relative_to(ROOT / "data").parts[0] != "protocol"
    }
    assert shipped == kept
    assert release.wheel.stat().st_size < 32 << 20


def test_an_installed_wheel_finds_loads_and_runs_the_default_model(
    release: Release, tmp_path: Path
):
    found = json.loads(run(sys.executable, "-c", USE, cwd=tmp_path, site=release.site))
    site = release.site.resolve()
    assert all(Path(package).resolve().is_relative_to(site) for package in found["packages"])
    assert Path(found["directory"]) == site / "circuitd" / "data" / "models" / MODEL
    assert found["shape"] == [1, 8, found["vocab_size"]]
    assert found["finite"]
    assert found["has_tokenizer"]


@pytest.mark.parametrize("command", ["circuit", "circuitd"])
def test_installed_commands_print_their_help(release: Release, tmp_path: Path, command: str):
    script = release.site / "bin" / command
    assert "Usage:" in run(script, "--help", cwd=tmp_path, site=release.site)
