"""docs/lsp.md and the TypeScript declarations say what the messages are."""

import re
from pathlib import Path

import pytest

from circuit_lsp import reference, typescript
from circuit_lsp.errors import CODES
from circuit_lsp.messages import METHODS
from circuit_protocol.errors import ERRORS_BY_CODE

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / reference.FILE_NAME).read_text("utf-8")


def test_tables_are_those_of_the_code():
    assert reference.fill(PAGE) == PAGE, "run `python -m circuit_lsp.reference`"
    assert reference.main(["--check"]) == 0


def test_declarations_are_those_of_the_code():
    assert typescript.main(["--check"]) == 0, "run `python -m circuit_lsp.typescript`"


def test_page_without_a_marker_is_noticed():
    with pytest.raises(ValueError, match="errors"):
        reference.fill(PAGE.replace("<!-- generated: errors -->", ""))


def test_links_within_the_page_lead_somewhere():
    anchors = [
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    ]
    for link in set(re.findall(r"\]\(#([^)]*)\)", PAGE)):
        assert anchors.count(link) == 1, f"#{link} leads to {anchors.count(link)} places"


def test_every_error_has_a_code_of_its_own():
    assert set(CODES) == set(ERRORS_BY_CODE)
    assert len(set(CODES.values())) == len(CODES)


def test_methods_are_ours_and_answered_only_if_asked():
    for name, method in METHODS.items():
        assert name.startswith("circuit/")
        assert method.sent_by == "client" or method.result is None
