"""Servers that break the protocol, or are none: the client ends that connection and nothing else happens."""

from __future__ import annotations

import asyncio
import gc
import json
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

import waypost
from tests.client.serving import OPEN, Recorder, Script, accepts, playing, says, stays
from tests.support.waiting import until


def first_says(frame: str | bytes) -> Script:
    async def script(connection: ServerConnection) -> None:
        await connection.send(frame)
        await connection.wait_closed()

    return script


async def refusal(*scripts: Script, **options: float) -> waypost.ConnectFailed:
    """Give the error with which a client fails to connect."""
    async with playing(*scripts) as url:
        client = waypost.Client(url, connect_timeout_s=options.get("connect_timeout_s", 5))
        with pytest.raises(waypost.ConnectFailed) as caught:
            await client.connect()
        assert not client.connected
    return caught.value


@pytest.mark.parametrize(
    "frame",
    ["", "hello", b"\x00", "2", "4", "40", "0", "0{}", "0[", OPEN.replace("25000", "-1"), "1", "0" + "[" * 9999],
)
async def test_it_has_to_begin_with_an_open_packet(frame: str | bytes) -> None:
    assert (await refusal(first_says(frame))).problem


@pytest.mark.parametrize(
    "frame", ["40", "40{}", '40{"sid":7}', '40{"sid":null}', "40[]", "44", "44[]", "47", "4", "x", b"\x00", "1", "41"]
)
async def test_it_has_to_accept_with_a_sid(frame: str | bytes) -> None:
    problem = (await refusal(says(frame, then=stays), connect_timeout_s=0.3)).problem
    assert problem


async def test_a_refusal_may_be_a_string_or_lack_a_message() -> None:
    assert (await refusal(says('44"Unable to connect"'))).problem == "Unable to connect"
    assert (await refusal(says('44{"data":5}'))).data == 5


async def test_silence_is_no_connection() -> None:
    assert "0.1 s" in (await refusal(stays, connect_timeout_s=0.1)).problem
    assert "0.1 s" in (await refusal(says(), connect_timeout_s=0.1)).problem


async def test_heartbeats_do_not_stretch_the_time_to_connect() -> None:
    async def pings(connection: ServerConnection) -> None:
        while True:
            await connection.send("2")
            await asyncio.sleep(0.01)

    assert "0.1 s" in (await refusal(says(then=pings), connect_timeout_s=0.1)).problem


async def test_endless_events_before_the_answer_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waypost.client.membership._MAX_EARLY_PACKETS", 100)

    async def floods(connection: ServerConnection) -> None:
        while True:
            await connection.send('42["x"]')
            await asyncio.sleep(0)

    assert (await refusal(says(then=floods), connect_timeout_s=30)).problem


async def test_plain_http_is_no_socket_io() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = json.dumps({"code": 0, "message": "Transport unknown"}).encode()
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(waypost.ConnectFailed, match=r"HTTP 400 .*Transport unknown"):
            await waypost.Client(f"http://127.0.0.1:{port}").connect()


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (["x"], "parse error"),
        ([""], "parse error"),
        (["4x"], "parse error"),
        (["42{}"], "parse error"),
        (['42["connect"]'], "parse error"),
        (["42" + "[" * 9999], "parse error"),
        ([b"out of the blue"], "parse error"),
        (['450-["x"]'], "parse error"),
        (['45999999-["x"]'], "parse error"),
        (['451-["x",{"_placeholder":true,"num":"splice"}]'], "parse error"),
        (['452-["x"]', b"x" * 60_000, b"x" * 60_000], "parse error"),
        (['451-["x"]', '42["y"]'], "parse error"),
        (["x" * 200_000], "transport error"),
        (["1"], "transport close"),
        (["40"], "parse error"),
        (['44{"message":"late"}'], "parse error"),
    ],
)  # fmt: skip
async def test_what_breaks_the_protocol_ends_the_connection(frames: list[str | bytes], reason: str) -> None:
    async with playing(accepts(*frames), accepts('42["well"]')) as url:
        client = waypost.Client(url, reconnection_delay_s=0.01, max_payload_bytes=100_000)
        recorder = Recorder(client, "well", "x", "y")
        async with client:
            await until(lambda: ("well",) in recorder.seen, "the second connection")
    assert recorder.seen[:4] == [("connect",), ("disconnect", reason), ("connect",), ("well",)]


