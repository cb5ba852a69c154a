"""The command line: what `waypost serve` serves, says and refuses, and how it stops."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Mount, Router

import waypost
from tests.support.waiting import DEADLINE_S, until, until_async
from waypost.cli import main
from waypost.errors import ConfigurationError
from waypost.serving.loading import find_server

APPLICATIONS = """
import asyncio
import waypost

io = waypost.Server()

async def page(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"the other application"})

beside = waypost.Server().asgi(page)

stubborn = waypost.Server()

@stubborn.on("connect")
async def connect(socket, auth):
    print("in the handler", flush=True)
    await asyncio.sleep(60)

nothing = {}
"""
# In a file of its own: FastAPI takes as long to import as all of Waypost.
MOUNTED = """
from fastapi import FastAPI
import waypost

fastapi = FastAPI()
fastapi.mount("/socket.io", waypost.Server())
"""
START_LINE = re.compile(
    r"^Waypost \d+\.\d+\.\d+ listening on (http://127\.0\.0\.1:(\d+))  store: .+  durability: \w+$", re.M
)
POLLING = "/socket.io/?EIO=4&transport=polling"


class Served:
    """A running `waypost serve`, and what it prints."""

    def __init__(self, directory: Path, arguments: list[str]) -> None:
        self._output = directory / "output"
        self._errors = directory / "errors"
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            command = [sys.executable, "-m", "waypost", "serve", *arguments]
            # Of variables that no option has, such as those of other tests, it warns.
            environment = {name: value for name, value in os.environ.items() if not name.startswith("WAYPOST_")}
            self.process = subprocess.Popen(command, cwd=directory, stdout=output, stderr=errors, env=environment)

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    async def listening(self) -> str:
        """Wait for the start line and return the address in it."""
        await until(lambda: bool(START_LINE.search(self.output)) or self.ended(), "the server listens")
        found = START_LINE.search(self.output)
        assert found is not None, self.errors
        return found[1]

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return await self.exit_code()

    async def exit_code(self) -> int:
        await until(self.ended, "the server has stopped")
        return self.process.returncode

    def ended(self) -> bool:
        return self.process.poll() is not None


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "applications.py").write_text(APPLICATIONS)
    (tmp_path / "mounted.py").write_text(MOUNTED)
    (tmp_path / "broken.py").write_text("import no_such_module_anywhere\n")
    return tmp_path


@pytest_asyncio.fixture
async def serve(directory: Path) -> AsyncIterator[Callable[..., Served]]:
    """Start `waypost serve` with arguments; whatever is still running at the end is killed."""
    running: list[Served] = []

    def start(*arguments: str) -> Served:
        running.append(Served(directory, list(arguments)))
        return running[-1]

    yield start
    for served in running:
        served.process.kill()
        served.process.wait()


async def get(url: str) -> str:
    def read() -> str:
        with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
            text: str = answer.read().decode()
            return text

    return await asyncio.to_thread(read)


async def status(url: str) -> int:
    """Return the HTTP status that a GET is answered with."""
    try:
        await get(url)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    return 200


async def post(url: str, body: bytes) -> None:
    def write() -> None:
        with urllib.request.urlopen(url, data=body, timeout=DEADLINE_S) as answer:
            answer.read()

    await asyncio.to_thread(write)


async def connect(address: str) -> str:
    """Connect by long-polling; return the address of the session."""
    opened = await get(address + POLLING)
    session = f"{address}{POLLING}&sid={json.loads(opened[1:])['sid']}"
    await post(session, b"40")
    return session


@pytest.mark.parametrize("name", ["applications:io", "applications:beside", "mounted:fastapi"])
async def test_serves_whatever_holds_a_server(serve: Callable[..., Served], name: str) -> None:
    served = serve(name, "--port", "0")
    address = await served.listening()
    assert '"pingInterval":25000' in await get(address + POLLING)
    assert await served.stop() == 0
    assert "Traceback" not in served.errors


async def test_serves_the_other_application_too(serve: Callable[..., Served]) -> None:
    served = serve("applications:beside", "--port", "0")
    assert await get(await served.listening() + "/") == "the other application"
    assert await served.stop(signal.SIGINT) == 0


async def test_keeps_everything_where_it_is_told(serve: Callable[..., Served], directory: Path) -> None:
    served = serve("applications:io", "--port", "0", "--store", "elsewhere.db")
    await served.listening()
    assert "elsewhere.db" in served.output
    assert await served.stop() == 0
    assert (directory / "elsewhere.db").exists()


async def test_answers_who_waits_before_it_stops(serve: Callable[..., Served]) -> None:
    served = serve("applications:io", "--port", "0")
    address = await served.listening()
    session = await connect(address)
    assert (await get(session)).startswith('40{"sid"')
    waiting = asyncio.create_task(get(session))
    await until(lambda: not waiting.done(), "the poll is under way")
    assert await served.stop() == 0
    assert await waiting


async def test_a_second_signal_does_not_wait(serve: Callable[..., Served]) -> None:
    served = serve("applications:stubborn", "--port", "0")
    address = await served.listening()
    await connect(address)
    await until(lambda: "in the handler" in served.output, "the handler runs")
    served.process.send_signal(signal.SIGTERM)
    await until_async(lambda: status(address + POLLING), lambda code: code == 503, "the server is stopping")
    assert await served.stop() == 128 + signal.SIGTERM
    assert "SIGTERM again" in served.errors


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("applications", "expected module:name"),
        ("applications:", "expected module:name"),
        ("no_such_module:io", "there is none named no_such_module"),
        ("applications.inner:io", "there is none named applications.inner"),
        ("applications:missing", "there is no missing"),
        ("applications:nothing", "it holds none"),
    ],
)
async def test_refuses_in_one_line(serve: Callable[..., Served], target: str, problem: str) -> None:
    served = serve(target)
    assert await served.exit_code() == 2
    assert served.errors.count("\n") == 1
    assert served.errors.startswith("waypost: ")
    assert problem in served.errors
    assert served.output == ""


async def test_an_error_inside_the_application_is_shown_whole(serve: Callable[..., Served]) -> None:
    served = serve("broken:io")
    assert await served.exit_code() == 1
    assert "Traceback" in served.errors
    assert "no_such_module_anywhere" in served.errors


async def test_a_taken_port_is_said_in_one_line(serve: Callable[..., Served]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        served = serve("applications:io", "--port", str(port))
        assert await served.exit_code() == 2
    assert re.fullmatch(rf"waypost: .*127\.0\.0\.1:{port}.*[Aa]ddress already in use\n", served.errors)


async def test_a_store_that_cannot_be_opened_is_said_in_one_line(
    serve: Callable[..., Served], directory: Path
) -> None:
    (directory / "prose.db").write_text("This is no database, but it is long enough to be mistaken for one. " * 100)
    served = serve("applications:io", "--port", "0", "--store", "prose.db", "--log-level", "error")
    assert await served.exit_code() == 1
    assert served.errors.count("\n") == 1
    assert served.errors.startswith("waypost: store ")


def test_finds_the_server_wherever_it_is() -> None:
    io = waypost.Server()
    fastapi = FastAPI()
    fastapi.mount("/deep", Starlette(routes=[Mount("/er", routes=[Mount("/socket.io", io)])]))
    for app in (
        io,
        io.asgi(fastapi),
        fastapi,
        Router(routes=[Mount("/socket.io", io)]),
        CORSMiddleware(Starlette(routes=[Mount("/socket.io", io)])),
        Starlette(routes=[Mount("/one", io), Mount("/two", io)]),
    ):
        assert find_server(app) is io


def test_refuses_to_choose_between_servers() -> None:
    with pytest.raises(ConfigurationError, match="it holds 2"):
        find_server(Starlette(routes=[Mount("/one", waypost.Server()), Mount("/two", waypost.Server())]))


def test_starts_quickly() -> None:
    heavy = "sorted({'asyncio', 'uvicorn', 'sqlite3', 'websockets', 'orjson'} & set(sys.modules))"
    program = f"import sys, waypost.cli; print({heavy})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("arguments", [[], ["serve"], ["serve", "a:b", "--port", "70000"], ["nonsense"]])
def test_wrong_words_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert "usage: waypost" in capsys.readouterr().err


def test_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    assert re.fullmatch(r"Waypost \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["serve", "app:io", "--prot", "80"], "unrecognized arguments: --prot 80; did you mean --port?"),
        (["serv", "app:io"], "did you mean serve?"),
        (["serve", "app:io", "--port", "99999"], "'99999': expected a whole number from 0 to 65535"),
        (["serve", "app:io", "--log-level", "warn"], 'did you mean "warning"?'),
        (["queue", "inof", "s.db", "q"], "did you mean info?"),
        (["queue", "peek", "s.db", "q", "--limt", "3"], "did you mean --limit?"),
        (["queue", "peek", "s.db", "q", "--limit", "9" * 5000], "expected a whole number from 1"),
        (["queue", "peek", "s.db", "q", "--after", "-1"], "'-1': expected a whole number from 0"),
        (["queue", "peek", "s.db", "q", "--after", str(1 << 63)], "expected a whole number from 0"),
        (["queue", "seek", "s.db", "q", "c", str(1 << 63)], "expected a whole number from 0"),
        (["queue", "info", "s.db", ""], "'': expected text that is not empty"),
        (["queue", "info", "s.db", "\udcff"], r"'\udcff': expected text that UTF-8 can carry"),
        (["queue", "pause", "s.db", "q", "--consumer", "\udcff"], "expected text that UTF-8 can carry"),
        (["queue", "dead", "s.db", "q", "--id", ""], "expected text that is not empty"),
        (["nothing like it"], "invalid choice"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_told(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert told in capsys.readouterr().err


def test_a_store_that_is_no_database_is_refused_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--store", "parcels.db"]) == 2
    assert "postgresql://" in capsys.readouterr().err
