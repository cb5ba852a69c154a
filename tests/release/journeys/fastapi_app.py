"""A FastAPI application with Waypost in it, and its tests: with FastAPI's client, twice in one process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_APPLICATION = """
import waypost
from fastapi import FastAPI

io = waypost.Server(store="memory:")
app = FastAPI(lifespan=io.lifespan)
app.mount("/socket.io", io)


@io.event
async def add(socket, a: int, b: int):
    return a + b


@app.post("/tell")
async def tell(text: str) -> dict[str, str]:
    await io.emit("told", text)
    return {"told": text}
"""

_TESTS = """
import application
import pytest
import waypost
from fastapi.testclient import TestClient


async def test_an_event(waypost_client):
    assert await waypost_client.call("add", 1, 2) == 3


@pytest.mark.parametrize("turn", ["first", "second"])
def test_a_route(turn):
    with TestClient(application.app) as client:
        assert client.post("/tell", params={"text": turn}).json() == {"told": turn}
"""

_CONFTEST = """
import application
import pytest

pytest_plugins = ["waypost.testing.fixtures"]


@pytest.fixture
def waypost_application():
    return application.app
"""


def main() -> None:
    """Write the application and its tests into the current directory, and run the tests."""
    Path("application.py").write_text(_APPLICATION, encoding="utf-8")
    Path("conftest.py").write_text(_CONFTEST, encoding="utf-8")
    Path("test_application.py").write_text(_TESTS, encoding="utf-8")
    Path("pytest.ini").write_text("[pytest]\nasyncio_mode = auto\npythonpath = .\n", encoding="utf-8")
    subprocess.run([sys.executable, "-m", "pytest", "-q"], check=True, timeout=120)


if __name__ == "__main__":
    main()
