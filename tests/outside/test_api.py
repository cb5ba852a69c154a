"""`waypost.Api` and `waypost.sync.Api` against a service that runs, and against one that fails in each way."""

from __future__ import annotations

import asyncio
import pickle
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

import waypost
from tests.operations.places import SECRET, Place, key, serving
from tests.outside.scripted import BREAK, SILENCE, Scripted, answer, problem, scripted


def api_of(place: Place, **options: Any) -> waypost.Api:
    return waypost.Api(f"{place.site.url}/api", SECRET, **options)


def server(**options: Any) -> waypost.Server:
    io = waypost.Server(drain_s=0, **options)

    @io.on("connect")
    async def connect(socket: waypost.Socket, auth: Any) -> None:
        await socket.join(*(auth or {}).get("rooms", ()))

    io.of("/admin").on("connect", connect)
    return io


async def listening(place: Place, *rooms: str, **options: Any) -> tuple[waypost.Client, asyncio.Queue[Any]]:
    """Connect a client that is in rooms; returns it, and what it gets."""
    got: asyncio.Queue[Any] = asyncio.Queue()
    client = place.site.client(auth={"rooms": rooms}, **options)
    client.on_any(lambda event, *args: got.put_nowait((event, *args)))
    await client.connect()
    return client, got


async def until_end(got: asyncio.Queue[Any]) -> list[Any]:
    """Return what a client gets before the event "end"."""
    events = []
    async with asyncio.timeout(30):
        while (event := await got.get()) != ("end",):
            events.append(event)
    return events


async def test_an_event_reaches_the_clients_that_are_addressed_in_order() -> None:
    async with serving(server()) as place, api_of(place) as api:
        _, in_a = await listening(place, "a")
        client, in_both = await listening(place, "a", "b")
        _, admin = await listening(place, "a", namespace="/admin")
        await api.emit("all", 1, {"deep": [None, "ä"]})
        await api.to("a").except_("b").emit("one", datetime(2026, 11, 30, tzinfo=UTC))
        await api.in_("b").to("c").emit("two")
        await api.of("/admin").to("a").emit("sold", 7)
        await api.volatile.emit("all", 2)
        # As python-socketio's emitters are called.
        await api.emit("three", data={"foo": "bar"}, room="b")
        await api.emit("four", "x", to=["a", "b"], skip_sid=client.id)
        await api.emit("five", to="a", namespace="/admin")
        await api.emit("end")
        await api.emit("end", namespace="/admin")
        both = [("all", 1, {"deep": [None, "ä"]}), ("two",), ("all", 2), ("three", {"foo": "bar"})]
        assert await until_end(in_both) == both
        date = "2026-11-30T00:00:00+00:00"
        assert await until_end(in_a) == [both[0], ("one", date), ("all", 2), ("four", "x")]
        assert await until_end(admin) == [("sold", 7), ("five",)]


async def test_an_event_with_an_id_is_one_event() -> None:
    async with serving(server()) as place, api_of(place) as api:
        _, got = await listening(place)
        for _ in range(3):
            await api.emit("paid", 7, id="注文 7")
        await api.emit("end")
        assert await until_end(got) == [("paid", 7)]


async def test_a_namespace_without_recovery_gets_events_that_have_no_id() -> None:
    async with serving(server(recovery=None)) as place, api_of(place) as api:
        _, got = await listening(place)
        with pytest.raises(waypost.ApiRefused, match="idempotency_not_supported"):
            await api.emit("paid", 7, id="7")
        await api.emit("paid", 8)
        await api.emit("end")
        assert await until_end(got) == [("paid", 8)]


