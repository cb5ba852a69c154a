"""No circle of imports in ``src/``: also none that only type checkers see."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src"


def modules_of(source: Path) -> dict[str, ast.Module]:
    """Parse all modules below a folder, by their dotted names."""
    found = {}
    for file in sorted(source.rglob("*.py")):
        parts = file.relative_to(source).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(file.read_text())
    return found


def imports_of(tree: ast.Module, known: set[str]) -> Iterator[str]:
    """Give the modules, of those known, that a module imports anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if name in known:
                    yield name
                elif node.module in known:
                    yield str(node.module)


def circles(imports: dict[str, set[str]]) -> list[str]:
    """Name the modules that are left when those that import nothing, or only such modules, are taken away."""
    left = {name: set(goals) for name, goals in imports.items()}
    while free := {name for name, goals in left.items() if not goals}:
        left = {name: goals - free for name, goals in left.items() if name not in free}
    # What only leads to a circle is none itself.
    while ends := left.keys() - set().union(*left.values()):
        left = {name: goals for name, goals in left.items() if name not in ends}
    return sorted(f"{name} -> {', '.join(sorted(goals))}" for name, goals in left.items())


def test_no_module_imports_itself_by_way_of_others() -> None:
    modules = modules_of(SOURCE)
    assert len(modules) > 200, "the modules were found"
    imports = {name: set(imports_of(tree, set(modules))) for name, tree in modules.items()}
    assert circles(imports) == []


def test_a_circle_is_noticed_also_where_only_a_type_checker_sees_it() -> None:
    sources = {
        "a": "from b import B",
        "b": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a import A",
        "c": "import a",
        "d": "",
    }
    imports = {name: set(imports_of(ast.parse(text), set(sources))) for name, text in sources.items()}
    assert circles(imports) == ["a -> b", "b -> a"]
