"""Each test that `docs/security.md` names exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_fault_is_held_by_a_test_that_exists() -> None:
    rows = [line for line in (ROOT / "docs" / "security.md").read_text().splitlines() if line.startswith("| ")]
    named = [(row, re.findall(r"`(test_\w+)`", row)) for row in rows if not row.startswith(("| fault", "| what"))]
    defined = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert len(named) > 30
    assert [row for row, tests in named if not tests] == []
    assert {test for _, tests in named for test in tests} - defined == set()
