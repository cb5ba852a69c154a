"""Each program of docs/emitting.md that uses the HTTP API, run twice against two workers, tells once."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import waypost
from tests.operations.places import SECRET
from tests.outside.api_service import with_api
from tests.outside.test_documented import block
from tests.support.require import require_program
from tests.support.waiting import until

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="module")]

DJANGO = """
from django.conf import settings
import django

settings.configure(ROOT_URLCONF="urls", ALLOWED_HOSTS=["*"])
django.setup()
from django.test import Client

for _ in range(2):
    assert Client().post("/ship/NUMBER").status_code == 204
import shipping_views
shipping_views.api.close()
"""
URLS = """
from django.urls import path
from shipping_views import ship

urlpatterns = [path("ship/<int:number>", ship)]
"""
CELERY = """
from celery.contrib.testing.worker import start_worker
from shipping_tasks import api, app, ship

app.conf.update(result_backend="cache+memory://", broker_connection_retry_on_startup=True)
with start_worker(app, perform_ping_check=False, pool="solo"):
    for _ in range(2):
        ship.delay(NUMBER).get(timeout=60)
api.close()
"""


@dataclass
class Service:
    """A service, and a client in each of its workers.

    Attributes:
        api: The URL of its HTTP API.
        clients: The clients, which are in the rooms of all orders.
        got: What each client has got.
    """

    api: str
    clients: list[waypost.Client] = field(default_factory=list)
    got: list[list[Any]] = field(default_factory=list)


NUMBERS = {"django": 1, "celery": 2, "sh": 3, "go": 4, "node": 5}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["file", "postgres"])
async def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """A service of two workers, on an SQLite file or on PostgreSQL."""
    folder = tmp_path_factory.mktemp("service")
    store = str(folder / "store.db")
    if request.param == "postgres":
        postgres = request.getfixturevalue("postgres")
        name = postgres.create_database()
        store = postgres.url(name)
    server = with_api(folder, store)
    await server.start()
    made = Service(f"{server.url}/api")
    try:
        await _enter(server.url, made)
        yield made
    finally:
        for client in made.clients:
            await client.close()
        await server.stop()
        if request.param == "postgres":
            postgres.drop_database(name)


async def _enter(url: str, service: Service) -> None:
    """Connect clients until each of the two workers has one."""
    rooms = [f"order {number}" for number in NUMBERS.values()]
    workers: set[int] = set()
    async with asyncio.timeout(120):
        while len(workers) < 2:
            client, got = waypost.Client(url, auth={"rooms": rooms}), list[Any]()
            client.on_any(lambda event, *args, got=got: got.append((event, *args)))
            await client.connect()
            workers.add(await client.call("where"))
            service.clients.append(client)
            service.got.append(got)


def _prepare(folder: Path, program: str, number: int) -> list[list[str]]:
    """Write a program to a folder; returns the commands that run it twice."""
    if program == "django":
        (folder / "urls.py").write_text(URLS)
        (folder / "shipping_views.py").write_text(block("python", "# shipping_views.py"))
        (folder / "main.py").write_text(DJANGO.replace("NUMBER", str(number)))
        return [[sys.executable, "main.py"]]
    if program == "celery":
        (folder / "shipping_tasks.py").write_text(block("python", "# shipping_tasks.py"))
        (folder / "main.py").write_text(CELERY.replace("NUMBER", str(number)))
        return [[sys.executable, "main.py"]]
    if program == "sh":
        require_program("curl")
        (folder / "ship.sh").write_text(block("sh", "# ship.sh"))
        return [["sh", "ship.sh", str(number)]] * 2
    if program == "go":
        go = require_program("go")
        (folder / "ship.go").write_text(block("go", "// ship.go"))
        return [[go, "build", "-o", "ship", "ship.go"], *([["./ship", str(number)]] * 2)]
    (folder / "ship.mjs").write_text(block("js", "// ship.mjs"))
    return [[require_program("node"), "ship.mjs", str(number)]] * 2


def _run(folder: Path, command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("program", list(NUMBERS))
async def test_a_program_that_runs_twice_tells_once(service: Service, program: str, tmp_path: Path) -> None:
    number = NUMBERS[program]
    environment = {"API": service.api, "KEY": SECRET, "BROKER": "memory://", "no_proxy": "*"}
    for command in _prepare(tmp_path, program, number):
        await asyncio.to_thread(_run, tmp_path, command, environment)
    async with waypost.Api(service.api, SECRET) as api:
        await api.emit("over", number, room=f"order {number}")
        messages = await api.queue("mails").peek(limit=100)
    await until(lambda: all(("over", number) in got for got in service.got), "all have the last event", 200)
    for got in service.got:
        assert [one for one in got if one[1] == number] == [("shipped", number), ("over", number)]
    assert [(one.id, one.event, one.args) for one in messages if one.args == [number]] == [
        (f"receipt {number}", "receipt", [number])
    ]
