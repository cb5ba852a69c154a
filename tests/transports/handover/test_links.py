"""Workers that are stuck, die, or say nonsense, as the worker that hands over to them sees it."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import AsyncIterator

import pytest

from tests.support.mesh import MeshPeers, Worker, serving_workers
from tests.support.raw import WAIT_S, Answer, join, open_polling, request, request_bytes, target
from tests.support.waiting import until
from waypost.transports.handover import link as link_module
from waypost.transports.handover.passed import Kind, Passed, pack, pack_answer, unpack

pytestmark = pytest.mark.asyncio

_ID = "abcdefghijklmnopqrst.7"


class Fake:
    """A worker with number 7 that does what a test says.

    Attributes:
        sock: Its end of the link.
    """

    def __init__(self, peers: MeshPeers) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.sock = ours
        assert peers.came is not None
        peers.came(7, theirs)

    async def take(self) -> tuple[Passed, socket.socket]:
        """Read a connection."""
        await until(self._has_come, "a connection comes")
        data, descriptors, _, _ = socket.recv_fds(self.sock, 65_536, 1)
        frame = unpack(bytearray(data))
        assert frame is not None
        assert frame[0] is Kind.CONNECTION
        return frame[1], socket.socket(fileno=descriptors[0])

    def _has_come(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            return bool(self.sock.recv(1, socket.MSG_PEEK))
        return False

    async def answer(self, *, taken: bool) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, pack_answer(taken=taken))


@contextlib.asynccontextmanager
async def beside_a_fake(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Worker, Fake]]:
    async with serving_workers(1) as (worker,):
        peers = worker.handover._peers
        assert isinstance(peers, MeshPeers)
        fake = Fake(peers)
        try:
            yield worker, fake
        finally:
            fake.sock.close()


def ask(worker: Worker) -> asyncio.Task[Answer]:
    return asyncio.get_running_loop().create_task(request(worker.port, "GET", target(sid=_ID)))


async def test_a_stuck_worker_gives_503_and_is_asked_again_once_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "_TAKE_TIMEOUT_S", 0.1)
    async with beside_a_fake(monkeypatch) as (worker, fake):
        assert (await ask(worker)).status == 503
        # It is known to be stuck now, and nobody waits for it.
        monkeypatch.setattr(link_module, "_TAKE_TIMEOUT_S", 1_000.0)
        assert (await ask(worker)).status == 503
        assert worker.passed == (2, 2, 0, 2)
        _, late = await fake.take()
        with pytest.raises(BrokenPipeError):
            late.send(b"")
        late.close()
        await fake.answer(taken=True)
        asking = ask(worker)
        passed, sock = await fake.take()
        await fake.answer(taken=True)
        assert passed.data == request_bytes("GET", target(sid=_ID))
        sock.send(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello")
        sock.close()
        assert (await asking).body == b"hello"


async def test_a_client_whose_connection_was_not_taken_gets_503(monkeypatch: pytest.MonkeyPatch) -> None:
    async with beside_a_fake(monkeypatch) as (worker, fake):
        asking = ask(worker)
        _, sock = await fake.take()
        sock.close()
        await fake.answer(taken=False)
        assert (await asking).status == 503


async def test_a_worker_that_dies_before_it_takes_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async with beside_a_fake(monkeypatch) as (worker, fake):
        asking = [ask(worker) for _ in range(3)]
        _, sock = await fake.take()
        sock.close()
        fake.sock.close()
        for one in asking:
            answer = await one
            assert (answer.status, answer.code) == (400, 1)
        later = await ask(worker)
        assert (later.status, later.code) == (400, 1)


async def test_only_so_many_wait_for_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "_MAX_WAITING", 3)
    async with beside_a_fake(monkeypatch) as (worker, fake):
        waiting = [ask(worker) for _ in range(3)]
        await until(lambda: worker.passed[0] == 3, "three wait")
        assert (await ask(worker)).status == 503
        for _ in waiting:
            _, sock = await fake.take()
            sock.send(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
            sock.close()
            await fake.answer(taken=True)
        assert [(await one).status for one in waiting] == [204] * 3


async def test_only_so_many_bytes_wait_for_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "_MAX_WAITING_BYTES", 1_500_000)
    async with beside_a_fake(monkeypatch) as (worker, _):
        writers = []
        whole = request_bytes("POST", target(sid=_ID), None, b"x" * 200_000)
        async with asyncio.timeout(WAIT_S):
            while not worker.passed[3]:
                _, writer = await asyncio.open_connection("127.0.0.1", worker.port)
                writer.write(whole)
                writers.append(writer)
                await asyncio.sleep(0.01)
        assert len(writers) >= 7
        for writer in writers:
            writer.transport.abort()


async def test_a_worker_that_talks_nonsense_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    for nonsense in (b"GET / HTTP/1.1\r\n\r\n", pack_answer(taken=True), b"\x02" + pack(Passed(b""))[1:]):
        async with beside_a_fake(monkeypatch) as (worker, fake):
            fake.sock.send(nonsense)
            await until(lambda: not worker.handover._links, "the link is closed")
            assert (await request(worker.port, "GET", target())).status == 200


async def test_a_worker_without_descriptors_takes_nothing_and_stays_in_step(monkeypatch: pytest.MonkeyPatch) -> None:
    async with beside_a_fake(monkeypatch) as (_, fake):
        frame = pack(Passed(request_bytes("GET", target())))
        client, server = socket.socketpair()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        socket.send_fds(fake.sock, [frame], [server.fileno()])
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            await until(fake._has_come, "an answer comes")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert fake.sock.recv(65_536) == pack_answer(taken=False)
        socket.send_fds(fake.sock, [frame], [server.fileno()])
        server.close()
        await until(fake._has_come, "an answer comes")
        assert fake.sock.recv(65_536) == pack_answer(taken=True)
        reader, writer = await asyncio.open_connection(sock=client)
        async with asyncio.timeout(WAIT_S):
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_new_sessions_at_a_worker_that_leaves_go_to_one_that_stays() -> None:
    async with serving_workers(3) as (leaving, other, _):
        leaving.handover.is_leaving = lambda: True
        leaving.handover._leaving(3)
        for _ in range(3):
            async with open_polling(leaving.port) as raw:
                assert raw.sid.endswith(".2")
        assert leaving.passed == (0, 3, 0, 0)
        assert other.passed == (0, 0, 0, 0)


async def test_workers_that_all_leave_do_not_pass_a_request_to_and_fro() -> None:
    async with serving_workers(3) as workers:
        for worker in workers:
            worker.handover.is_leaving = lambda: True
        assert (await request(workers[0].port, "GET", target())).status == 200
        assert [worker.passed[1] for worker in workers] == [1, 0, 0]


async def test_what_a_worker_said_before_it_ended_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    async with beside_a_fake(monkeypatch) as (worker, fake):
        asking = ask(worker)
        _, sock = await fake.take()
        fake.sock.send(pack_answer(taken=True))
        worker.handover._gone(7)
        sock.send(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello")
        sock.close()
        assert (await asking).body == b"hello"


async def test_the_rest_of_a_body_of_which_much_came_along(monkeypatch: pytest.MonkeyPatch) -> None:
    async with beside_a_fake(monkeypatch) as (worker, fake), open_polling(worker.port) as raw:
        await join(raw)
        for number in range(10):
            whole = request_bytes("POST", target(sid=raw.sid), None, b'42%d["size","%s"]' % (number, b"x" * 900_000))
            client, server = socket.socketpair()
            frame = pack(Passed(whole[:300_000]))
            sent = socket.send_fds(fake.sock, [frame], [server.fileno()])
            server.close()
            await asyncio.get_running_loop().sock_sendall(fake.sock, frame[sent:])
            reader, writer = await asyncio.open_connection(sock=client)
            writer.write(whole[300_000:])
            async with asyncio.timeout(WAIT_S):
                assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
            writer.close()
            assert await raw.receive() == f"43{number}[900000]"
