"""Requests that reach another worker than their session's, over real sockets, on both loops of a server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.routing import Mount

import waypost
from tests.server.model_client import hub_of
from tests.support.mesh import Worker, serving_nodes, serving_workers
from tests.support.raw import (
    PATH,
    WAIT_S,
    RawPolling,
    chunked,
    join,
    open_polling,
    request,
    request_bytes,
    target,
    websocket,
)
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["one machine", "several machines"])
async def workers(request: pytest.FixtureRequest) -> AsyncIterator[list[Worker]]:
    """Three workers in this process; or three nodes, each on another machine as far as they know."""
    async with serving_workers(3) if request.param == "one machine" else serving_nodes(3) as workers:
        yield workers


def gone_on(worker: Worker) -> int:
    """Return how many connections a worker has handed over or forwarded."""
    return worker.passed[1] + worker.passed[2]


@contextlib.asynccontextmanager
async def joined(worker: Worker) -> AsyncIterator[RawPolling]:
    """A polling session of a worker, which has joined the main namespace."""
    async with open_polling(worker.port) as raw:
        await join(raw)
        yield raw


def kept(method: str, where: str, body: bytes | None = None) -> bytes:
    """Return a request after which the connection stays open."""
    return request_bytes(method, where, {"Connection": "keep-alive"}, body)


async def answer(reader: asyncio.StreamReader) -> bytes:
    """Read one response with a length, and return its body."""
    async with asyncio.timeout(WAIT_S):
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        return await reader.readexactly(int(length.partition(b":")[2]))


async def test_a_session_is_served_wherever_its_requests_arrive(workers: list[Worker]) -> None:
    home, other, third = workers
    before = gone_on(other)
    async with open_polling(home.port) as raw:
        assert raw.sid.endswith(".1")
        raw.port = other.port
        await join(raw)
        raw.port = third.port
        await raw.send('421["echo","hello"]')
        raw.port = other.port
        assert await raw.receive() == '431["hello"]'
        raw.port = home.port
        await raw.send('422["worker"]')
        assert await raw.receive() == "432[1]"
    assert gone_on(other) >= before + 2


async def test_one_connection_serves_sessions_of_all_workers_in_turn(workers: list[Worker]) -> None:
    async with contextlib.AsyncExitStack() as ends:
        sessions = [await ends.enter_async_context(joined(worker)) for worker in workers]
        reader, writer = await asyncio.open_connection("127.0.0.1", workers[0].port)
        for turn in range(3):
            for number, raw in enumerate(sessions, 1):
                writer.write(kept("POST", target(sid=raw.sid), b'42%d["worker"]' % turn))
                assert await answer(reader) == b"ok"
                writer.write(kept("GET", target(sid=raw.sid)))
                assert await answer(reader) == b"43%d[%d]" % (turn, number)
        writer.close()


async def test_pipelined_requests_of_several_workers_are_answered_in_order(workers: list[Worker]) -> None:
    async with contextlib.AsyncExitStack() as ends:
        sessions = [await ends.enter_async_context(joined(worker)) for worker in workers]
        reader, writer = await asyncio.open_connection("127.0.0.1", workers[0].port)
        ahead = b""
        for turn in range(3):
            for raw in sessions:
                ahead += kept("POST", target(sid=raw.sid), b'42%d["worker"]' % turn)
                ahead += kept("GET", target(sid=raw.sid))
        writer.write(ahead)
        for turn in range(3):
            for number in range(1, 4):
                assert await answer(reader) == b"ok"
                assert await answer(reader) == b"43%d[%d]" % (turn, number)
        writer.close()


async def test_a_connection_waits_until_the_response_before_is_written() -> None:
    def make() -> waypost.Server:
        io = waypost.Server(drain_s=0.0, max_buffered_bytes=1 << 26)
        io.on("much", lambda _socket: large)
        return io

    large = "x" * 15_000_000
    async with serving_workers(2, make=make) as (home, other), joined(home) as raw, joined(other) as second:
        await second.post(b'421["much"]')
        with socket.socket() as narrow:
            narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            narrow.setblocking(False)
            await asyncio.get_running_loop().sock_connect(narrow, ("127.0.0.1", other.port))
            narrow.send(kept("GET", target(sid=second.sid)))
            narrow.send(kept("POST", target(sid=raw.sid), b'421["worker"]'))
            await until(lambda: other.passed == (1, 0, 0, 0), "the foreign request is read")
            reader, writer = await asyncio.open_connection(sock=narrow)
            assert await answer(reader) == f'431["{large}"]'.encode()
            assert await answer(reader) == b"ok"
            assert other.passed == (1, 1, 0, 0)
            writer.close()


@pytest.mark.parametrize("size", [1, 7, 100, 4096])
async def test_requests_in_pieces_of_any_size(workers: list[Worker], size: int) -> None:
    home, other, _ = workers
    async with joined(home) as raw, joined(other) as second:
        reader, writer = await asyncio.open_connection("127.0.0.1", other.port)
        text = b"x" * 50
        lines = b"\r\nTransfer-Encoding: chunked\r\n\r\n"
        post = kept("POST", target(sid=second.sid)).removesuffix(b"\r\n\r\n") + lines
        stream = post + chunked(b'421["size","%s"]' % text, 20)
        stream += b"\r\n" + kept("POST", target(sid=raw.sid), b'422["size","%s"]' % text)
        stream += kept("GET", target(sid=second.sid)) + kept("GET", target(sid=raw.sid))
        for start in range(0, len(stream), size):
            writer.write(stream[start : start + size])
            await writer.drain()
            await asyncio.sleep(0)
        bodies = [await answer(reader) for _ in range(4)]
        assert bodies == [b"ok", b"ok", b"431[50]", b"432[50]"]
        writer.close()


async def test_a_large_body_goes_along_as_far_as_it_was_read(workers: list[Worker]) -> None:
    home, other, _ = workers
    async with joined(home) as raw:
        body = b'421["size","%s"]' % (b"x" * 900_000)
        whole = request_bytes("POST", target(sid=raw.sid), None, body)
        reader, writer = await asyncio.open_connection("127.0.0.1", other.port)
        for start in range(0, len(whole), 100_000):
            writer.write(whole[start : start + 100_000])
            await writer.drain()
            await asyncio.sleep(0.002)
        assert await answer(reader) == b"ok"
        assert await raw.receive() == "431[900000]"
        writer.close()


async def test_a_body_is_asked_for_by_the_worker_that_reads_it(workers: list[Worker]) -> None:
    home, other, _ = workers
    async with joined(home) as raw:
        reader, writer = await asyncio.open_connection("127.0.0.1", other.port)
        headers = {"Connection": "close", "Expect": "100-continue", "Content-Length": "13"}
        writer.write(request_bytes("POST", target(sid=raw.sid), headers))
        async with asyncio.timeout(WAIT_S):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b'421["worker"]')
        async with asyncio.timeout(WAIT_S):
            assert b" 200 " in await reader.readline()
        writer.close()


async def test_an_upgrade_at_another_worker(workers: list[Worker]) -> None:
    home, other, _ = workers
    async with joined(home) as raw, websocket(other.port, {"sid": raw.sid}) as connection:
        await connection.send("2probe")
        assert await connection.recv() == "3probe"
        poll = await raw.poll()
        assert poll.body == b"6"
        await connection.send("5")
        await connection.send('421["worker"]')
        assert await connection.recv() == "431[1]"
        (one,) = hub_of(home.io).engine.connections()[-1:]
        assert one.transport == "websocket"
        assert one.handshake.address == "127.0.0.1"


async def test_a_waiting_poll_at_another_worker_ends_with_its_client(workers: list[Worker]) -> None:
    home, other, _ = workers
    async with joined(home) as raw:
        await until(lambda: not home.server.server_state.connections, "no connection is open")
        _, writer = await asyncio.open_connection("127.0.0.1", other.port)
        writer.write(kept("GET", target(sid=raw.sid)))
        await until(lambda: len(home.server.server_state.connections) == 1, "the connection has come")
        engine = hub_of(home.io).engine
        assert engine.get(raw.sid) is not None
        writer.transport.abort()
        await until(lambda: engine.get(raw.sid) is None, "the session ends")


async def test_a_preflight_is_answered_wherever_it_arrives(workers: list[Worker]) -> None:
    home, other, _ = workers
    async with open_polling(home.port) as raw:
        before = other.passed
        headers = {"Access-Control-Request-Method": "POST"}
        assert (await request(other.port, "OPTIONS", target(sid=raw.sid), headers)).status == 204
        assert other.passed == before


@pytest.mark.parametrize("suffix", [".9", ".999999999", ".0", ".1234567890", ".-1", ".1.2", ".", "./2", ".%32"])
async def test_an_id_that_names_no_worker_is_an_unknown_id(workers: list[Worker], suffix: str) -> None:
    other = workers[1]
    before = gone_on(other)
    answer = await request(other.port, "GET", target(sid="abcdefghijklmnopqrst" + suffix))
    assert (answer.status, answer.code) == (400, 1)
    assert gone_on(other) == before


async def test_an_unknown_id_of_a_living_worker_is_refused_there(workers: list[Worker]) -> None:
    answer = await request(workers[1].port, "GET", target(sid="abcdefghijklmnopqrst.1"))
    assert (answer.status, answer.code) == (400, 1)


async def test_other_routes_with_such_a_parameter_stay(workers: list[Worker]) -> None:
    before = workers[1].passed
    assert (await request(workers[1].port, "GET", "/shop?sid=abcdefghijklmnopqrst.1")).status == 404
    assert workers[1].passed == before


async def test_a_mounted_server() -> None:
    def mounted(io: waypost.Server) -> Starlette:
        return Starlette(routes=[Mount("/api/v1", Starlette(routes=[Mount(PATH, io)]))])

    async with serving_workers(2, mounted) as (home, other):
        where = "/api/v1" + target()
        opened = await request(home.port, "GET", where)
        sid = json.loads(opened.body[1:])["sid"]
        assert (await request(other.port, "POST", f"{where}&sid={sid}", None, b"40")).status == 200
        assert (await request(other.port, "GET", f"{where}&sid={sid}")).body.startswith(b"40")
        assert other.passed == (2, 2, 0, 0)


async def test_jsonp_and_the_old_revision() -> None:
    async with serving_workers(2, make=lambda: waypost.Server(drain_s=0.0, allow_jsonp=True, allow_eio3=True)) as (
        home,
        other,
    ):
        where = target(EIO="3", j="0")
        opened = await request(home.port, "GET", where)
        sid = opened.body.partition(b'sid\\":\\"')[2].partition(b"\\")[0].decode()
        assert sid.endswith(".1"), opened.body
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        body = b"d=13:420%5B%22worker%22%5D"
        assert (await request(other.port, "POST", f"{where}&sid={sid}", form, body)).status == 200
        polled = await request(other.port, "GET", f"{where}&sid={sid}")
        assert polled.status == 200
        assert polled.body.startswith(b"___eio[0](")
        assert other.passed == (2, 2, 0, 0)


async def test_a_worker_that_is_gone() -> None:
    async with serving_workers(3) as (home, other, third), joined(home) as raw:
        home.handover.close()
        raw.port = other.port
        answer = await raw.poll()
        assert (answer.status, answer.code) == (400, 1)
        async with joined(third) as living:
            living.port = other.port
            await living.send('421["worker"]')
            assert await living.receive() == "431[3]"


async def test_without_workers_ids_name_nobody() -> None:
    io = waypost.Server(drain_s=0.0)
    async with waypost.testing.serve(io) as site:
        port = int(site.url.rpartition(":")[2])
        async with open_polling(port) as raw:
            assert "." not in raw.sid
            assert len(raw.sid) == 20
