"""`waypost emit`, `call` and `listen`: what they send, print and answer, and how they end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import waypost
from tests.support.link import Link
from tests.support.waiting import until
from waypost.cli import main
from waypost.commands.printing import event_line, to_json
from waypost.testing import ThreadSite, serve_in_thread

SEEN: list[tuple[Any, ...]] = []
ENTERED: set[str] = set()


@pytest.fixture(scope="module")
def site() -> Iterator[ThreadSite]:
    io = waypost.Server()

    @io.on("connect")
    async def connect(socket: waypost.Socket, auth: Any) -> None:
        if auth and auth.get("once"):
            auth = {"refuse": "again"} if "once" in ENTERED else {}
            ENTERED.add("once")
        if auth and "refuse" in auth:
            raise waypost.ConnectionRefused("not you \x1b[31m", {"why": auth["refuse"]})

    @io.event
    async def echo(socket: waypost.Socket, *args: Any) -> Any:
        return args

    @io.event
    async def note(socket: waypost.Socket, *args: Any) -> None:
        SEEN.append(args)

    @io.event
    async def who(socket: waypost.Socket) -> Any:
        return socket.handshake.auth, socket.handshake.headers.get("x-name"), socket.handshake.query["transport"]

    @io.on("endless", concurrent=True)
    async def endless(socket: waypost.Socket) -> None:
        while socket.connected:
            await asyncio.sleep(0.01)

    @io.event
    async def refuse(socket: waypost.Socket, n: int) -> None:
        raise waypost.EventRefused("not that", {"n": n})

    @io.of("/admin").event
    async def where(socket: waypost.Socket) -> str:
        return "admin"

    with serve_in_thread(io) as site:
        yield site


def test_call_prints_the_answer(site: ThreadSite, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["call", site.url, "echo", "-1", '"ä"', '{"a": [null]}']) == 0
    assert capsys.readouterr().out == '[-1, "ä", {"a": [null]}]\n'
    assert main(["call", site.url, "note"]) == 0
    assert capsys.readouterr().out == "null\n"
    assert main(["call", site.url, "echo", "1", "--timeout", "20", "-2.5e3", "[3]"]) == 0  # also behind an option
    assert capsys.readouterr().out == "[1, -2500.0, [3]]\n"
    assert main(["call", f"{site.url}/admin", "where"]) == 0
    assert main(["call", site.url, "where", "--namespace", "/admin"]) == 0
    assert capsys.readouterr().out == '"admin"\n"admin"\n'


def test_what_is_shown_to_the_server(site: ThreadSite, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--auth", '{"token": 1}', "--header", "X-Name: Ada", "--transport", "polling"]
    assert main(["call", site.url, "who", *words]) == 0
    assert json.loads(capsys.readouterr().out) == [{"token": 1}, "Ada", "polling"]


async def test_emit_sends_before_it_ends(site: ThreadSite) -> None:
    SEEN.clear()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(main, ["emit", site.url, "note", "7", '"van"']).result() == 0
    await until(lambda: (7, "van") in SEEN, "the event has come")


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (["call", "{url}", "endless", "--timeout", "0.05"], 1, "was not acknowledged within 0.05 s"),
        (["call", "{url}", "nobody's"], 1, 'no handler for "nobody\'s"'),
        (["call", "{url}", "refuse", "7"], 1, 'not that {"n": 7}'),
        (["emit", "http://127.0.0.1:1", "note"], 1, "cannot connect to 127.0.0.1:1: Connection refused"),
        (["emit", "{url}", "note", "--auth", '{{"refuse": 7}}'], 1, 'not you \\x1b[31m {"why": 7}'),
        (["listen", "{url}", "--auth", '{{"refuse": true}}'], 1, "not you"),
        (["emit", "nonsense", "note"], 2, "expected a URL"),
        (["emit", "{url}", "note", "--auth", "1"], 2, "expected a mapping"),
    ],
)
def test_failures_are_one_line(
    site: ThreadSite, capsys: pytest.CaptureFixture[str], words: list[str], code: int, problem: str
) -> None:
    assert main([word.format(url=site.url) for word in words]) == code
    errors = capsys.readouterr().err
    assert errors.startswith("waypost: ")
    assert errors.count("\n") == 1
    assert problem in errors


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["note", "so"], "not JSON: 'so'; a text is written"),
        (["note", "{so"], "not JSON: '{so'; Expecting property name"),
        (["note", "--transport", "polling", "so"], "not JSON: 'so'"),
        (["note", "--transport", "polling", "--nonsense", "1"], "unrecognized arguments: --nonsense"),
        (["note", "--header", "X"], "not a header: 'X'"),
    ],
)
def test_wrong_words_are_explained(words: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["emit", "http://127.0.0.1:1", *words])
    assert exit_.value.code == 2
    assert problem in capsys.readouterr().err


class Listening:
    """A running `waypost listen`, connected."""

    def __init__(self, url: str, *words: str) -> None:
        command = [sys.executable, "-m", "waypost", "listen", url, *words]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.output, self.errors = self.process.stdout, self.process.stderr
        line = self.errors.readline()
        assert line.startswith("waypost: connected to / as "), line
        self.sid = line.split()[-1]

    def finish(self) -> tuple[str, str, int]:
        output, errors = self.process.communicate(timeout=30)
        return output, errors, self.process.returncode


def test_listen_prints_until_ctrl_c(site: ThreadSite) -> None:
    listening = Listening(site.url, "--event", "pickup", "--event", "other")
    site.run(site.io.to(listening.sid).emit("unwanted"))
    site.run(site.io.to(listening.sid).emit("pickup", {"id": 1}, b"\x00"))
    assert listening.output.readline() == 'pickup {"id": 1} {"base64": "AA=="}\n'
    listening.process.send_signal(signal.SIGINT)
    assert listening.finish() == ("", "waypost: disconnected: io client disconnect\n", 0)


def test_listen_consumes(site: ThreadSite) -> None:
    listening = Listening(site.url, "--consume", "--json")
    assert site.run(_call(site, listening.sid, "pickup", 1)) is None
    assert json.loads(listening.output.readline()) == {"event": "pickup", "args": [1]}
    site.run(site.io.to(listening.sid).disconnect_sockets())
    assert listening.finish() == ("", "waypost: disconnected: io server disconnect\n", 1)


async def test_listen_says_why_it_is_away(site: ThreadSite) -> None:
    async with Link.to(int(site.url.rpartition(":")[2])) as link:
        listening = await asyncio.to_thread(Listening, link.url, "--auth", '{"once": true}')
        link.cut()
        output, errors, code = await asyncio.to_thread(listening.finish)
    refusal = f"waypost: no connection to {link.url}: not you \\x1b[31m\n"
    assert (output, errors, code) == ("", f"waypost: disconnected: transport close\n{refusal}", 1)


async def _call(site: ThreadSite, sid: str, *event: Any) -> Any:
    (socket,) = [socket for socket in await site.io.fetch_sockets() if socket.id == sid]
    return await socket.call(*event, timeout_s=20)


def test_listen_ends_when_nobody_reads(site: ThreadSite) -> None:
    listening = Listening(site.url)
    listening.output.close()
    site.run(site.io.to(listening.sid).emit("pickup", 1))
    assert listening.process.wait(timeout=30) == 0
    assert "Traceback" not in listening.errors.read()
    listening.errors.close()


def test_nothing_that_a_server_sends_controls_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert event_line("a\x1b[2J", ["\x9b2J", "ä"], as_json=False) == '"a\\u001b[2J" "\\u009b2J" "ä"'
    assert to_json({"é": b"\xff"}) == '{"é": {"base64": "/w=="}}'
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert event_line("a", [1], as_json=False) == "\x1b[1;36ma\x1b[0m 1"
    assert "\x1b" not in event_line("a", [1], as_json=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert event_line("a", [1], as_json=False) == "a 1"
    assert os.environ["NO_COLOR"]
