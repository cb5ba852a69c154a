"""Every block of Python in docs/ runs, and does what its document says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.snippets import DATABASE, Snippet, find, run

DOCS = Path(__file__).parent.parent.parent / "docs"
SNIPPETS = [snippet for document in sorted(DOCS.glob("**/*.md")) for snippet in find(document)]


@pytest.mark.parametrize("snippet", SNIPPETS, ids=str)
async def test_snippet(
    snippet: Snippet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)  # stores that a block opens end there
    names_database = any(DATABASE in source for source in snippet.sources)
    await run(snippet, request.getfixturevalue("postgres_url") if names_database else "")


async def test_a_wrong_check_fails(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n\n```python\n@io.event\nasync def add(socket, a, b):\n    return a + b\n```\n\n"
        "<!-- check\nclient = await connect()\nassert await client.call('add', 1, 2) == 4\n-->\n"
    )
    (snippet,) = find(page)
    with pytest.raises(AssertionError) as caught:
        await run(snippet)
    assert caught.traceback[-1].lineno == 10  # counted from 0: the line of the assert in the page


async def test_blocks_that_are_continued_or_foreign(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nstart = 3\n```\n```python continued\nend = start + 1\n```\n<!-- check\nassert end == 4\n-->\n"
        "```python foreign\nimport no_such_library\n```\n"
    )
    first, second, third = find(page)
    assert second.before == first
    for snippet in (first, second, third):
        await run(snippet)
