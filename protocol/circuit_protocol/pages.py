"""Generated pages of docs/: written, or compared with what the code says today."""

import sys
from pathlib import Path
from typing import Final

USAGE: Final = "usage: python -m {module} [--check]\n"


def docs_dir() -> Path:
    """The docs folder of the source tree this package runs from. Raises FileNotFoundError."""
    path = Path(__file__).resolve().parents[2] / "docs"
    if not path.is_dir():
        raise FileNotFoundError("the pages belong to the source tree, not to an installed package")
    return path


def write_or_check(path: Path, text: str, arguments: list[str], module: str) -> int:
    """Write `text` to `path`, or with `--check` compare; the exit status of the command."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write(USAGE.format(module=module))
        return 2
    if not arguments:
        path.write_text(text, "utf-8")
        return 0
    if path.is_file() and path.read_text("utf-8") == text:
        return 0
    sys.stderr.write(f"{path.name} is out of date: run `python -m {module}`\n")
    return 1
