"""The natural corpus: which Python files are read, which are kept, which are held out.

The files are those of the running interpreter's standard library and of a pinned list of
permissively licensed packages, read inside their wheels. Nothing of it is ever committed.
A file is dropped when it is too large, looks like data rather than code, or repeats another.
Whether a file is held out is decided by a hash of its path, so that adding a package moves
no file from one side to the other.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_FILE_NBYTES = 200_000
MIN_FILE_NBYTES = 200
MAX_MEAN_LINE_CHARS = 80.0
MAX_DIGIT_SHARE = 0.10
MAX_NON_ASCII_SHARE = 0.02
HELD_OUT_PER_MILLE = 5


@dataclass(frozen=True)
class Package:
    """A pinned distribution and the licence its own metadata declare."""

    name: str
    version: str
    licence: str


@dataclass(frozen=True)
class Document:
    """One kept file: `path` starts with the package's name, `text` has Unix line ends."""

    package: str
    path: str
    text: str
    held_out: bool


#: Read from the metadata of the wheels: MIT, BSD, Apache-2.0 or PSF, and no other.
PACKAGES: tuple[Package, ...] = (
    Package("aiohttp", "3.14.5", "Apache-2.0 AND MIT"),
    Package("astropy", "8.0.2", "BSD-3-Clause"),
    Package("bokeh", "3.9.2", "BSD-3-Clause"),
    Package("celery", "5.7.0", "BSD-3-Clause"),
    Package("dask", "2026.8.0", "BSD-3-Clause"),
    Package("distributed", "2026.8.0", "BSD-3-Clause"),
    Package("django", "5.2.19", "BSD-3-Clause"),
    Package("flask", "3.1.3", "BSD-3-Clause"),
    Package("ipython", "9.18.1", "BSD-3-Clause"),
    Package("jax", "0.10.2", "Apache-2.0"),
    Package("keras", "3.15.1", "Apache-2.0"),
    Package("matplotlib", "3.11.2", "PSF-based (matplotlib)"),
    Package("moto", "5.2.5", "Apache-2.0"),
    Package("mypy", "2.4.1", "MIT"),
    Package("networkx", "3.6.1", "BSD-3-Clause"),
    Package("nltk", "3.10.4", "Apache-2.0"),
    Package("numpy", "2.4.6", "BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0"),
    Package("pandas", "3.1.1", "BSD-3-Clause"),
    Package("pip", "26.3", "MIT"),
    Package("scikit-image", "0.26.0", "BSD-3-Clause"),
    Package("scikit-learn", "1.9.1", "BSD-3-Clause"),
    Package("scipy", "1.17.1", "BSD-3-Clause"),
    Package("sphinx", "9.0.4", "BSD-2-Clause"),
    Package("sqlalchemy", "2.1.9", "MIT"),
    Package("statsmodels", "0.15.0", "BSD-3-Clause"),
    Package("sympy", "1.14.0", "BSD-3-Clause"),
    Package("tornado", "6.6.1", "Apache-2.0"),
    Package("trio", "0.35.0", "MIT OR Apache-2.0"),
    Package("twisted", "26.10.0", "MIT"),
    Package("werkzeug", "3.1.9", "BSD-3-Clause"),
    Package("xarray", "2026.9.0", "Apache-2.0"),
)


def fetch(wheels: Path) -> None:
    """Download the pinned wheels that are not yet in `wheels`, without their dependencies.

    Raises `subprocess.CalledProcessError` when pip cannot supply one of them.
    """
    wheels.mkdir(parents=True, exist_ok=True)
    missing = [f"{p.name}=={p.version}" for p in PACKAGES if not _wheels_of(p, wheels)]
    if missing:
        options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(wheels)]
        subprocess.run([sys.executable, "-m", "pip", "download", *options, *missing], check=True)


def documents(wheels: Path) -> Iterator[Document]:
    """Every kept document, in a fixed order: standard library first, then the packages."""
    seen: set[bytes] = set()
    for package, path, content in _files(wheels):
        text = _decode(content)
        if text is None or not looks_like_code(text):
            continue
        digest = hashlib.sha256(text.encode()).digest()
        if digest not in seen:
            seen.add(digest)
            yield Document(package, path, text, is_held_out(path))


def is_held_out(path: str) -> bool:
    """Whether the file of this path is kept for validation (about 0.5 % of all files)."""
    return int.from_bytes(hashlib.sha256(path.encode()).digest()[:4], "big") % 1000 < (
        HELD_OUT_PER_MILLE
    )


def looks_like_code(text: str) -> bool:
    """Whether `text` is code to learn from rather than a table, a bundle or another script."""
    n_chars = len(text)
    if n_chars < MIN_FILE_NBYTES:
        return False
    mean_line = n_chars / (text.count("\n") + 1)
    digits = sum(text.count(d) for d in "0123456789") / n_chars
    non_ascii = (len(text.encode()) - n_chars) / n_chars
    return (
        mean_line <= MAX_MEAN_LINE_CHARS
        and digits <= MAX_DIGIT_SHARE
        and non_ascii <= MAX_NON_ASCII_SHARE
        and max(map(len, text.split("\n"))) <= 1000
    )


def wheel_of(package: Package, wheels: Path) -> Path:
    """The package's wheel in `wheels`. Raises `FileNotFoundError` where there is none."""
    found = _wheels_of(package, wheels)
    if not found:
        raise FileNotFoundError(f"no wheel of {package.name} {package.version} in {wheels}")
    return found[0]


def _files(wheels: Path) -> Iterator[tuple[str, str, bytes]]:
    stdlib = Path(sysconfig.get_path("stdlib"))
    for file in sorted(stdlib.rglob("*.py")):
        relative = file.relative_to(stdlib)
        if "site-packages" in relative.parts or "lib2to3" in relative.parts:
            continue
        if MIN_FILE_NBYTES <= file.stat().st_size <= MAX_FILE_NBYTES:
            yield "python", f"python/{relative.as_posix()}", file.read_bytes()
    for package in PACKAGES:
        with zipfile.ZipFile(wheel_of(package, wheels)) as wheel:
            for entry in sorted(wheel.infolist(), key=lambda entry: entry.filename):
                # Vendored copies carry licences of their own.
                if "_vendor" in entry.filename or "/extern/" in entry.filename:
                    continue
                if entry.filename.endswith(".py") and entry.file_size <= MAX_FILE_NBYTES:
                    yield package.name, f"{package.name}/{entry.filename}", wheel.read(entry)


def _wheels_of(package: Package, wheels: Path) -> list[Path]:
    stem = f"{package.name.replace('-', '_')}-{package.version}-"
    return sorted(p for p in wheels.glob("*.whl") if p.name.lower().startswith(stem.lower()))


def _decode(content: bytes) -> str | None:
    try:
        return content.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError:
        return None
