"""The fixtures as a user's project has them, in a pytest of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CONFTEST = """
import pytest
import waypost

@pytest.fixture
def waypost_application():
    io = waypost.Server()

    @io.event
    async def greet(socket, name):
        return f"hello {name}"

    return io
"""
TESTS = """
import pytest

@pytest.mark.asyncio
async def test_in_memory(waypost_client):
    assert await waypost_client.call("greet", "Ada") == "hello Ada"

@pytest.mark.asyncio
async def test_on_a_port(waypost_site):
    assert await (await waypost_site.connect()).call("greet", "Ada") == "hello Ada"

def test_in_a_thread(waypost_thread):
    assert waypost_thread.connect().call("greet", "Ada") == "hello Ada"
"""


def test_a_project_enables_them_as_a_plugin(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["waypost.testing.fixtures"]')
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "conftest.py").write_text(CONFTEST)
    (tmp_path / "shop" / "test_greeting.py").write_text(TESTS)
    (tmp_path / "test_unsaid.py").write_text("def test_nothing(waypost_application): pass")
    options = ["-q", "-p", "no:cacheprovider", "--rootdir=.", "-o", "asyncio_default_fixture_loop_scope=function"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "3 passed, 1 error" in done.stdout, done.stdout
    assert "expected a fixture of this name in your conftest.py" in done.stdout