async def test_clients_join_leave_are_listed_and_disconnected() -> None:
    async with serving(server()) as place, api_of(place) as api:
        client, _ = await listening(place)
        other, _ = await listening(place)
        await api.to(client.id or "").sockets_join("vip", 7)
        await api.in_("vip").sockets_leave(7)
        page = await api.sockets(room="vip")
        assert [(one.id, set(one.rooms)) for one in page.sockets] == [(client.id, {client.id, "vip"})]
        assert page.missing_servers == []
        first, second = sorted(str(one.id) for one in (client, other))
        assert [one.id for one in (await api.sockets(limit=1)).sockets] == [first]
        assert [one.id for one in (await api.sockets(after=first)).sockets] == [second]
        gone = asyncio.Event()
        client.on("disconnect", lambda *_: gone.set())
        await api.to("vip").disconnect_sockets(close=True)
        await asyncio.wait_for(gone.wait(), 30)
        state = await api.state()
        assert (state.is_ready, state.phase, state.sockets["/"]) == (True, "running", 1)
        assert state.journals["/"].events == 0


async def test_queues_are_filled_looked_at_and_managed() -> None:
    io = server()
    async with serving(io) as place, api_of(place) as api:
        await io.queue("mails").get_consumer().create()
        mails = api.queue("mails")
        assert mails.name == "mails"
        for is_repeat in (False, True):
            receipt = await mails.emit("receipt", "ann", id="注文 7", key="ann", headers={"tenant": "7"})
            assert receipt == ("注文 7", 1, is_repeat)
        with pytest.raises(waypost.ApiRefused, match="id_reused"):
            await mails.emit("receipt", "bob", id="注文 7")
        assert (await mails.emit("receipt", "bob", delay_s=600, ttl_s=60)).offset == 0
        second = await mails.emit("receipt", "cyd")
        (one,) = await mails.peek(limit=1)
        assert (one.id, one.key, one.event, one.args, one.headers) == (
            "注文 7", "ann", "receipt", ["ann"], {"tenant": "7"},
        )  # fmt: skip
        assert one.enqueued_at.tzinfo is not None
        assert [message.id for message in await mails.peek(after=1)] == [second.id]
        info = await mails.info()
        assert (info.name, info.messages, info.delayed, info.consumers) == ("mails", 2, 1, 1)
        assert [one.name for one in await api.queue_infos()] == ["mails"]
        assert await api.queue_infos(prefix="other") == []
        (consumer,) = await mails.consumers()
        assert (consumer.name, consumer.waiting) == ("default", 2)
        assert await mails.purge(upto=1) == 1
        await mails.get_consumer().seek("new")
        assert (await mails.consumers())[0].waiting == 0
        await mails.get_consumer().pause(until=datetime(2126, 1, 1, tzinfo=UTC))
        assert (await mails.consumers())[0].paused_until == datetime(2126, 1, 1, tzinfo=UTC)
        await mails.get_consumer().resume()
        await mails.pause()
        assert (await mails.info()).paused_until is not None
        await mails.resume()
        assert await mails.purge() > 0
        info = await mails.info()
        assert (info.messages, info.delayed) == (0, 0)
        with pytest.raises(waypost.ApiRefused, match="unknown_consumer") as refused:
            await mails.get_consumer("nobody").seek("oldest")
        assert (refused.value.status, refused.value.code) == (404, "unknown_consumer")


async def test_dead_letters_are_listed_redriven_and_discarded() -> None:
    io = server(queues=waypost.QueueOptions(max_failures=1))
    tries: asyncio.Queue[str] = asyncio.Queue()

    @io.consumer("mails")
    async def work(message: waypost.Message) -> None:
        tries.put_nowait(message.id)
        raise waypost.Reject("no such address")

    async with serving(io) as place, api_of(place) as api:
        mails = api.queue("mails")

        async def letters(count: int) -> list[waypost.DeadLetter]:
            async with asyncio.timeout(30):
                while len(found := await mails.dead_letters(consumer="default")) != count:
                    await asyncio.sleep(0.01)
            return found

        await mails.emit("receipt", "ann", id="1")
        (letter,) = await letters(1)
        assert (letter.args, letter.reason, letter.history[-1].reason) == (["ann"], "no such address", letter.reason)
        assert await mails.redrive(numbers=[letter.number]) == 1
        async with asyncio.timeout(30):
            assert [await tries.get(), await tries.get()] == ["1", "1"]
        await letters(1)
        assert await mails.discard_dead_letters() == 1
        await letters(0)


