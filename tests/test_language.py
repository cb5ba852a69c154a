"""Docstrings and comments of the product keep to the language of docs/style.md, as far as a pattern can tell."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCES = Path(__file__).parent.parent / "src"
FILES = sorted(SOURCES.rglob("*.py"))

ANYWHERE = {
    "a clause without a noun": re.compile(r"\b(whoever|whomever|whosever|for whom)\b", re.IGNORECASE),
    "a promise that no network can keep; say once in effect, or what arrives": re.compile(
        r"\bexactly once\b(?! in effect)", re.IGNORECASE
    ),
    "a value without its rule": re.compile(r"can't be what it is"),
}
FIRST_SENTENCE = {
    "a noun phrase without a noun": re.compile(r"(What|Who|Whom|Those|One that|It)\b"),
    "a vague verb: write Return": re.compile(r"(Give(?! up\b| out\b)|Tell (if|whether|what|how|which|why)|Say)\b"),
    "a vague verb: write Note": re.compile(r"Take note\b"),
}


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield each docstring with the line that it starts in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text is not None:
                yield node.body[0].lineno, text


def comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield each comment with its line."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def constants(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the text below each constant with its line."""
    for node in tree.body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def faults(path: Path) -> list[str]:
    """Return where a file's words break the rules, and which."""
    source = path.read_text()
    tree = ast.parse(source)
    documented = list(docstrings(tree))
    found = [
        f"{path.relative_to(SOURCES)}:{line}: {rule}: {text.strip().splitlines()[0]}"
        for line, text in (*documented, *constants(tree), *comments(source))
        for rule, pattern in ANYWHERE.items()
        if pattern.search(" ".join(text.split()))
    ]
    found += [
        f"{path.relative_to(SOURCES)}:{line}: {rule}: {text.splitlines()[0]}"
        for line, text in documented
        for rule, pattern in FIRST_SENTENCE.items()
        if pattern.match(text)
    ]
    return sorted(set(found))


def test_words_of_the_product_follow_the_style_page() -> None:
    assert [fault for path in FILES for fault in faults(path)] == []


@pytest.mark.parametrize(
    "source",
    [
        '"""What it was told."""',
        'def f() -> None:\n    """Wake whoever waits."""',
        'class A:\n    """Those that wait."""',
        'X = 1\n"""Handled exactly once."""',
        "x = 1  # for whom this is",
        'def f() -> int:\n    """Tell how many wait."""',
    ],
)
def test_each_pattern_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.setattr("tests.test_language.SOURCES", tmp_path)
    path = tmp_path / "a.py"
    path.write_text(source)
    assert len(faults(path)) == 1


def test_what_is_said_in_effect_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.test_language.SOURCES", tmp_path)
    path = tmp_path / "a.py"
    path.write_text('"""At least once; exactly once in effect with the client of Waypost."""')
    assert faults(path) == []
