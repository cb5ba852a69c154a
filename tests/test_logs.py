"""Logs: whatever others chose is printable in them, forges no line, and shows no secret."""

from __future__ import annotations

import ast
import asyncio
import io as streams
import json
import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn

import waypost
import waypost.testing
from tests.server.model_client import ModelClient, hub_of, running, until
from tests.support import raw
from tests.test_architecture import SOURCE
from tests.transports.asgi_client import POLLING, WEBSOCKET, ask, serving, websocket
from waypost.logs import get_logger
from waypost.transports.uvicorn_runner import bind

OBEYED = [
    "\r",
    "\n",
    "\x1b[2J",
    "\x00",
    "\x7f",
    "\x85",
    "\x9b",
    "\u202e",
    "\u2066",
    "\u2028",
    "\ufeff",
    "\r\nERROR forged",
]
LEVELS = ("debug", "info", "warning", "error", "exception", "critical", "log")


class Lines:
    """A log as a terminal or a file gets it.

    Attributes:
        records: The records behind it.
    """

    def __init__(self) -> None:
        self.records: list[logging.LogRecord] = []
        self._stream = streams.StringIO()
        self.handler: logging.Handler = logging.StreamHandler(self._stream)
        self.handler.setFormatter(logging.Formatter("|%(levelname)s %(name)s %(message)s"))
        self.handler.addFilter(self._note)

    def _note(self, record: logging.LogRecord) -> bool:
        self.records.append(record)
        return True

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    def check(self) -> None:
        """Fail if anything in it is not printable, or a line begins with what a client sent."""
        lines = self.text.split("\n")
        for line in lines:
            assert line.isprintable(), line
        assert sum(line.startswith("|") for line in lines) == len(self.records)
        assert not any(line.startswith("ERROR forged") for line in lines)


@pytest.fixture
def lines() -> Iterator[Lines]:
    """Everything that Waypost logs."""
    logger, log = logging.getLogger("waypost"), Lines()
    level = logger.level
    logger.addHandler(log.handler)
    logger.setLevel(logging.DEBUG)
    yield log
    logger.setLevel(level)
    logger.removeHandler(log.handler)


# ------------------------------------------------------------------------------------------ the mechanism


def test_what_is_logged_is_a_constant_and_its_arguments() -> None:
    """Only arguments are made printable, so nothing may be built into the message."""
    calls = 0
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            owner = ast.unparse(node.func.value)
            if node.func.attr in LEVELS and owner.rpartition(".")[2] in (
                "logger",
                "_logger",
                "_log",
                "connections",
                "packets",
            ):
                message = node.args[node.func.attr == "log"]
                assert isinstance(message, ast.Constant), f"{file.name}:{node.lineno}"
                assert str(message.value).isprintable(), f"{file.name}:{node.lineno}"
                calls += 1
    assert calls > 80, "the calls were found"


@pytest.mark.parametrize("one", OBEYED)
def test_arguments_are_printable_whatever_they_are(lines: Lines, one: str) -> None:
    class Thing:
        def __repr__(self) -> str:
            return f"<{one}>"

    logger = get_logger("waypost.test")
    logger.warning("%s %r %s %r %d %.1f", one, one, Thing(), Thing(), 5, 0.5)
    logger.warning("%s", {"a": Thing()})
    logger.warning("%s", ValueError(one))
    logger.warning("%5d %s", 5, "plain")
    lines.check()
    assert [record.args for record in lines.records][-1] == (5, "plain")
    assert repr(one) in lines.text
    assert "|WARNING waypost.test     5 plain\n" in lines.text