async def test_what_the_service_refuses_is_an_error_with_its_data() -> None:
    io = server(queues=waypost.QueueOptions(max_messages=1))
    async with serving(io, [key(scopes=["emit", "queues:write"], rooms=["a"])]) as place, api_of(place) as api:
        with pytest.raises(waypost.ApiRefused) as refused:
            await api.state()
        assert (refused.value.status, refused.value.code) == (403, "scope_missing")
        assert "state:read" in str(refused.value)
        assert SECRET not in str(refused.value)
        with pytest.raises(waypost.ApiRefused, match="name_not_allowed"):
            await api.to("b").emit("x")
        with pytest.raises(waypost.ApiRefused, match="unknown_namespace"):
            await api.of("/nowhere").to("a").emit("x")
        copy = pickle.loads(pickle.dumps(refused.value))
        assert (str(copy), copy.code) == (str(refused.value), "scope_missing")
        await api.queue("q").emit("x")
        with pytest.raises(waypost.QueueFull) as full:
            await api.queue("q").emit("x")
        assert (full.value.queue, full.value.messages, full.value.max_messages) == ("q", 1, 1)
        async with waypost.Api(f"{place.site.url}/api", "another-key") as stranger:
            with pytest.raises(waypost.ApiRefused, match="key_unknown"):
                await stranger.emit("x")
        async with waypost.Api(place.site.url, SECRET) as astray:
            with pytest.raises(waypost.ApiRefused, match="check the URL"):
                await astray.emit("x")


@pytest.mark.parametrize(
    ("error", "call"),
    [
        (waypost.ConfigurationError, lambda api: api.to(None).emit("x")),
        (waypost.ConfigurationError, lambda api: api.emit("x", namespace="admin")),
        (waypost.ConfigurationError, lambda api: api.emit("x", id="")),
        (waypost.ConfigurationError, lambda api: api.queue("")),
        (waypost.ConfigurationError, lambda api: api.queue("q").emit("x", ttl_s=0)),
        (waypost.ConfigurationError, lambda api: api.queue("q").emit("x", delay_s=-1)),
        (waypost.ConfigurationError, lambda api: api.queue("q").get_consumer().seek("tomorrow")),
        (waypost.EncodingFailed, lambda api: api.emit("connect")),
        (waypost.EncodingFailed, lambda api: api.emit("x", object())),
        (waypost.EncodingFailed, lambda api: api.emit("x", {"deep": [b"bytes"]})),
    ],
)
async def test_what_can_not_be_sent_is_told_before_it_is(error: type[Exception], call: Any) -> None:
    async with scripted() as service, waypost.Api(service.url, "k") as api:
        with pytest.raises(error):
            await call(api)
        assert service.requests == []


@pytest.mark.parametrize(
    ("url", "secret", "options"),
    [
        ("shop", "k", {}),
        ("ftp://shop", "k", {}),
        ("http://ann:secret@shop/api", "k", {}),
        ("http://shop/api?key=7", "k", {}),
        ("http://shop/api", "", {}),
        ("http://shop/api", "hidden\n", {}),
        ("http://shop/api", "k", {"timeout_s": 0}),
        ("http://shop/api", "k", {"retries": -1}),
        ("http://shop/api", "k", {"ssl": True}),
    ],
)
def test_wrong_options_are_told_at_once_and_show_no_key(url: str, secret: str, options: dict[str, Any]) -> None:
    with pytest.raises(waypost.ConfigurationError) as wrong:
        waypost.Api(url, secret, **options)
    assert "hidden" not in str(wrong.value)


