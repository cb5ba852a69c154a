"""Requests whose result is lost: the answer says so, and whether a repeat is safe; a repeat then changes nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import waypost
from tests.operations.places import serving
from tests.support.nodes import Nodes, join
from tests.support.waiting import until, until_async
from waypost.operations.http_api.repeats import Repeats

EMIT: tuple[str, dict[str, Any]] = ("/emit", {"event": "news", "rooms": ["all"]})
PUBLISH: tuple[str, dict[str, Any]] = ("/queues/q/messages", {"event": "mail"})


def server(nodes: Nodes, name: str) -> waypost.Server:
    io = waypost.Server()
    join(nodes, io, name)

    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        await socket.join("all")

    return io


@pytest.mark.parametrize("headers", [{}, {"Idempotency_Key": "7"}], ids=["no id", "an id"])
@pytest.mark.parametrize("request_", [EMIT, PUBLISH], ids=["emit", "publish"])
async def test_a_lost_result_is_uncertain_and_a_repeat_with_an_id_is_safe(
    request_: tuple[str, dict[str, Any]], headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = Nodes()
    path, body = request_
    check = Repeats.check

    async def check_and_freeze(self: Repeats, *arguments: Any) -> bool:
        found = await check(self, *arguments)
        # Nothing more comes back from the store: the request's write is the first that is lost.
        nodes.freeze("n0")
        return found

    broken, whole = server(nodes, "n0"), server(nodes, "n1")
    async with serving(whole) as other:
        got: list[Any] = []
        client = await other.site.connect()
        client.on_any(got.append)

        async def seen() -> int:
            return got.count("news") if path == "/emit" else (await whole.queue("q").info()).messages

        async with serving(broken) as place:
            if path == "/emit" and headers:
                monkeypatch.setattr(Repeats, "check", check_and_freeze)
            else:
                nodes.freeze("n0")
            asking = asyncio.ensure_future(place.ask("POST", path, body, **headers))
            assert await until_async(seen, lambda times: times > 0, "the store has done it") == 1
            nodes.links["n0"].sever()
            status, problem = await asking
            assert (status, problem["code"]) == (503, "uncertain")
            assert problem["retry_is_safe"] == bool(headers)
            assert problem["retry_after_s"] == 1
            monkeypatch.undo()
        if headers:
            status, answer = await other.ask("POST", path, body, **headers)
            assert (status, answer["duplicate"]) == (200, True)
            await other.ask("POST", "/emit", {"event": "end"})
            await until(lambda: "end" in got, "all events have come")
            assert await seen() == 1
    await nodes.close()
