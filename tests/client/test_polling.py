"""Polling and the upgrade from it, against a server that does what a test says."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

import waypost
from tests.client.polled import PolledServer, polled, text_of
from tests.client.serving import Recorder
from tests.support.waiting import DEADLINE_S, until
from waypost.protocol.extension import REVISION
from waypost.protocol.websocket import frame_message

POLLING = {"transports": ["polling"], "reconnection": False}
BOTH = {"transports": ["polling", "websocket"], "reconnection": False}


def client_of(server: PolledServer, options: dict[str, Any]) -> waypost.Client:
    return waypost.Client(server.url, **options)


async def test_what_waits_goes_in_one_post() -> None:
    async with polled() as server, client_of(server, POLLING) as client:
        server.may_answer_posts.clear()
        await client.emit("first")
        await until(lambda: len(server.posts) == 2, "the first event")
        for n in range(5):
            await client.emit("n", n)
        server.may_answer_posts.set()
        await until(lambda: len(server.packets) == 6, "all events")
        assert server.posts[2] == "\x1e".join(f'42["n",{n}]' for n in range(5))


async def test_a_post_is_no_larger_than_the_server_takes() -> None:
    async with polled(max_payload=200) as server, client_of(server, POLLING) as client:
        server.may_answer_posts.clear()
        await client.emit("first")
        await until(lambda: len(server.posts) == 2, "the first event")
        for n in range(60):
            await client.emit("n", n, "ä" * n, b"x" * n)
        server.may_answer_posts.set()
        await until(lambda: len(server.packets) == 121, "all events")
        assert max(len(body.encode()) for body in server.posts) <= 200
        assert max(body.count("\x1e") for body in server.posts) < 16
        with pytest.raises(waypost.EncodingFailed, match="allows 200"):
            await client.emit("n", "x" * 200)
        with pytest.raises(waypost.EncodingFailed, match="allows 200"):
            await client.emit("n", b"x" * 150)


@pytest.mark.parametrize(
    ("answer", "reason", "code"),
    [
        (web.Response(status=400, text='{"code":1,"message":"Session ID unknown"}'), "transport error", 400),
        (web.Response(status=204), "transport error", 204),
        (web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), "transport error", 302),
        ("1", "transport close", None),
        ("", "parse error", None),
        ("9", "parse error", None),
        ("b!!!", "parse error", None),
        (b"\xff", "parse error", None),
        ('42["x"]\x1e4x', "parse error", None),
        ("6\x1e" * 1_000_000 + "6", "parse error", None),
    ],
)
async def test_answers_that_end_the_connection(answer: Any, reason: str, code: int | None) -> None:
    async with polled() as server:
        client = client_of(server, {**POLLING, "max_payload_bytes": 100_000})
        recorder = Recorder(client)
        await client.connect()
        server.answers.put_nowait(answer)
        async with asyncio.timeout(DEADLINE_S):
            await client.wait_closed()
    assert recorder.of("disconnect") == [(reason,)]
    assert recorder.details[0].code == code


async def test_a_session_that_is_left_is_closed_on_the_server() -> None:
    async with polled() as server:
        async with client_of(server, POLLING):
            pass
        assert server.packets == ["41", "1"]


async def test_requests_name_the_session_and_are_never_cached() -> None:
    async with polled() as server, client_of(server, POLLING):
        await until(lambda: len(server.requests) >= 4, "some requests")
        assert [request.query.get("sid") for request in server.requests[:4]] == [None, "s", "s", "s"]
        assert len({request.query["t"] for request in server.requests}) == len(server.requests)
        assert server.requests[1].headers["Waypost-Client"] == str(REVISION)


# ------------------------------------------------------------------------------------------------ the upgrade


async def test_nothing_is_under_way_when_the_websocket_takes_over() -> None:
    order: list[str] = []

    async def upgrade(websocket: web.WebSocketResponse) -> None:
        order.append(str(await text_of(websocket)))
        server.may_answer_posts.clear()
        await client.emit("polled")
        await until(lambda: '42["polled"]' in server.packets, "the event in a POST")
        await websocket.send_str("3probe")
        await asyncio.sleep(0.02)
        await client.emit("held back")
        order.append("the POST is answered")
        server.may_answer_posts.set()
        await asyncio.sleep(0.02)
        order.append("the poll is answered")
        server.say('42["last over polling"]', "6")
        while (frame := await text_of(websocket)) is not None:
            order.append(frame)
            if frame == "5":
                await websocket.send_str('42["first over WebSocket"]')

    async with polled(upgrades=("websocket",)) as server:
        server.upgrade = upgrade
        client = client_of(server, BOTH)
        recorder = Recorder(client, "last over polling", "first over WebSocket")
        async with client:
            await until(lambda: '42["held back"]' in order, "the event")
            await until(lambda: len(recorder.seen) == 3, "both events")
            assert client.transport == "websocket"
    assert order[:5] == ["2probe", "the POST is answered", "the poll is answered", "5", '42["held back"]']
    assert recorder.seen[:3] == [("connect",), ("last over polling",), ("first over WebSocket",)]
    assert '42["held back"]' not in server.packets


async def answers_wrongly(websocket: web.WebSocketResponse) -> None:
    await websocket.receive()
    await websocket.send_str("3nonsense")
    await websocket.receive()


async def goes_on_right_behind_its_answer(websocket: web.WebSocketResponse) -> None:
    await websocket.receive()
    transport = websocket._req.transport  # type: ignore[union-attr]
    assert transport is not None
    transport.write(frame_message("3probe") + frame_message('42["news","early"]'))
    await websocket.receive()


async def goes_on_before_the_end(websocket: web.WebSocketResponse) -> None:
    await websocket.receive()
    await websocket.send_str("3probe")
    await asyncio.sleep(0.02)  # the client waits for its poll to come back
    await websocket.send_str('42["news","early"]')
    await websocket.receive()


async def closes_before_the_end(websocket: web.WebSocketResponse) -> None:
    await websocket.receive()
    await websocket.send_str("3probe")
    await websocket.close()


async def closes_at_once(websocket: web.WebSocketResponse) -> None:
    await websocket.close()


@pytest.mark.parametrize(
    "upgrade", [None, answers_wrongly, closes_at_once, goes_on_right_behind_its_answer, goes_on_before_the_end]
)
async def test_without_a_websocket_it_stays_with_polling(upgrade: Any) -> None:
    async with polled(upgrades=("websocket",)) as server:
        server.upgrade = upgrade
        client = client_of(server, BOTH)
        recorder = Recorder(client, "news")
        async with client:
            await until(lambda: any(one.query["transport"] == "websocket" for one in server.requests), "the probe")
            await asyncio.sleep(0.05)
            server.say('42["news"]')
            await client.emit("still there")
            await until(lambda: '42["still there"]' in server.packets, "the event")
            await until(lambda: bool(recorder.of("news")), "the news")
            assert client.transport == "polling"
        assert recorder.of("news") == [()]


async def test_a_websocket_that_dies_just_before_the_end_leaves_polling_going() -> None:
    async with polled(upgrades=("websocket",)) as server:
        server.upgrade = closes_before_the_end
        client = client_of(server, BOTH)
        recorder = Recorder(client, "news")
        async with client:
            await until(lambda: any(one.query["transport"] == "websocket" for one in server.requests), "the probe")
            await asyncio.sleep(0.05)
            server.say("6")  # the poll in whose end the WebSocket would have taken over
            server.say('42["news"]')
            await client.emit("still there")
            await until(lambda: '42["still there"]' in server.packets, "the event")
            await until(lambda: bool(recorder.of("news")), "the news")


async def test_an_upgrade_may_be_unwanted() -> None:
    async with polled(upgrades=("websocket",)) as server, client_of(server, {**BOTH, "upgrade": False}) as client:
        await client.emit("x")
        await until(lambda: '42["x"]' in server.packets, "the event")
        assert all(request.query["transport"] == "polling" for request in server.requests)


async def test_an_upgrade_is_remembered_until_it_fails() -> None:
    async def upgrade(websocket: web.WebSocketResponse) -> None:
        if await text_of(websocket) == "2probe":
            await websocket.send_str("3probe")
            await asyncio.sleep(0.02)
            server.say("6")
        while await text_of(websocket) is not None:
            pass

    async with polled(upgrades=("websocket",)) as server:
        server.upgrade = upgrade
        client = client_of(server, {**BOTH, "remember_upgrade": True})
        async with client:
            await until(lambda: client.transport == "websocket", "the upgrade")
        server.upgrade = closes_at_once
        begun = len(server.requests)
        server.answers.put_nowait(web.Response(status=503))
        with pytest.raises(waypost.ConnectFailed):
            await client.connect()
        assert [request.query["transport"] for request in server.requests[begun:]] == ["websocket", "polling"]
        begun = len(server.requests)
        server.answers.put_nowait(web.Response(status=503))
        with pytest.raises(waypost.ConnectFailed):
            await client.connect()
        assert [request.query["transport"] for request in server.requests[begun:]] == ["polling", "websocket"]