def test_an_argument_that_can_not_be_shown_harms_nobody(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    class Thing:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    monkeypatch.setattr(logging, "raiseExceptions", False)
    get_logger("waypost.test").warning("%s", Thing())


@pytest.mark.parametrize("one", OBEYED)
def test_the_text_of_an_exception_begins_no_line(lines: Lines, one: str) -> None:
    def fail() -> None:
        try:
            cause = KeyError(one)
            cause.add_note(f"{one}\nERROR forged")
            raise cause
        except KeyError as problem:
            try:
                raise ValueError(one) from problem
            except ValueError as second:
                raise ExceptionGroup(one, [second, SyntaxError(one)]) from None

    try:
        fail()
    except ExceptionGroup:
        get_logger("waypost.test").exception("failed")
    lines.check()
    assert "Traceback (most recent call last):" in lines.text
    assert lines.text.count("in fail") == 3


def test_a_plain_traceback_is_left_to_the_formatter(lines: Lines) -> None:
    try:
        raise ValueError("plain")
    except ValueError:
        get_logger("waypost.test").exception("failed")
    [record] = lines.records
    assert record.exc_text == logging.Formatter().formatException(record.exc_info or ())  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------- hostile clients


def hostile(rng: random.Random) -> str:
    parts = [rng.choice([*OBEYED, "a", "é", '"', "'", "%s", "{", "\\"]) for _ in range(rng.randrange(1, 8))]
    return "".join(parts)


async def test_hostile_texts_everywhere(lines: Lines, rng: random.Random) -> None:
    io = waypost.Server(drain_s=0.0, trusted_proxies=["203.0.113.7"], connect_timeout_s=5)
    parent = io.of(lambda name, auth: True)

    @io.event
    async def fail(socket: waypost.Socket, text: str) -> None:
        raise ValueError(text)

    @io.event
    async def refuse(socket: waypost.Socket, text: str) -> None:
        raise waypost.EventRefused(text)

    @io.event
    async def typed(socket: waypost.Socket, numbers: dict[str, int]) -> None: ...

    @parent.on("connect")
    async def connect(socket: waypost.Socket, auth: Any) -> None:
        if auth.get("fail"):
            raise RuntimeError(auth["fail"])

    async with serving(io):
        for _ in range(20):
            await one_hostile_client(io, rng)
        await until(lambda: not hub_of(io).engine.connections())
    lines.check()
    for logged in (
        "has no handler",
        "the handler of 'fail' failed",
        "is refused",
        "the handler of 'connect' failed",
        "refused a request",
        "closing websocket",
        "typed: argument 1",
        "RuntimeError",
    ):
        assert logged in lines.text, logged


async def one_hostile_client(io: waypost.Server, rng: random.Random) -> None:
    headers = {
        name: hostile(rng).encode("latin-1", "ignore").decode("latin-1")
        for name in ("User-Agent", "X-Forwarded-For", "Origin", "Host", "X-A", "Cookie")
    }
    await ask(io, f"EIO=4&transport={hostile(rng)}", headers=headers)
    await ask(io, f"{POLLING}&sid={hostile(rng)}&t={hostile(rng)}", headers=headers)
    del headers["Origin"]
    async with websocket(io, f"{WEBSOCKET}&{hostile(rng)}", headers=headers) as socket:
        await socket.next()
        await socket.next()
        namespace = "/" + hostile(rng).replace(",", "").replace("?", "")
        for name in ("", f"{namespace},"):
            socket.write(
                f"40{name}" + json.dumps({"token": hostile(rng), "pid": hostile(rng), "offset": hostile(rng)})
            )
            answer = await socket.next()
            assert answer["text"].startswith("40"), answer
            for event in (hostile(rng), "fail", "refuse"):
                socket.write(f"42{name}" + json.dumps([event, hostile(rng)]))
            socket.write(f"42{name}" + json.dumps(["typed", {hostile(rng): hostile(rng)}]))
            socket.write(f"43{name}77" + json.dumps([hostile(rng)]))
        socket.write(f"40{namespace}2," + json.dumps({"fail": hostile(rng)}))
        while not (await socket.next()).get("text", "").startswith("44"):
            pass
        socket.write(f"4{hostile(rng)}")
        while (await socket.next())["type"] != "websocket.close":
            pass


async def test_a_client_logs_what_a_server_chose_in_printable_text(lines: Lines, rng: random.Random) -> None:
    io = waypost.Server(drain_s=0.0)
    async with waypost.testing.serve_in_memory(io) as site, site.client() as client:
        assert client.connected
        for _ in range(20):
            await io.emit(hostile(rng), hostile(rng))
        await io.emit("last")
        await until(lambda: "'last' has no handler" in lines.text)
    lines.check()


# ------------------------------------------------------------------------------------------------ secrets


@dataclass
class Login:
    user: str
    pin: int


async def test_an_argument_that_does_not_fit_is_not_shown(lines: Lines) -> None:
    io = waypost.Server(drain_s=0.0)

    @io.event
    async def login(socket: waypost.Socket, form: Login) -> None: ...

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        sent = {"user": {"password": "hush1"}, "pin": "hush2", "password": ["hush3", {"a": "hush4"}]}
        [answer] = await client.call("login", sent)
    assert answer["error"].startswith("argument 1 (form): expected Login, received dict: Expected ")
    # The client is told what it sent itself.
    assert "hush" in answer["data"]["received"]
    warned = [record.getMessage() for record in lines.records if record.levelno >= logging.WARNING]
    assert [line.partition(": ")[2] for line in warned] == [f"login: {answer['error']}"]
    assert "hush" not in "".join(warned)
    for secret in ("hush1", "hush3", "hush4"):
        assert secret not in lines.text


async def test_access_logs_have_no_session_id() -> None:
    log = Lines()
    config = uvicorn.Config(
        waypost.Server(drain_s=0.0), log_config=None, log_level="info", timeout_graceful_shutdown=1
    )
    loggers = [logging.getLogger("uvicorn.access"), logging.getLogger("uvicorn.error")]
    for logger in loggers:
        logger.addHandler(log.handler)
        logger.setLevel(logging.INFO)
    config.access_log = True
    server = uvicorn.Server(config)
    listeners = bind("127.0.0.1", 0)
    task = asyncio.ensure_future(server.serve(sockets=listeners))
    try:
        await until(lambda: server.started)
        port = listeners[0].getsockname()[1]
        async with raw.open_polling(port) as polling:
            await raw.join(polling)
            sid = polling.sid
            async with raw.websocket(port, {"sid": sid}):
                pass
    finally:
        server.should_exit = True
        await task
        for logger in loggers:
            logger.removeHandler(log.handler)
            logger.setLevel(logging.NOTSET)
    assert '"GET /socket.io/?EIO=4&transport=polling&sid=*** HTTP/1.1" 200' in log.text
    assert '"WebSocket /socket.io/?EIO=4&transport=websocket&sid=***" [accepted]' in log.text
    assert sid not in log.text
