"""The tables of features name tests that exist, for every feature; the table of clients is what their tests do."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.clients.table import HEAD, table

TESTS = Path(__file__).parent.parent
PAGE = TESTS.parent / "docs" / "compatibility.md"

_NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")
_HEAD = "| feature | Node | python-socketio | Waypost | test |"
_WITHOUT_A_TEST = ("not yet", "left out")


def tables(head: str) -> list[list[str]]:
    """Return the rows of each table with this head, without the head and the line below it."""
    lines = [*PAGE.read_text().splitlines(), ""]
    starts = [number + 2 for number, line in enumerate(lines) if line == head]
    return [lines[start : next(at for at in range(start, len(lines)) if not lines[at])] for start in starts]


def rows() -> list[list[str]]:
    """Return the cells of every feature."""
    cells = [line.strip("|").split(" | ") for table in tables(_HEAD) for line in table]
    return [[cell.strip() for cell in row] for row in cells]


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


def test_the_table_of_clients_is_what_their_tests_do() -> None:
    assert tables(HEAD) == [table()], "\n".join(table())
    for line in table():
        for file, function in _NAMED.findall(line):
            assert function in functions(TESTS / file)