async def ids_of(service: Scripted) -> set[Any]:
    return {body["id"] for _, _, body in service.requests}


@pytest.mark.parametrize(
    "failures",
    [
        [problem(503, "store_unavailable")],
        [problem(503, "uncertain")],
        [problem(429, "too_many_requests", "0")],
        [answer(502, b"Bad Gateway", "text/html")],
        [answer(503, b"Worker unavailable", "text/plain")],
        [BREAK],
        [BREAK, BREAK, problem(500, "internal_error")],
    ],
)
async def test_what_passes_is_tried_again_with_the_same_id(failures: list[bytes]) -> None:
    async with scripted() as service, waypost.Api(service.url, "k") as api:
        service.script = list(failures)
        await api.emit("paid", 7)
        assert len(service.requests) == len(failures) + 1
        assert len(await ids_of(service)) == 1
        service.script = [*failures, answer(201, b'{"id": "7", "offset": 1, "duplicate": false}')]
        service.requests.clear()
        assert await api.queue("mails").emit("mail", id="7") == ("7", 1, False)
        assert await ids_of(service) == {"7"}


async def test_what_does_not_pass_is_told_with_what_is_known() -> None:
    async with scripted() as service, waypost.Api(service.url, "k", retries=1) as api:
        service.script = [BREAK, BREAK]
        with pytest.raises(waypost.StorageUncertain) as uncertain:
            await api.queue("mails").emit("mail", id="7")
        assert (uncertain.value.ids, len(service.requests)) == (("7",), 2)
        assert "add the messages again with the same ids" in str(uncertain.value)
        # It may have been done at the first try, whatever the second one says.
        service.script = [BREAK, problem(503, "store_unavailable")]
        with pytest.raises(waypost.StorageUncertain):
            await api.emit("paid", id="7")
        service.script = [problem(503, "store_unavailable")] * 2
        with pytest.raises(waypost.ApiUnavailable) as unavailable:
            await api.emit("paid")
        assert (unavailable.value.status, unavailable.value.code) == (503, "store_unavailable")
        service.requests.clear()
        service.script = [problem(503, "store_full", "10")]
        with pytest.raises(waypost.StoreFull):
            await api.emit("paid")
        service.script = [problem(429, "too_many_requests", "3600")]
        with pytest.raises(waypost.ApiUnavailable) as busy:
            await api.emit("paid")
        assert busy.value.retry_after_s == 3600
        assert len(service.requests) == 2, "neither would have passed in time"
        service.script = [problem(422, "bad_value", argument="id", expected="text")]
        with pytest.raises(waypost.ConfigurationError, match="expected text"):
            await api.emit("paid")


async def test_what_could_be_done_twice_is_sent_once() -> None:
    async with scripted() as service, waypost.Api(service.url, "k") as api:
        service.script = [BREAK]
        with pytest.raises(waypost.StorageUncertain):
            await api.volatile.emit("paid")
        service.script = [problem(422, "idempotency_not_supported"), BREAK]
        with pytest.raises(waypost.StorageUncertain):
            await api.emit("paid")
        assert ["id" in body for _, _, body in service.requests] == [False, True, False]
        service.requests.clear()
        for failure in (BREAK, answer(504, b"", "text/html"), problem(503, "uncertain")):
            service.script = [failure]
            with pytest.raises(waypost.StorageUncertain):
                await api.queue("mails").redrive()
        assert len(service.requests) == 3
        service.script = [problem(503, "store_unavailable"), answer(200, b'{"redriven": 2}')]
        assert await api.queue("mails").redrive() == 2


async def test_a_redirect_does_not_get_the_key() -> None:
    async with scripted() as elsewhere, scripted() as service, waypost.Api(service.url, "k") as api:
        service.script = [answer(307, b"", Location=f"{elsewhere.url}/emit")]
        with pytest.raises(waypost.ApiRefused, match="redirect to"):
            await api.emit("paid")
        assert elsewhere.requests == []


