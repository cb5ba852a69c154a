"""Requests with ids over HTTP: a repeat is one event or one message, and another body with the same id is refused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict

import waypost
from tests.operations.places import SECRET, Place, serving
from waypost.storage.outside import EMIT_WINDOW_S

EVENT: dict[str, Any] = {"event": "news", "args": [{"b": 1, "a": 2}], "rooms": ["all"]}


def server(**options: Any) -> waypost.Server:
    io = waypost.Server(**options)

    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        await socket.join("all")

    return io


async def news_of(place: Place) -> list[tuple[Any, ...]]:
    """Connect a client; returns what it gets, from now on."""
    client = await place.site.connect()
    got: list[tuple[Any, ...]] = []
    client.on_any(lambda event, *args: got.append((event, *args)))
    return got


async def until_end(place: Place, got: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return what has come before an event that is emitted now."""
    await place.ask("POST", "/emit", {"event": "end"})
    async with asyncio.timeout(60):
        while ("end",) not in got:
            await asyncio.sleep(0.01)
    return [one for one in got if one != ("end",)]


@pytest.mark.parametrize("durability", ["memory", "commit", "async"])
async def test_an_event_with_an_id_is_one_event(tmp_path: Path, durability: str) -> None:
    file = {"store": tmp_path / "shop.db", "durability": durability}
    async with serving(server(**({} if durability == "memory" else file))) as place:
        got = await news_of(place)
        first = await place.ask("POST", "/emit", EVENT, Idempotency_Key="7")
        assert first == (200, {"duplicate": False})
        assert await place.ask("POST", "/emit", {**EVENT, "id": "7"}) == (200, {"duplicate": True})
        same = {"rooms": ["all"], "args": [{"a": 2, "b": 1}], "event": "news"}
        assert await place.ask("POST", "/emit", same, Idempotency_Key="7") == (200, {"duplicate": True})
        assert await place.ask("POST", "/emit", EVENT, Idempotency_Key="8") == (200, {"duplicate": False})
        assert await until_end(place, got) == [("news", {"a": 2, "b": 1})] * 2


async def test_an_event_with_an_id_is_one_event_over_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "shop.db"
    got: list[tuple[Any, ...]] = []
    for is_repeat in (False, True):
        async with serving(server(store=file)) as place:
            got = await news_of(place)
            assert await place.ask("POST", "/emit", EVENT, Idempotency_Key="7") == (200, {"duplicate": is_repeat})
            assert len(await until_end(place, got)) == (0 if is_repeat else 1)


async def test_repeats_at_the_same_time_are_one_event() -> None:
    async with serving(server()) as place:
        got = await news_of(place)
        answers = await asyncio.gather(*(place.ask("POST", "/emit", EVENT, Idempotency_Key="7") for _ in range(20)))
        assert sorted(answer["duplicate"] for _, answer in answers) == [False] + [True] * 19
        assert len(await until_end(place, got)) == 1


async def test_an_id_of_an_emitter_counts_too(tmp_path: Path) -> None:
    file = tmp_path / "shop.db"
    async with serving(server(store=file)) as place, waypost.Emitter(file) as emitter:
        got = await news_of(place)
        await emitter.to("all").emit("news", 1, id="7")
        async with asyncio.timeout(60):
            while not got:
                await asyncio.sleep(0.01)
        assert await place.ask("POST", "/emit", EVENT, Idempotency_Key="7") == (200, {"duplicate": True})
        assert await until_end(place, got) == [("news", 1)]


async def test_an_id_with_another_body_is_refused() -> None:
    async with serving(server()) as place:
        got = await news_of(place)
        for path, body in (("/emit", EVENT), ("/queues/q/messages", {"event": "mail", "args": [1]})):
            assert (await place.ask("POST", path, body, Idempotency_Key="7"))[0] in (200, 201)
            status, problem = await place.ask("POST", path, {**body, "args": [2]}, Idempotency_Key="7")
            assert (status, problem["code"]) == (422, "id_reused")
            status, again = await place.ask("POST", path, body, Idempotency_Key="7")
            assert (status, again["duplicate"]) == (200, True)
            status, problem = await place.ask("POST", path, {**body, "id": "8"}, Idempotency_Key="7")
            assert (status, problem["code"]) == (422, "two_ids")
            for wrong in ("x" * 256, "\xd7"):
                status, problem = await place.ask("POST", path, body, Idempotency_Key=wrong)
                assert (status, problem["code"]) == (422, "bad_value")
        assert await until_end(place, got) == [("news", {"a": 2, "b": 1})]
        assert (await place.ask("GET", "/queues/q"))[1]["queue"]["messages"] == 1


async def test_a_request_that_was_refused_keeps_its_id_free() -> None:
    async with serving(server()) as place:
        status, problem = await place.ask("POST", "/emit", {"event": "connect"}, Idempotency_Key="7")
        assert (status, problem["code"]) == (422, "not_encodable")
        assert await place.ask("POST", "/emit", EVENT, Idempotency_Key="7") == (200, {"duplicate": False})


async def test_an_id_is_free_again_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    io = server()
    async with serving(io) as place:
        got = await news_of(place)
        clock = io._hub.services.store.clock
        assert await place.ask("POST", "/emit", EVENT, Idempotency_Key="7") == (200, {"duplicate": False})
        now = clock.now
        monkeypatch.setattr(type(clock), "now", lambda _: now() + EMIT_WINDOW_S + 1)
        other = {**EVENT, "args": [2]}
        assert await place.ask("POST", "/emit", other, Idempotency_Key="7") == (200, {"duplicate": False})
        monkeypatch.undo()
        assert await until_end(place, got) == [("news", {"a": 2, "b": 1}), ("news", 2)]


@pytest.mark.parametrize(("options", "more"), [({"recovery": None}, {}), ({}, {"volatile": True})])
async def test_what_is_stored_nowhere_takes_no_id(options: dict[str, Any], more: dict[str, Any]) -> None:
    async with serving(server(**options)) as place:
        got = await news_of(place)
        status, problem = await place.ask("POST", "/emit", {**EVENT, **more}, Idempotency_Key="7")
        assert (status, problem["code"]) == (422, "idempotency_not_supported")
        assert await until_end(place, got) == []


async def test_two_headers_with_ids_are_refused() -> None:
    async with serving(server()) as place:
        headers = [("Authorization", f"Bearer {SECRET}"), ("Idempotency-Key", "7"), ("Idempotency-Key", "8")]
        url = f"{place.site.url}/api/emit"
        async with place.http.post(url, json=EVENT, headers=CIMultiDict(headers)) as answer:
            assert (answer.status, (await answer.json(content_type=None))["code"]) == (422, "two_ids")
