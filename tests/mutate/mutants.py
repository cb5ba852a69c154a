"""All mutants that cosmic-ray can make of the source, and the draw of some of them by a seed."""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cosmic_ray.ast  # type: ignore[import-untyped]
import cosmic_ray.mutating  # type: ignore[import-untyped]
import cosmic_ray.plugins  # type: ignore[import-untyped]

__all__ = ["Mutant", "draw", "mutants_of", "mutated"]

# What these change nobody can see: equal numbers, texts and members of an enum are mostly the same object, and
# objects that are compared by identity have no equality of their own.
_POINTLESS = {
    "core/ReplaceComparisonOperator_Eq_Is",
    "core/ReplaceComparisonOperator_NotEq_IsNot",
    "core/ReplaceComparisonOperator_Is_Eq",
    "core/ReplaceComparisonOperator_IsNot_NotEq",
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """A mistake that can be made.

    Attributes:
        path: The file, from the root of the tree.
        line: The line of the mistake, from 1.
        operator: cosmic-ray's name for what is changed.
        occurrence: Which of the operator's places in the file it is, from 0.
        place: What it is in: the same as long as this line and those equal to it stay as they are.
        in_function: Whether it is in a function; what an import executes holds for all tests of the file.
    """

    path: str
    line: int
    operator: str
    occurrence: int
    place: str
    in_function: bool

    @property
    def name(self) -> str:
        """Its name in reports."""
        return f"{self.path}:{self.line} {self.operator.partition('/')[2]} {self.occurrence}"


def mutants_of(root: Path, path: str, lines: Set[int]) -> Iterator[Mutant]:
    """Give all mutants of a file whose first line is one of these, in no particular order.

    What is only written for type checkers is left out: it is never evaluated.
    """
    source = (root / path).read_text()
    tree = cosmic_ray.ast.get_ast(source)
    nodes = list(cosmic_ray.ast.ast_nodes(tree))
    typed, inside = _annotations(source), _lines_in_functions(source)
    names = _places(source, path)
    for operator_name, operator in _operators():
        occurrence = 0
        for node in nodes:
            for (line, column), _end in operator.mutation_positions(node):
                if line in lines and not any(first <= (line, column) < last for first, last in typed):
                    place = f"{names[line]}:{column}"
                    yield Mutant(path, line, operator_name, occurrence, place, line in inside)
                occurrence += 1


def mutated(source: str, mutant: Mutant) -> str:
    """Return the source of a file with the mistake."""
    operator = cosmic_ray.plugins.get_operator(mutant.operator)()
    changed: str | None = cosmic_ray.mutating.mutate_code(source, operator, mutant.occurrence)
    assert changed is not None, f"there is no {mutant.name}"
    return changed


def draw(mutants: Iterator[Mutant], seed: int, count: int) -> list[Mutant]:
    """Draw some mutants, of different places: the place first, since some places have a dozen and others one.

    A place keeps its lot when the source around it changes: most of what a seed draws stays the same.
    """
    by_place: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        by_place.setdefault(mutant.place, []).append(mutant)
    places = sorted(by_place, key=lambda place: _lot(seed, place))[:count]
    return [min(by_place[place], key=lambda mutant: _lot(seed, place + mutant.operator)) for place in places]


def _lot(seed: int, text: str) -> str:
    return hashlib.sha256(f"{seed}/{text}".encode()).hexdigest()


def _operators() -> Iterator[tuple[str, Any]]:
    for name in cosmic_ray.plugins.operator_names():
        operator = cosmic_ray.plugins.get_operator(name)
        if name not in _POINTLESS and not operator.arguments():
            yield name, operator()


def _places(source: str, path: str) -> Mapping[int, str]:
    """Name each line by its text and by how many like it stand above."""
    seen: Counter[str] = Counter()
    names = {}
    for number, line in enumerate(source.splitlines(), 1):
        names[number] = f"{path}:{line}:{seen[line]}"
        seen[line] += 1
    return names


def _lines_in_functions(source: str) -> set[int]:
    return {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for line in range(node.body[0].lineno, (node.end_lineno or node.lineno) + 1)
    }


def _annotations(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    spans = []
    for node in ast.walk(ast.parse(source)):
        written = None
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            written = node.returns
        elif isinstance(node, ast.arg | ast.AnnAssign):
            written = node.annotation
        if written is not None:
            end = (written.end_lineno or written.lineno, written.end_col_offset or written.col_offset)
            spans.append(((written.lineno, written.col_offset), end))
    return spans
