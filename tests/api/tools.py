"""What static tools see of the public classes: mypy, pyright and jedi."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import jedi  # type: ignore[import-untyped]  # it has no types

from tests.support.require import JS_DIR, require_node

ROOT = Path(__file__).resolve().parents[2]
PYRIGHT = JS_DIR / "node_modules" / "pyright" / "index.js"

_REVEALED = re.compile(r'(?:Revealed type is |Type of ".*" is )"(.*)"', re.DOTALL)
_IMPORTS = "import waypost\nimport waypost.sync\nimport waypost.testing\n\n"


class Program:
    """A program that asks for the type of each member of classes.

    Args:
        members: The members' names, by the class's full name.
    """

    def __init__(self, members: Mapping[str, Iterable[str]]) -> None:
        self.asked: dict[int, str] = {}
        lines = _IMPORTS.splitlines()
        for owner, names in sorted((owner, sorted(names)) for owner, names in members.items()):
            if not names:
                # An ASGI application is only called.
                continue
            lines.append(f"def look_{re.sub('[^a-zA-Z]', '_', owner)}(it: {owner}) -> None:")
            for name in names:
                lines.append(f"    reveal_type(it.{name})")
                self.asked[len(lines)] = f"{owner}.{name}"
            lines.append("")
        self.text = "\n".join(lines)


def types_by_mypy(program: Program, folder: Path) -> dict[str, str]:
    """Return the types that mypy finds, by the member's full name; a member that it does not see is left out."""
    path = folder / "look.py"
    path.write_text(program.text)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--output=json", str(path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not done.stderr, done.stderr
    found = {}
    for line in done.stdout.splitlines():
        message = json.loads(line)
        revealed = _REVEALED.match(message["message"])
        if Path(message["file"]).name == path.name and revealed is not None:
            found[program.asked[message["line"]]] = revealed[1]
    return found


def types_by_pyright(program: Program, folder: Path) -> dict[str, str]:
    """Return the types that pyright finds, by the member's full name; a member that it does not see is left out."""
    path = folder / "look.py"
    path.write_text(program.text)
    done = subprocess.run(
        [require_node(), str(PYRIGHT), "--outputjson", "--pythonpath", sys.executable, str(path)],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    found = {}
    for message in json.loads(done.stdout)["generalDiagnostics"]:
        revealed = _REVEALED.match(message["message"])
        if message["severity"] == "information" and revealed is not None:
            found[program.asked[message["range"]["start"]["line"] + 1]] = revealed[1]
    return found


def names_by_jedi(owner: str) -> set[str]:
    """Return the names that jedi offers after a dot behind an object of a class."""
    script = jedi.Script(f"{_IMPORTS}def look(it: {owner}) -> None:\n    it.", project=jedi.Project(ROOT))
    return {completion.name for completion in script.complete() if not completion.name.startswith("_")}


def names_in_module_by_jedi(module: str) -> set[str]:
    """Return the names that jedi offers after a dot behind a module."""
    script = jedi.Script(f"import {module}\n{module}.", project=jedi.Project(ROOT))
    return {completion.name for completion in script.complete() if not completion.name.startswith("_")}


def has_docstring_in_jedi(owner: str, name: str) -> bool:
    """Tell whether jedi finds a docstring for a method."""
    script = jedi.Script(f"{_IMPORTS}{owner}.{name}", project=jedi.Project(ROOT))
    return any(found.docstring(raw=True) for found in script.help(column=len(f"{owner}.{name}")))
