"""The HTTP API over a real connection: what each operation does, and what is refused."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yarl

import waypost
from tests.operations.places import ALL, SECRET, Place, key, serving
from waypost.operations.http.api_keys import digest_of

OPERATIONS = [
    ("POST", "/emit", {"event": "news"}, "emit"),
    ("POST", "/sockets/disconnect", {"rooms": None}, "sockets:manage"),
    ("POST", "/sockets/join", {"rooms": None, "change": ["a"]}, "sockets:manage"),
    ("POST", "/sockets/leave", {"rooms": None, "change": ["a"]}, "sockets:manage"),
    ("GET", "/sockets", None, "sockets:read"),
    ("GET", "/queues", None, "queues:read"),
    ("GET", "/queues/q", None, "queues:read"),
    ("GET", "/queues/q/messages", None, "queues:read"),
    ("POST", "/queues/q/messages", {"event": "mail"}, "queues:write"),
    ("GET", "/queues/q/dead-letters", None, "queues:read"),
    ("DELETE", "/queues/q/dead-letters", None, "queues:manage"),
    ("POST", "/queues/q/redrive", {}, "queues:manage"),
    ("POST", "/queues/q/purge", {"upto": None}, "queues:manage"),
    ("POST", "/queues/q/pause", {}, "queues:manage"),
    ("POST", "/queues/q/resume", {}, "queues:manage"),
    ("POST", "/queues/q/seek", {"to": "oldest"}, "queues:manage"),
    ("GET", "/state", None, "state:read"),
]
DONE = (200, {"duplicate": False})


@pytest.mark.parametrize(("method", "path", "body", "scope"), OPERATIONS)
async def test_each_operation_needs_its_scope(method: str, path: str, body: Any, scope: str) -> None:
    one, others = digest_of("one"), digest_of("others")
    keys = [
        key(name="one", sha256=one, scopes=[scope]),
        key(name="others", sha256=others, scopes=[other for other in ALL if other != scope]),
    ]
    io = waypost.Server()
    async with serving(io, keys) as place:
        await io.queue("q").get_consumer().create()
        assert (await place.ask(method, path, body, secret="one"))[0] in (200, 201)
        status, problem = await place.ask(method, path, body, secret="others")
        assert (status, problem["code"]) == (403, "scope_missing")
        status, problem = await place.ask(method, path, body, secret=None)
        assert (status, problem["code"]) == (401, "key_missing")
        status, problem = await place.ask(method, path, body, secret="another")
        assert (status, problem["code"]) == (401, "key_unknown")
        assert "another" not in json.dumps(problem)


async def client_of(place: Place) -> tuple[waypost.Client, asyncio.Queue[tuple[Any, ...]]]:
    client = await place.site.connect()
    got: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()
    client.on("news", lambda *args: got.put_nowait(args))
    return client, got


async def test_emits_reach_rooms_and_all() -> None:
    io = waypost.Server()
    joined: list[str] = []

    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        await socket.join(f"client {len(joined)}")
        joined.append(socket.id)

    async with serving(io) as place:
        _, first = await client_of(place)
        _, second = await client_of(place)
        assert await place.ask("POST", "/emit", {"event": "news", "args": [1], "rooms": ["client 0"]}) == DONE
        assert await place.ask("POST", "/emit", {"event": "news", "args": [2], "except": ["client 0"]}) == DONE
        assert await place.ask("POST", "/emit", {"event": "news", "args": [3, {"a": []}]}) == DONE
        async with asyncio.timeout(60):
            assert [await first.get(), await first.get()] == [(1,), (3, {"a": []})]
            assert [await second.get(), await second.get()] == [(2,), (3, {"a": []})]


async def test_sockets_join_leave_and_are_disconnected() -> None:
    io = waypost.Server()
    async with serving(io) as place:
        client, _ = await client_of(place)
        await place.ask("POST", "/sockets/join", {"rooms": [client.id], "change": ["vip", "a"]})
        await place.ask("POST", "/sockets/leave", {"rooms": ["vip"], "change": ["a"]})
        status, found = await place.ask("GET", "/sockets?room=vip")
        assert status == 200
        assert [(one["id"], one["rooms"]) for one in found["sockets"]] == [
            (client.id, sorted([str(client.id), "vip"]))
        ]
        assert (await place.ask("GET", f"/sockets?after={client.id}"))[1]["sockets"] == []
        gone = asyncio.Event()
        client.on("disconnect", lambda *_: gone.set())
        assert await place.ask("POST", "/sockets/disconnect", {"rooms": ["vip"]}) == (200, {})
        await asyncio.wait_for(gone.wait(), 60)
        assert (await place.ask("GET", "/state"))[1]["sockets"].get("/", 0) == 0


async def test_a_message_with_an_idempotency_key_is_one_message() -> None:
    async with serving(waypost.Server()) as place:
        body = {"event": "mail", "args": ["ann"], "headers": {"tenant": "7"}}
        first = await place.ask("POST", "/queues/mails/messages", body, Idempotency_Key="receipt 7")
        again = await place.ask("POST", "/queues/mails/messages", body, Idempotency_Key="receipt 7")
        assert first == (201, {"id": "receipt 7", "offset": 1, "duplicate": False})
        assert again == (200, {"id": "receipt 7", "offset": 1, "duplicate": True})
        found = (await place.ask("GET", "/queues/mails/messages"))[1]["messages"]
        assert [(one["id"], one["args"], one["headers"]) for one in found] == [
            ("receipt 7", ["ann"], {"tenant": "7"})
        ]
        status, problem = await place.ask(
            "POST", "/queues/mails/messages", {**body, "id": "other"}, Idempotency_Key="receipt 7"
        )
        assert (status, problem["code"]) == (422, "two_ids")


async def test_a_repeated_idempotency_key_is_one_message_after_a_restart(tmp_path: Path) -> None:
    for expected in (201, 200):
        async with serving(waypost.Server(store=tmp_path / "shop.db")) as place:
            answer = await place.ask("POST", "/queues/mails/messages", {"event": "mail"}, Idempotency_Key="7")
            assert answer == (expected, {"id": "7", "offset": 1, "duplicate": expected == 200})


async def test_queues_are_listed_page_by_page() -> None:
    async with serving(waypost.Server()) as place:
        for name in ("a", "b", "c"):
            for _ in range(3):
                await place.ask("POST", f"/queues/{name}/messages", {"event": "mail"})
        first = (await place.ask("GET", "/queues?limit=2"))[1]["queues"]
        assert [(one["name"], one["messages"]) for one in first] == [("a", 3), ("b", 3)]
        assert [one["name"] for one in (await place.ask("GET", "/queues?limit=2&after=b"))[1]["queues"]] == ["c"]
        for name in ("b:", "b:1", "b:注", "b;", "b:~"):
            await place.ask("POST", f"/queues/{name}/messages", {"event": "mail"})
        for query, names in (
            ("prefix=b", ["b", "b:", "b:1", "b:~", "b:注", "b;"]),
            ("prefix=b:", ["b:", "b:1", "b:~", "b:注"]),
            ("prefix=b:&limit=2", ["b:", "b:1"]),
            ("prefix=b:&after=b:1", ["b:~", "b:注"]),
            ("prefix=d", []),
        ):
            found = (await place.ask("GET", f"/queues?{query}"))[1]["queues"]
            assert [one["name"] for one in found] == names
        page = (await place.ask("GET", "/queues/a/messages?limit=1&after=1"))[1]["messages"]
        assert [one["offset"] for one in page] == [2]
        assert (await place.ask("GET", "/queues?limit=0"))[0] == 422
        assert (await place.ask("GET", "/queues?lmit=1"))[0] == 422


async def test_a_paused_queue_takes_messages_and_delivers_none_until_it_is_resumed() -> None:
    io = waypost.Server()
    got: asyncio.Queue[str] = asyncio.Queue()

    @io.consumer("mails")
    async def work(message: waypost.Message) -> None:
        got.put_nowait(message.id)

    async with serving(io) as place:
        assert await place.ask("POST", "/queues/mails/pause") == (200, {})
        assert (await place.ask("POST", "/queues/mails/messages", {"event": "mail", "id": "1"}))[0] == 201
        info = (await place.ask("GET", "/queues/mails"))[1]["queue"]
        assert (info["messages"], info["paused_until"] is not None, info["in_flight"]) == (1, True, 0)
        assert got.empty()
        assert await place.ask("POST", "/queues/mails/resume", {}) == (200, {})
        assert await asyncio.wait_for(got.get(), 60) == "1"


async def test_dead_letters_are_listed_redriven_and_deleted() -> None:
    io = waypost.Server(queues=waypost.QueueOptions(max_failures=1))
    tries: asyncio.Queue[str] = asyncio.Queue()

    @io.consumer("mails")
    async def work(message: waypost.Message) -> None:
        tries.put_nowait(message.id)
        raise waypost.Reject("no such address")

    async def letters(place: Place, count: int) -> list[Any]:
        async with asyncio.timeout(60):
            while len(found := (await place.ask("GET", "/queues/mails/dead-letters"))[1]["dead_letters"]) != count:
                await asyncio.sleep(0.01)
        return list(found)

    async with serving(io) as place:
        await place.ask("POST", "/queues/mails/messages", {"event": "mail", "args": ["ann"], "id": "1"})
        (letter,) = await letters(place, 1)
        assert (letter["args"], letter["reason"], letter["consumer"]) == (["ann"], "no such address", "default")
        status, done = await place.ask("POST", "/queues/mails/redrive", {"numbers": [letter["number"]]})
        assert (status, done) == (200, {"redriven": 1})
        async with asyncio.timeout(60):
            assert [await tries.get(), await tries.get()] == ["1", "1"]
        await letters(place, 1)
        assert await place.ask("DELETE", "/queues/mails/dead-letters?consumer=default") == (200, {"discarded": 1})
        await letters(place, 0)


async def test_purge_removes_and_seek_moves() -> None:
    io = waypost.Server()
    async with serving(io) as place:
        for operation, body in (("seek", {"to": "new"}), ("pause", {}), ("resume", {})):
            answer = await place.ask("POST", f"/queues/mails/{operation}", {**body, "consumer": "none"})
            assert (answer[0], answer[1]["code"]) == (404, "unknown_consumer")
        await io.queue("mails").get_consumer().create()
        for _ in range(3):
            await place.ask("POST", "/queues/mails/messages", {"event": "mail"})
        assert await place.ask("POST", "/queues/mails/purge", {"upto": 1}) == (200, {"purged": 1})
        assert (await place.ask("POST", "/queues/mails/purge"))[0] == 422
        for place_in_queue in ("new", "oldest", 2, "2026-11-30T07:00:00+01:00"):
            assert await place.ask("POST", "/queues/mails/seek", {"to": place_in_queue}) == (200, {})
        status, problem = await place.ask("POST", "/queues/mails/seek", {"to": "tomorrow"})
        assert (status, problem["code"], problem["argument"]) == (422, "bad_value", "to")
        assert problem["expected"].startswith('"oldest"')


async def test_a_key_reaches_only_the_names_of_its_patterns() -> None:
    io = waypost.Server()
    io.of("/admin")
    keys = [key(queues=["mail:*", "x"], rooms=["order *"], namespaces=["/"])]
    async with serving(io, keys) as place:
        for path, body, status in (
            ("/queues/mail:7/messages", {"event": "mail"}, 201),
            ("/queues/other/messages", {"event": "mail"}, 403),
            ("/emit", {"event": "news", "rooms": ["order 7"]}, 200),
            ("/emit", {"event": "news", "rooms": ["order 7", "all"]}, 403),
            ("/emit", {"event": "news"}, 403),
            ("/emit", {"event": "news", "rooms": ["order 7"], "namespace": "/admin"}, 403),
            ("/sockets/join", {"rooms": ["order 7"], "change": ["admins"]}, 403),
            ("/sockets/join", {"rooms": ["order 7"], "change": ["order 8"]}, 200),
        ):
            assert (await place.ask("POST", path, body))[0] == status
        assert (await place.ask("GET", "/queues"))[0] == 403
        assert (await place.ask("GET", "/queues?prefix=mail"))[0] == 403
        assert (await place.ask("GET", "/queues?prefix=mail:7"))[0] == 200
        assert (await place.ask("GET", "/sockets"))[0] == 403


async def test_a_key_sees_no_other_rooms_of_a_socket() -> None:
    other = digest_of("other")
    async with serving(waypost.Server(), [key(), key(name="other", sha256=other, rooms=["order *"])]) as place:
        client, _ = await client_of(place)
        await place.ask("POST", "/sockets/join", {"rooms": [client.id], "change": ["order 7", "vip"]})
        for secret, rooms in ((SECRET, sorted([str(client.id), "order 7", "vip"])), ("other", ["order 7"])):
            status, found = await place.ask("GET", "/sockets?room=order%207", secret=secret)
            assert (status, [one["rooms"] for one in found["sockets"]]) == (200, [rooms])
        assert (await place.ask("GET", "/sockets?room=vip", secret="other"))[0] == 403


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/emit", {"event": "news", "namespace": "/nowhere"}, 404, "unknown_namespace"),
        ("POST", "/emit", {"event": "connect"}, 422, "not_encodable"),
        ("POST", "/emit", {"event": 7}, 422, "bad_body"),
        ("POST", "/emit", {"event": "news", "id": ""}, 422, "bad_body"),
        ("POST", "/queues/q/messages", {"event": "mail", "delay_s": 1e300}, 422, "bad_body"),
        ("POST", f"/queues/{'q' * 1025}/messages", {"event": "mail"}, 422, "bad_value"),
        ("POST", "/batch", {"commands": []}, 422, "bad_body"),
        ("POST", "/batch", {"commands": [{"emit": {"event": "news"}}] * 1001}, 422, "bad_body"),
        ("POST", "/emit", {"event": "news", "room": ["a"]}, 422, "bad_body"),
        ("POST", "/emit", [], 422, "bad_body"),
        ("POST", "/queues/q/messages", {"event": "mail", "ttl_s": 0}, 422, "bad_value"),
        ("POST", "/queues/q/pause", {"until": "2026-11-30T07:00:00"}, 422, "bad_body"),
        ("POST", "/sockets/disconnect", {}, 422, "bad_body"),
        ("GET", "/nothing", None, 404, "not_found"),
        ("GET", "/queues//messages", None, 404, "not_found"),
        ("GET", "/emit", None, 405, "method_not_allowed"),
        ("OPTIONS", "/emit", None, 405, "method_not_allowed"),
        ("GET", "/queues?after=a&after=b", None, 400, "bad_query"),
        ("GET", "/queues?after=%ff", None, 400, "bad_query"),
        ("GET", f"/queues?key={SECRET}", None, 400, "key_in_query"),
    ],
)
async def test_a_request_that_is_wrong_gets_a_problem(
    method: str, path: str, body: Any, status: int, code: str
) -> None:
    async with serving(waypost.Server()) as place:
        got, problem = await place.ask(method, path, body)
        assert (got, problem["code"], problem["status"]) == (status, code, status)
        assert problem["detail"]
        assert problem["type"] == f"urn:waypost:problem:{code}"


async def test_names_in_the_path_may_have_any_character() -> None:
    async with serving(waypost.Server()) as place:
        url = f"{place.site.url}/api/queues/"
        headers = {"Authorization": f"Bearer {SECRET}"}
        for written, name in (("a%2Fb", "a/b"), ("%E6%B3%A8%E6%96%87", "注文"), ("a%20b%25", "a b%")):
            async with place.http.get(yarl.URL(url + written, encoded=True), headers=headers) as answer:
                assert (await answer.json())["queue"]["name"] == name


async def test_large_bodies_and_other_types_are_refused() -> None:
    async with serving(waypost.Server(), max_body_bytes=100) as place:
        status, problem = await place.ask("POST", "/emit", {"event": "news", "args": ["x" * 200]})
        assert (status, problem["code"]) == (413, "body_too_large")
        url, headers = f"{place.site.url}/api/emit", {"Authorization": f"Bearer {SECRET}"}
        for data, content_type, status in (
            (b'{"event": "news"}', "text/plain", 415),
            (b"{", "application/json", 400),
            (b'{"event": "\xff"}', "application/json", 400),
            (b'{"event": "news"}', "application/json; charset=utf-8", 200),
        ):
            given = {**headers, "Content-Type": content_type}
            async with place.http.post(url, data=data, headers=given) as answer:
                assert answer.status == status
                assert answer.headers["Cache-Control"] == "no-store"
                assert "Access-Control-Allow-Origin" not in answer.headers


async def test_lists_within_lists_without_end_are_refused() -> None:
    async with serving(waypost.Server()) as place:
        url, headers = f"{place.site.url}/api/emit", {"Authorization": f"Bearer {SECRET}"}
        nested = b"[" * 100_000 + b"]" * 100_000
        data = b'{"event": "news", "args": ' + nested + b"}"
        given = {**headers, "Content-Type": "application/json"}
        async with place.http.post(url, data=data, headers=given) as answer:
            problem = await answer.json(content_type=None)
            assert (answer.status, problem["code"]) == (422, "bad_body")
            assert "recursion" not in problem["detail"]
        async with place.http.post(url, data=b"x", headers={**given, "Content-Encoding": "gzip"}) as answer:
            assert answer.status == 415


@pytest.mark.parametrize(("path", "secret", "status"), [("emit", "wrong", b"401"), ("emit?token=7", SECRET, b"400")])
async def test_a_body_that_nobody_reads_closes_the_connection(path: str, secret: str, status: bytes) -> None:
    async with serving(waypost.Server()) as place:
        url = yarl.URL(place.site.url)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        head = f"POST /api/{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\n"
        writer.write(f"{head}Content-Length: 999999999999\r\n\r\n".encode())
        async with asyncio.timeout(60):
            answer = await reader.read()
        writer.close()
        assert answer.split(b" ")[1] == status
        assert b"connection: close" in answer.lower()


async def test_a_key_that_asks_too_often_is_told_when_to_come_back() -> None:
    async with serving(waypost.Server(), [key(requests_per_s=1)]) as place:
        headers = {"Authorization": f"Bearer {SECRET}"}
        for _ in range(100):  # one of the first two is refused, unless this machine stands still between each two
            async with place.http.get(f"{place.site.url}/api/state", headers=headers) as answer:
                if answer.status == 429:
                    assert answer.headers["Retry-After"] == "1"
                    assert (await answer.json())["code"] == "too_many_requests"
                    return
        pytest.fail("no request was refused")


async def test_a_full_queue_is_told_with_a_time_to_come_back() -> None:
    io = waypost.Server(queues=waypost.QueueOptions(max_messages=1, overflow="refuse"))
    async with serving(io) as place:
        assert (await place.ask("POST", "/queues/q/messages", {"event": "mail"}))[0] == 201
        headers = {"Authorization": f"Bearer {SECRET}"}
        url = f"{place.site.url}/api/queues/q/messages"
        async with place.http.post(url, json={"event": "mail"}, headers=headers) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            assert answer.content_type == "application/problem+json"
            problem = await answer.json()
            assert (problem["code"], problem["retry_after_s"]) == ("queue_full", 1)
            assert (problem["queue"], problem["messages"], problem["max_messages"]) == ("q", 1, 1)


async def test_a_server_that_has_not_started_says_that_there_is_no_store() -> None:
    io = waypost.Server()
    api = io.api(keys=[key()])
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b'{"event": "news"}'}

    async def send(message: Any) -> None:
        sent.append(message)

    for path, method in (("/emit", "POST"), ("/queues", "GET"), ("/sockets", "GET"), ("/queues/q", "GET")):
        headers = [(b"authorization", f"Bearer {SECRET}".encode()), (b"content-type", b"application/json")]
        await api({"type": "http", "method": method, "path": path, "headers": headers}, receive, send)
        assert sent[0]["status"] == 503
        assert json.loads(sent[1]["body"])["code"] == "store_unavailable"
        sent.clear()


async def test_the_key_file_is_read_again_when_it_has_changed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def write(text: str) -> None:
        (tmp_path / "new").write_text(text)
        os.replace(tmp_path / "new", tmp_path / "keys.toml")

    def line(name: str) -> str:
        return f'{name} = {{sha256 = "{digest_of(name)}", scopes = ["state:read"]}}\n'

    async def works(secret: str) -> bool:
        return (await place.ask("GET", "/state", secret=secret))[0] == 200

    write(line("one"))
    async with serving(waypost.Server(), tmp_path / "keys.toml") as place:
        assert (await works("one"), await works("two")) == (True, False)
        write(line("two"))
        assert (await works("one"), await works("two")) == (False, True)
        with caplog.at_level(logging.ERROR):
            write("this is no line")
            assert await works("two")
        assert "the keys of before stay valid" in caplog.text
        write(line("one"))
        assert (await works("one"), await works("two")) == (True, False)


@pytest.mark.parametrize(
    "text",
    [
        "this is no line",
        "a = 7",
        'a = {sha256 = "7", scopes = []}',
        f'a = {{sha256 = "{"0" * 64}", scopes = ["everything"]}}',
        f'a = {{sha256 = "{"0" * 64}", scopes = ["emit"], room = ["b"]}}',
    ],
)
def test_a_wrong_key_file_is_told_at_once(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys.toml").write_text(text)
    with pytest.raises(waypost.ConfigurationError):
        waypost.Server().api(keys=tmp_path / "keys.toml")
    with pytest.raises(waypost.ConfigurationError):
        waypost.Server().api(keys=tmp_path / "none.toml")


async def test_an_unexpected_error_shows_nothing_of_itself(caplog: pytest.LogCaptureFixture) -> None:
    io = waypost.Server()

    def fail() -> Any:
        raise RuntimeError("a secret")

    io.state = fail  # type: ignore[method-assign]  # stands for a defect
    async with serving(io) as place:
        status, problem = await place.ask("GET", "/state")
        assert (status, problem["code"]) == (500, "internal_error")
        assert "a secret" not in json.dumps(problem)
        assert "a secret" in caplog.text


async def test_head_has_no_body() -> None:
    async with serving(waypost.Server()) as place:
        headers = {"Authorization": f"Bearer {SECRET}"}
        async with (
            aiohttp.ClientSession() as http,
            http.head(f"{place.site.url}/api/state", headers=headers) as answer,
        ):
            assert (answer.status, await answer.read()) == (200, b"")


async def test_who_is_refused_is_in_the_log_without_a_key(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="waypost.operations"):
        async with serving(waypost.Server(), [key(rooms=["order *"], scopes=["emit"])]) as place:
            assert (await place.ask("POST", "/emit", {"event": "news"}, secret="a wrong one"))[0] == 401
            assert (await place.ask("GET", "/state"))[0] == 403
            status, problem = await place.ask("POST", "/emit", {"event": "news", "rooms": ["注文 7"]})
            assert status == 403
            assert problem["detail"] == "key tests may not use the room '注文 7'; it may use order *"
    refused = [one for one in caplog.records if one.getMessage().startswith("refused")]
    assert [vars(one)["code"] for one in refused] == ["key_unknown", "scope_missing", "name_not_allowed"]
    assert {vars(one)["address"] for one in refused} == {"127.0.0.1"}
    assert "a wrong one" not in caplog.text
