"""The scenario of ../README.md with python-socketio's blocking or asyncio client: URL MODE NAME sync|async."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import socketio  # type: ignore[import-untyped]  # it has no types

TEXT = "naïve ☃ 🜁"
CONTENT = b"\x00\x10\xff"
TRANSPORTS = {"polling": ["polling"], "websocket": ["websocket"], "upgrade": ["polling", "websocket"]}
OPTIONS = {"reconnection_delay": 0.05, "reconnection_delay_max": 0.2}

_printing = threading.Lock()


def report(line: str) -> None:
    with _printing:
        print(line, flush=True)


def check(step: str, holds: bool) -> None:
    report(step if holds else f"failed: {step}")


class Asked:
    """The event handlers, the same for both clients."""

    def __init__(self) -> None:
        self.connects = 0

    def question(self, data: Any) -> tuple[str, bytes]:
        check("asked", data == CONTENT)
        return "answer", data

    def news(self, number: int) -> None:
        report(f"news {number}")

    def data(self, data: bytes) -> None:
        check("bytes", data == CONTENT)

    def job(self, number: int) -> None:
        report(f"job {number}")

    def check_echo(self, answer: Any) -> None:
        check("echo", list(answer) == [TEXT, 7, {"a": [1]}, CONTENT])

    def check_answer(self, answer: Any) -> None:
        check("answered", list(answer) == ["answer", CONTENT])

    def check_other(self, answer: Any) -> None:
        check("namespace", list(answer) == ["other", 1])


def play_blocking(url: str, mode: str) -> None:
    client, asked, arrived = socketio.Client(**OPTIONS), Asked(), threading.Semaphore(0)
    client.on("question", asked.question)
    client.on("news", asked.news)
    client.on("job", asked.job)
    client.on("bytes", asked.data)

    @client.event  # type: ignore[untyped-decorator]
    def connect() -> None:
        report("connected")
        arrived.release()

    client.connect(url, transports=TRANSPORTS[mode], namespaces=["/", "/other"], wait_timeout=20)
    arrived.acquire()
    asked.check_echo(client.call("echo", (TEXT, 7, {"a": [1]}, CONTENT), timeout=20))
    asked.check_answer(client.call("ask", CONTENT, timeout=20))
    asked.check_other(client.call("echo", 1, namespace="/other", timeout=20))
    client.wait()


async def play_async(url: str, mode: str) -> None:
    client, asked, arrived = socketio.AsyncClient(**OPTIONS), Asked(), asyncio.Event()
    client.on("question", asked.question)
    client.on("news", asked.news)
    client.on("job", asked.job)
    client.on("bytes", asked.data)

    @client.event  # type: ignore[untyped-decorator]
    async def connect() -> None:
        report("connected")
        arrived.set()

    await client.connect(url, transports=TRANSPORTS[mode], namespaces=["/", "/other"], wait_timeout=20)
    await arrived.wait()
    asked.check_echo(await client.call("echo", (TEXT, 7, {"a": [1]}, CONTENT), timeout=20))
    asked.check_answer(await client.call("ask", CONTENT, timeout=20))
    asked.check_other(await client.call("echo", 1, namespace="/other", timeout=20))
    await client.wait()


if __name__ == "__main__":
    address, transports, name, kind = sys.argv[1:]
    with_name = f"{address}?name={name}"
    if kind == "async":
        asyncio.run(play_async(with_name, transports))
    else:
        play_blocking(with_name, transports)
