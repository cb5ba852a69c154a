"""The hunt for survivors, in a tree of its own that is small enough to hunt through."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

import pytest

from tests.mutate import trial
from tests.mutate.mutants import Mutant, draw, mutants_of, mutated
from tests.mutate.record import _FOLDERS, Record, make_record, read_record
from tests.mutate.trees import Tree
from tests.mutate.trial import Fate, try_mutant

_SOURCE = '''"""A module."""

from __future__ import annotations


def is_large(size: int | None, most: int = 5) -> bool:
    return size is not None and size > most


def is_never_asked(size: int) -> bool:
    return size == 3
'''
_TESTS = """from waypost.sizes import is_large

def test_small() -> None:
    assert not is_large(1)

def test_large() -> None:
    assert is_large(9)
"""
_MODULE = "src/waypost/sizes.py"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A tree with a package `waypost` of its own."""
    tree = Tree(tmp_path / "tree")
    here = Path(__file__).parents[1]
    files = {
        _MODULE: _SOURCE,
        "src/waypost/__init__.py": "",
        "tests/__init__.py": "",
        "tests/protocol/test_sizes.py": _TESTS,
        "pyproject.toml": '[tool.pytest.ini_options]\nasyncio_default_fixture_loop_scope = "function"\n',
    }
    for file in (here / "mutate").glob("*.py"):
        files[f"tests/mutate/{file.name}"] = file.read_text()
    for name in _FOLDERS:
        files[f"tests/{name}/__init__.py"] = ""
    for name, text in files.items():
        (tree.root / name).parent.mkdir(parents=True, exist_ok=True)
        (tree.root / name).write_text(text)
    return tree


def _mutants(root: Path, lines: Set[int]) -> list[Mutant]:
    return list(mutants_of(root, _MODULE, lines))


def test_mutants_are_of_lines_that_count_and_not_of_types(tree: Tree) -> None:
    found = _mutants(tree.root, {6, 7})
    assert {(mutant.line, mutant.in_function) for mutant in found} == {(6, False), (7, True)}
    changed = [mutated(_SOURCE, mutant) for mutant in found]
    assert all(text != _SOURCE for text in changed)
    assert any("most: int = 6" in text for text in changed)
    assert any("size >= most" in text for text in changed)
    assert all("size: int | None," in text for text in changed), "annotations are left alone"


def test_a_draw_is_of_places_and_stays_when_other_lines_change(tree: Tree) -> None:
    drawn = draw(iter(_mutants(tree.root, {6, 7})), seed=1, count=3)
    assert len({mutant.place for mutant in drawn}) == 3
    assert draw(iter(_mutants(tree.root, {6, 7})), seed=1, count=3) == drawn
    assert any(draw(iter(_mutants(tree.root, {6, 7})), seed=seed, count=3) != drawn for seed in (2, 3, 4))
    (tree.root / _MODULE).write_text("# One line more.\n" + _SOURCE)
    later = draw(iter(_mutants(tree.root, {7, 8})), seed=1, count=3)
    assert [mutant.place for mutant in later] == [mutant.place for mutant in drawn]


@pytest.mark.long
def test_a_mutant_is_killed_by_a_test_that_executes_its_line(tree: Tree, tmp_path: Path) -> None:
    make_record(tree, tmp_path / "record", 1)
    record = read_record(tmp_path / "record", [_MODULE])
    assert record.lines_of(_MODULE) == {7}
    fates = {}
    for mutant in _mutants(tree.root, {7}):
        if mutant.operator.endswith(("_Gt_GtE", "_Gt_Lt")):
            verdict = try_mutant(mutant, tree, record)
            fates[mutant.operator.rpartition("/")[2]] = verdict.fate
            assert "-    return size is not None and size > most" in verdict.diff
    assert fates == {
        "ReplaceComparisonOperator_Gt_GtE": Fate.SURVIVED,
        "ReplaceComparisonOperator_Gt_Lt": Fate.KILLED,
    }
    assert (tree.root / _MODULE).read_text() == _SOURCE, "nothing is left of a mutant"


def test_a_test_that_fails_without_the_mutant_is_no_killer(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_SUSPICIOUS_S", 0.0)
    flaky = tree.root / "tests" / "protocol" / "test_flaky.py"
    flaky.write_text("def test_fails_once_in_a_while() -> None:\n    assert False\n")
    name = "tests/protocol/test_flaky.py::test_fails_once_in_a_while"
    record = Record({name: 0.1}, {_MODULE: {7: [name]}})
    mutant = next(mutant for mutant in _mutants(tree.root, {7}) if mutant.operator.endswith("_Gt_Lt"))
    assert try_mutant(mutant, tree, record).fate is Fate.SURVIVED


def test_a_tool_that_is_broken_is_no_killer(tree: Tree) -> None:
    (tree.root / "pyproject.toml").write_text("[tool.pytest.ini_options]\naddopts = '--no-such-option'\n")
    name = "tests/protocol/test_sizes.py::test_small"
    mutant = next(mutant for mutant in _mutants(tree.root, {7}) if mutant.operator.endswith("_Gt_Lt"))
    assert try_mutant(mutant, tree, Record({name: 0.1}, {_MODULE: {7: [name]}})).fate is Fate.SURVIVED


def test_the_tests_that_say_most_of_a_file_come_first_and_take_no_longer_than_allowed() -> None:
    lines = {"a": {1: ["close", "far", "slow"], 2: ["close"]}, "b": {n: ["far", "slow"] for n in range(50)}}
    record = Record({"close": 1.0, "far": 1.0, "slow": 30.0}, lines)
    assert [test.name for test in record.tests_of("a", 1, 100.0)] == ["close", "far", "slow"]
    assert [test.name for test in record.tests_of("a", 1, 10.0)] == ["close", "far"]
    assert [test.name for test in record.tests_of("a", 2, 100.0)] == ["close"]
    assert [test.name for test in record.tests_of("a", None, 100.0)] == ["close", "far", "slow"]


def test_each_module_has_its_turn_before_a_second_test_of_any() -> None:
    names = ["a::x[1]", "a::x[2]", "a::y", "b::z"]
    record = Record(dict.fromkeys(names, 1.0), {"f": {1: names}})
    assert [test.name for test in record.tests_of("f", 1, 100.0)] == ["a::x[1]", "b::z", "a::y", "a::x[2]"]