@pytest.mark.parametrize(
    "frames",
    [
        ["6", "6"],
        ["3", "3probe", "5", OPEN],
        ["430[1]", "43999[]", "430[2]"],
        ["42/other,[\"x\"]", "41/other,", "43/other,0[9]", '40/other,{"sid":"z"}'],
        ["2", "2", "2probe"],
    ],
)  # fmt: skip
async def test_what_is_only_odd_is_ignored(frames: list[str]) -> None:
    async with playing(accepts(*frames, '42["well"]')) as url:
        client = waypost.Client(url)
        recorder = Recorder(client, "well", "x")
        async with client:
            await until(lambda: ("well",) in recorder.seen, "the event after them")
            assert recorder.seen == [("connect",), ("well",)]


async def test_an_ack_counts_once() -> None:
    async def answers_twice(connection: ServerConnection) -> None:
        assert await connection.recv() == '420["x"]'
        await connection.send("430[1]")
        await connection.send("430[2]")
        assert await connection.recv() == '421["y"]'
        await connection.send("430[3]")
        await connection.send("431[4,5]")
        await connection.wait_closed()

    async with playing(accepts(then=answers_twice)) as url, waypost.Client(url) as client:
        assert await client.call("x") == 1
        assert await client.call("y") == (4, 5)


async def test_heartbeats_are_answered() -> None:
    answers: list[str | bytes] = []

    async def pings(connection: ServerConnection) -> None:
        for _ in range(3):
            await connection.send("2")
            answers.append(await connection.recv())
        await connection.wait_closed()

    async with playing(accepts(then=pings)) as url, waypost.Client(url):
        await until(lambda: len(answers) == 3, "the pongs")
    assert answers == ["3", "3", "3"]


async def test_what_the_client_says_first() -> None:
    requests: list[str] = []
    packets: list[str | bytes] = []

    async def listens(connection: ServerConnection) -> None:
        assert connection.request is not None
        requests.append(connection.request.path)
        requests.append(connection.request.headers["Authorization"])
        await connection.send(OPEN)
        packets.append(await connection.recv())
        await connection.send('40/admin,{"sid":"s"}')
        await connection.wait_closed()

    async with playing(listens) as url:
        options = {"namespace": "/admin", "path": "/my/path", "headers": {"Authorization": "Bearer x"}}
        async with waypost.Client(f"{url}?tenant=7", auth={"a": 1}, **options):  # type: ignore[arg-type]
            pass
    assert requests == ["/my/path?tenant=7&EIO=4&transport=websocket", "Bearer x"]
    assert packets == ['40/admin,{"a":1}']


async def test_events_that_are_large_once_decoded_wait_as_they_came() -> None:
    lists = "[" + ",".join(["[]"] * 100_000) + "]"
    async with playing(accepts(*[f'42["large",{lists}]'] * 10, '42["last"]')) as url:
        client = waypost.Client(url, max_pending_bytes=1 << 20)
        decoded: list[int] = []
        last = asyncio.Event()

        @client.event
        async def large(value: Any) -> None:
            await asyncio.sleep(0.02)
            decoded.append(sum(type(one) is list and len(one) == len(value) for one in gc.get_objects()))

        client.on("last", last.set)
        async with client, asyncio.timeout(60):
            await last.wait()
    assert decoded == [1] * 10


async def test_a_loop_takes_only_so_many_bytes() -> None:
    lists = "[" + ",".join(["[]"] * 100_000) + "]"
    async with playing(accepts(*[f'42["large",{lists}]'] * 10, '42["last"]')) as url:
        client = waypost.Client(url, max_pending_bytes=1 << 20)
        async with client, client.events() as stream, asyncio.timeout(60):
            seen = 0
            async for event in stream:
                await asyncio.sleep(0.02)
                alive = sum(type(one) is list and len(one) == 100_000 for one in gc.get_objects())
                assert alive <= 3  # one here, one in the line, and one that waits for the line
                seen += 1
                if event.name == "last":
                    break
    assert seen == 11


async def test_large_events_before_the_answer_are_not_kept() -> None:
    lists = "[" + ",".join(["[]"] * 10_000) + "]"

    async def floods(connection: ServerConnection) -> None:
        while True:
            await connection.send(f'42["x",{lists}]')

    async with playing(says(then=floods)) as url:
        client = waypost.Client(url, max_pending_bytes=1 << 20, reconnection=False)
        with pytest.raises(waypost.ConnectFailed):
            await client.connect()
