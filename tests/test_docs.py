"""The documents name files and sections that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
BASES = (ROOT, ROOT / "src" / "waypost", ROOT / "src", ROOT / "tests", ROOT / "docs")

_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_FILE = re.compile(r"[\w.-]+(?:/[\w.-]+)+(?:\.(?:py|md|sql|js|ts|toml|txt|json))|[\w-]+(?:/[\w.-]+)*/")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    headings = _HEADING.findall(_FENCED.sub("", document.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(document: Path) -> list[str]:
    """Return the links of a document that lead nowhere in this repository."""
    broken = []
    for link in _LINK.findall(_FENCED.sub("", document.read_text())):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        goal = (document.parent / path).resolve() if path else document
        if not goal.exists() or (anchor and goal.suffix == ".md" and anchor not in anchors(goal)):
            broken.append(link)
    return broken


def missing_files(document: Path) -> list[str]:
    """Return the files and folders that a document names in code and that do not exist."""
    names = [name for name in _CODE.findall(_FENCED.sub("", document.read_text())) if _FILE.fullmatch(name)]
    return [name for name in names if not any((base / name).exists() for base in (document.parent, *BASES))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_names_exists(document: Path) -> None:
    assert broken_links(document) == []
    assert missing_files(document) == []
