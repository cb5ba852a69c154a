"""The HTTP API of several servers on one store: each operation is done by any of them, for the clients of all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import waypost
from tests.operations.places import SECRET
from tests.support.server_process import ServerProcess
from tests.support.waiting import until, until_async

TIMES = 6
"""How often an operation is asked for, each time over a connection of its own, which any worker may get."""


class Service:
    """Server processes on one store, and requests that go to them in turn.

    Args:
        servers: The processes.
    """

    def __init__(self, servers: list[ServerProcess]) -> None:
        self.servers = servers
        self._turn = count()

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Make a request over a new connection, to the next process."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        given |= {"Authorization": f"Bearer {SECRET}"}
        url = f"{self.servers[next(self._turn) % len(self.servers)].url}/api{path}"
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http,
            http.request(method, url, json=body, headers=given) as answer,
        ):
            return answer.status, await answer.json(content_type=None)

    async def get(self, path: str, accept: Callable[[Any], bool], what: str) -> None:
        """Make a request again and again, until its answer is accepted."""

        async def probe() -> Any:
            return (await self.ask("GET", path))[1]

        await until_async(probe, accept, what)

    async def restart(self) -> None:
        """Stop all processes, and start them again."""
        for one in self.servers:
            await one.stop()
        for one in self.servers:
            await one.start()


@contextlib.asynccontextmanager
async def service_of(servers: list[ServerProcess]) -> AsyncIterator[Service]:
    """Start processes, wait until two servers have answered requests, and stop them in the end."""
    service = Service(servers)
    try:
        for one in servers:
            await one.start()
        seen: set[str] = set()

        async def probe() -> set[str]:
            seen.add((await service.ask("GET", "/state"))[1]["server"])
            return seen

        await until_async(probe, lambda names: len(names) == 2, "two servers have answered")
        yield service
        for one in servers:
            await one.stop()
    finally:
        for one in servers:
            await one.kill()


def process(folder: Path, number: int, store: str, *more: str) -> ServerProcess:
    command = ("-m", "waypost", "serve", "tests.operations.api_app:application", "--port", "{port}")
    return ServerProcess((*command, "--store", store, *more), folder / f"server{number}.log")


async def clients_of(service: Service) -> list[tuple[waypost.Client, list[Any]]]:
    """Connect clients until two servers have one each; returns them with what they get."""
    found: list[tuple[waypost.Client, list[Any]]] = []
    places: set[int] = set()
    while len(places) < 2:
        client, got = waypost.Client(service.servers[len(found) % len(service.servers)].url), list[Any]()
        client.on_any(lambda event, *args, got=got: got.append((event, *args)))
        client.on("mail", lambda *_: None)  # acknowledges
        await client.connect()
        places.add(await client.call("where"))
        found.append((client, got))
    return found


async def judge(service: Service) -> None:
    clients = await clients_of(service)
    await judge_sockets(service, clients)
    await judge_events(service, clients)
    await judge_queues(service, clients)
    await judge_ids_after_a_restart(service)
    await judge_disconnect(service, clients)
    for client, _ in clients:
        await client.close()


async def judge_sockets(service: Service, clients: list[tuple[waypost.Client, list[Any]]]) -> None:
    """The sockets of all servers are listed page by page, and join rooms."""
    expected = sorted(str(client.id) for client, _ in clients)

    def is_whole(answer: Any) -> bool:
        return [one["id"] for one in answer["sockets"]] == expected and not answer["missing_servers"]

    for _ in range(TIMES):
        await service.get("/sockets?room=all", is_whole, "all sockets are listed")
    listed: list[str] = []
    while len(listed) < len(expected):
        path = f"/sockets?limit=1&after={listed[-1] if listed else ''}"
        await service.get(path, lambda answer: bool(answer["sockets"]), "there is a further page")
        page = (await service.ask("GET", path))[1]["sockets"]
        listed += [one["id"] for one in page]
    assert listed == expected
    for client, _ in clients:
        for _ in range(2):
            body = {"rooms": [client.id], "change": ["some", f"room {client.id}"]}
            assert await service.ask("POST", "/sockets/join", body) == (200, {})
        body = {"rooms": [f"room {client.id}"], "change": [f"room {client.id}"]}
        assert await service.ask("POST", "/sockets/leave", body) == (200, {})
    for _ in range(TIMES):
        await service.get("/sockets?room=some", is_whole, "all are in the room")


async def judge_events(service: Service, clients: list[tuple[waypost.Client, list[Any]]]) -> None:
    """Events reach the clients of all servers in one order; a repeat is one event, whichever server gets it."""
    body = {"event": "news", "rooms": ["some"]}
    for number in range(TIMES):
        assert (await service.ask("POST", "/emit", {**body, "args": [number]}))[0] == 200
    for _ in range(TIMES):
        assert (await service.ask("POST", "/emit", {**body, "args": ["once"]}, Idempotency_Key="7"))[0] == 200
        status, problem = await service.ask("POST", "/emit", {**body, "args": ["other"]}, Idempotency_Key="7")
        assert (status, problem["code"]) == (422, "id_reused")
    batch = {"commands": [{"emit": {"event": "end", "id": "end"}}] * 2}
    answer = (await service.ask("POST", "/batch", batch))[1]["results"]
    assert [one["status"] for one in answer] == [200, 200]
    expected = [("news", number) for number in (*range(TIMES), "once")] + [("end",)]
    for _, got in clients:
        await until(lambda got=got: ("end",) in got, "all events have come")  # type: ignore[misc]  # the loop's value
        assert got == expected


async def judge_queues(service: Service, clients: list[tuple[waypost.Client, list[Any]]]) -> None:
    """A queue is one queue: whoever publishes, pauses, seeks, looks or purges."""
    path = "/queues/mails"
    for number in range(TIMES):
        body = {"event": "mail", "args": ["ann"]}
        status, answer = await service.ask("POST", f"{path}/messages", body, Idempotency_Key="7")
        assert (status, answer) == ((200 if number else 201), {"id": "7", "offset": 1, "duplicate": number > 0})
        status, answer = await service.ask("POST", f"{path}/messages", {**body, "args": []}, Idempotency_Key="7")
        assert (status, answer["code"]) == (422, "id_reused")
    assert await service.ask("POST", f"{path}/pause") == (200, {})
    client, got = clients[0]
    await client.call("consume", "mails")
    for _ in range(TIMES):
        numbers = (await service.ask("GET", path))[1]["queue"]
        assert (numbers["messages"], numbers["in_flight"], numbers["paused_until"] is None) == (1, 0, False)
        assert len((await service.ask("GET", f"{path}/messages"))[1]["messages"]) == 1
        assert [one["name"] for one in (await service.ask("GET", "/queues?prefix=mail"))[1]["queues"]] == ["mails"]
    assert await service.ask("POST", f"{path}/resume") == (200, {})
    await until(lambda: ("mail", "ann") in [one[:2] for one in got], "the message was delivered")
    await service.get(path, lambda answer: answer["queue"]["messages"] == 0, "it is acknowledged")
    for _ in range(TIMES):
        assert await service.ask("POST", f"{path}/seek", {"to": "new"}) == (200, {})
        assert await service.ask("POST", f"{path}/purge", {"upto": None}) == (200, {"purged": 0})
        assert await service.ask("POST", f"{path}/redrive") == (200, {"redriven": 0})
        assert await service.ask("DELETE", f"{path}/dead-letters") == (200, {"discarded": 0})
        assert (await service.ask("GET", f"{path}/dead-letters"))[1] == {"dead_letters": []}


async def judge_ids_after_a_restart(service: Service) -> None:
    """Ids are remembered over a restart of all servers."""
    await service.restart()
    for _ in range(TIMES):
        body = {"event": "news", "rooms": ["some"], "args": ["once"]}
        assert await service.ask("POST", "/emit", body, Idempotency_Key="7") == (200, {"duplicate": True})
        answer = await service.ask("POST", "/queues/mails/messages", {"event": "mail", "args": ["ann"], "id": "7"})
        assert answer == (200, {"id": "7", "offset": 1, "duplicate": True})


async def judge_disconnect(service: Service, clients: list[tuple[waypost.Client, list[Any]]]) -> None:
    """A disconnect reaches the clients of all servers, and nobody else."""
    for client, _ in clients:
        await until(lambda client=client: client.connected, "the client is back")  # type: ignore[misc]
    kept, _ = clients[0]
    body = {"rooms": ["some"], "except": [kept.id]}
    assert await service.ask("POST", "/sockets/disconnect", body) == (200, {})
    for client, _ in clients[1:]:
        await until(lambda client=client: not client.connected, "it is disconnected")  # type: ignore[misc]
    await service.get(
        "/sockets?room=some", lambda answer: [one["id"] for one in answer["sockets"]] == [kept.id], "one is left"
    )
    assert kept.connected


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_two_workers_do_everything(tmp_path: Path) -> None:
    server = process(tmp_path, 0, str(tmp_path / "store.db"), "--workers", "2")
    async with service_of([server]) as service, asyncio.timeout(240):
        await judge(service)


@pytest.mark.timeout(300)
async def test_two_nodes_on_postgresql_do_everything(tmp_path: Path, postgres_url: str) -> None:
    servers = [process(tmp_path, number, postgres_url) for number in range(2)]
    async with service_of(servers) as service, asyncio.timeout(240):
        await judge(service)