async def test_a_service_that_says_nothing_is_waited_for_no_longer_than_told() -> None:
    async with scripted() as service, waypost.Api(service.url, "k", timeout_s=0.2) as api:
        service.script = [SILENCE]
        with pytest.raises(waypost.StorageUncertain, match="no answer came within"):
            await api.emit("paid")
        service.script = [SILENCE]
        with pytest.raises(waypost.ApiUnavailable, match="no answer came within"):
            await api.state()


async def test_a_service_that_is_not_there_is_told_and_found_when_it_comes() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with waypost.Api(f"http://127.0.0.1:{port}/api/", "k", retries=1) as api:
        with pytest.raises(waypost.ApiUnavailable, match="can't be reached") as gone:
            await api.emit("paid")
        assert gone.value.status is None
        assert isinstance(gone.value, waypost.StorageError), "as of an emitter, so code that tries again may stay"
        service = Scripted()
        running = await asyncio.start_server(service.serve, "127.0.0.1", port)
        try:
            await api.emit("paid")
            assert [path for _, path, _ in service.requests] == ["/api/emit"]
        finally:
            running.close()


async def test_names_in_paths_may_have_any_character() -> None:
    async with serving(server()) as place, api_of(place) as api:
        for name in ("a/b", "注文:東京", "a b%25?#", "..", "ü"):
            await api.queue(name).emit("x", id=name)
            assert [one.id for one in await api.queue(name).peek()] == [name]
            assert (await api.queue(name).info()).name == name


async def test_another_event_loop_is_told_and_a_later_one_is_served() -> None:
    async with scripted() as service:
        api = waypost.Api(service.url, "k")
        await api.emit("paid")
        wrong: list[BaseException] = []

        def elsewhere() -> None:
            try:
                asyncio.run(api.emit("paid"))
            except waypost.WrongEventLoop as error:
                wrong.append(error)

        await asyncio.to_thread(elsewhere)
        assert "waypost.sync.Api" in str(wrong[0])
        await api.close()
        await api.emit("paid", id="after close")
        await api.close()


_FORKING = """
import multiprocessing, os, sys
import waypost

api = waypost.sync.Api(sys.argv[1], "k")
api.emit("paid", id="before")
child = multiprocessing.get_context("fork").Process(target=lambda: api.emit("paid", id=f"in {os.getpid()}"))
child.start()
child.join()
api.emit("paid", id="after")
api.close()
print(child.pid, child.exitcode)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
async def test_one_that_was_used_before_a_fork_works_in_each_process() -> None:
    async with scripted() as service:
        program = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "ignore::DeprecationWarning", "-c", _FORKING, service.url, stdout=subprocess.PIPE
        )
        told, _ = await program.communicate()
        pid, code = map(int, told.split())
        assert code == 0
        assert [body["id"] for _, _, body in service.requests] == ["before", f"in {pid}", "after"]


def test_the_blocking_api_serves_several_threads() -> None:
    with _Running() as service:
        api = waypost.sync.Api(service.url, "k")
        api.emit("paid", room="a", id="main")
        threads = [threading.Thread(target=api.emit, args=("paid",), kwargs={"id": str(n)}) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        api.to("a").except_("b").volatile.emit("paid", id="target")
        api.close()
        api.emit("paid", id="again")
        with waypost.sync.Api(service.url, "k") as other:
            other.of("/admin").emit("paid", id="admin")
        api.close()
        got = sorted(body["id"] for _, _, body in service.requests)
        room = service.requests[0][2]["rooms"]
    assert room == ["a"]
    assert got == sorted(["main", *map(str, range(4)), "target", "again", "admin"])


class _Running:
    """A scripted service in a thread, for callers without asyncio."""

    def __enter__(self) -> Scripted:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._service = scripted()
        return asyncio.run_coroutine_threadsafe(self._service.__aenter__(), self._loop).result(30)

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._service.__aexit__(None, None, None), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()
