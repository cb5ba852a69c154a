"""A service that does to each request what a test wants: answers, breaks the connection, or says nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

__all__ = ["BREAK", "SILENCE", "Scripted", "answer", "problem", "scripted"]

BREAK = b"break"
"""Close the connection once the request has come."""

SILENCE = b"silence"
"""Say nothing."""


def answer(status: int, body: bytes, content_type: str = "application/json", **headers: str) -> bytes:
    """Return an answer."""
    lines = [f"HTTP/1.1 {status} So", f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def problem(status: int, code: str, retry_after: str = "", **members: Any) -> bytes:
    """Return an answer that is a problem."""
    body = json.dumps({"status": status, "code": code, "detail": f"because of {code}", **members}).encode()
    headers = {"Retry_After": retry_after} if retry_after else {}
    return answer(status, body, "application/problem+json", **headers)


class Scripted:
    """The service.

    Attributes:
        url: Its URL.
        script: What it does to the requests that come next; without an entry it answers ``{}``.
        requests: The method, path and JSON of each request so far.
    """

    def __init__(self) -> None:
        self.url = ""
        self.script: list[bytes] = []
        self.requests: list[tuple[str, str, Any]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                method, path, _ = lines[0].split(" ")
                headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                self.requests.append((method, path, json.loads(body) if body else None))
                what = self.script.pop(0) if self.script else answer(200, b"{}")
                if what == BREAK:
                    break
                if what != SILENCE:
                    writer.write(what)
                    await writer.drain()
        except (OSError, EOFError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def scripted() -> AsyncIterator[Scripted]:
    """Run such a service."""
    service = Scripted()
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0)
    service.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api"
    try:
        yield service
    finally:
        server.close()
