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


ARCHITECTURE = ROOT / "docs" / "architecture.md"
_BARE_FILE = re.compile(r"`([\w-]+\.py)`")
_PATH = re.compile(r"`([\w/.-]+(?:\.py|/))`")


def rows() -> dict[str, list[str]]:
    """Return what the table "Where to change what" names for each change: files, and folders."""
    table = ARCHITECTURE.read_text().partition("## Where to change what")[2]
    cells = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| ")]
    return {cell[0].strip(): _PATH.findall(cell[1]) for cell in cells[1:]}


def test_the_architecture_names_no_file_that_is_gone() -> None:
    names = set(_BARE_FILE.findall(ARCHITECTURE.read_text()))
    known = {path.name for folder in ("src", "tests") for path in (ROOT / folder).rglob("*.py")}
    assert "hub.py" in known
    assert sorted(names - known) == []


def test_each_change_has_a_place() -> None:
    missing = {
        change: paths
        for change, paths in rows().items()
        if not paths or not all(any((base / path).exists() for base in BASES) for path in paths)
    }
    assert missing == {}


@pytest.mark.parametrize(
    "change", ["heartbeat rule", "queue order", "another store", "reason for a refusal to recover"]
)
def test_a_usual_change_has_a_place_of_its_own(change: str) -> None:
    [paths] = [paths for name, paths in rows().items() if change in name]
    assert any(path.endswith(".py") for path in paths)
