"""The fixtures as a user's project has them, in a pytest of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.require import require_module

CONFTEST = """
import pytest
import waypost

@pytest.fixture
def waypost_application():
    io = waypost.Server()

    @io.event
    async def greet(socket, name):
        return f"hello {name}"

    @io.event
    async def auth(socket):
        return socket.handshake.auth

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


PLAIN = """
import pytest
import waypost

def test_a_client(waypost_client):
    assert isinstance(waypost_client, waypost.sync.Client)
    assert waypost_client.call("greet", "Ada") == "hello Ada"

@pytest.mark.parametrize("waypost_auth", [{"token": "a"}, lambda: {"token": "a"}])
def test_auth(waypost_client):
    assert waypost_client.call("auth") == {"token": "a"}

def test_an_asynchronous_site(waypost_site): pass
"""
ANYIO = """
import pytest
import waypost

pytestmark = pytest.mark.anyio

@pytest.fixture
def waypost_auth():
    return {"token": "a"}

async def test_a_client(waypost_client):
    assert isinstance(waypost_client, waypost.Client)
    assert await waypost_client.call("auth") == {"token": "a"}

async def test_on_a_port(waypost_site):
    assert await (await waypost_site.connect()).call("greet", "Ada") == "hello Ada"

def test_plain(waypost_client):
    assert waypost_client.call("greet", "Ada") == "hello Ada"
"""
MISSING = "import sys; sys.modules['pytest_asyncio'] = None"


def run(folder: Path, tests: str, *options: str, conftest: str = "") -> str:
    """Run a project's tests in a pytest of its own; returns what it prints."""
    (folder / "conftest.py").write_text(f'{conftest}\npytest_plugins = ["waypost.testing.fixtures"]\n{CONFTEST}')
    (folder / "test_greeting.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=.", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_plain_tests_need_no_plugin(tmp_path: Path) -> None:
    told = run(tmp_path, PLAIN, "-p", "no:asyncio", conftest=MISSING)
    assert "3 passed, 1 error" in told, told
    assert "expected an async def test; a plain one takes waypost_client or waypost_thread" in told


@pytest.mark.long
def test_an_asynchronous_test_without_a_plugin_says_so(tmp_path: Path) -> None:
    told = run(tmp_path, TESTS.replace("@pytest.mark.asyncio", ""), "-p", "no:asyncio", conftest=MISSING)
    assert "expected pytest-asyncio, or anyio's plugin" in told, told
    assert "1 passed" in told


@pytest.mark.long
@pytest.mark.parametrize("has_both", [False, True])
def test_anyio_runs_them_on_asyncio_and_trio_is_refused(tmp_path: Path, has_both: bool) -> None:
    require_module("trio")
    others = ["-o", "asyncio_default_fixture_loop_scope=function"] if has_both else ["-p", "no:asyncio"]
    told = run(tmp_path, ANYIO, *others, conftest="" if has_both else MISSING)
    # anyio runs each asynchronous test on asyncio and on trio.
    assert "3 passed, 2 errors" in told, told
    assert "anyio_backend='trio': expected 'asyncio', on which servers and clients run" in told


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
