"""What the code must not even mention."""

from __future__ import annotations

import re

from tests.support.server_process import REPOSITORY


def test_cve_2025_61765_nothing_is_unpickled() -> None:
    sources = (REPOSITORY / "src").rglob("*.py")
    unsafe = re.compile(r"^\s*(?:import|from) (?:pickle|marshal|shelve)\b", re.MULTILINE)
    assert [str(path) for path in sources if unsafe.search(path.read_text())] == []
