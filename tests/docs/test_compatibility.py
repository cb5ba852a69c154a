"""The table of features names tests that exist, for every feature."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
PAGE = TESTS.parent / "docs" / "compatibility.md"

_NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")
_HEAD = "| feature | Node | python-socketio | Waypost | test |"
_WITHOUT_A_TEST = ("not yet", "left out")


def rows() -> list[list[str]]:
    """Return the cells of every feature."""
    cells = [line.strip("|").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in cells if row[0].strip() != "feature"]


@cache
def functions(path: Path) -> frozenset[str]:
    """Return the names of a file's functions."""
    tree = ast.parse(path.read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:40])
def test_a_feature_is_proven_by_tests_that_exist(row: list[str]) -> None:
    assert len(row) == 5, row
    assert all(row)
    named = _NAMED.findall(row[4])
    assert named or row[4] in _WITHOUT_A_TEST
    for file, function in named:
        assert (TESTS / file).exists(), file
        assert function in functions(TESTS / file), f"{file} has no {function}"


def test_every_table_is_one_of_features() -> None:
    heads = [line for line in PAGE.read_text().splitlines() if line.startswith("| feature")]
    assert set(heads) == {_HEAD}
    assert len(heads) == 9
    assert len(rows()) > 120
