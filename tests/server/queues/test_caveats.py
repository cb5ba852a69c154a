"""Clients whose acknowledgements mean little are warned of, once for each consumer."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

import waypost
from tests.server.model_client import HANDSHAKE, ModelClient, running
from waypost.protocol.known_clients import KNOWN_CLIENTS

REQUESTS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "python-socketio": ({"t": "1764430000.25"}, {}),
    "C++": ({}, {"user-agent": "WebSocket++/0.8.2"}),
    "rust_socketio": ({"transport": "polling", "t": "1764430000"}, {}),
    "JavaScript": ({"t": "abc"}, {"user-agent": "Mozilla/5.0"}),
    "Java": ({}, {"user-agent": "okhttp/3.12.12"}),
}
SAID = {
    "python-socketio": "it acknowledges messages that it has no handler for",
    "C++": "it acknowledges messages that it has no handler for",
    "rust_socketio": "it can't acknowledge events",
}


def make_server() -> waypost.Server:
    io = waypost.Server(drain_s=0.0)

    @io.on("connect")
    async def connect(socket: waypost.Socket, auth: dict[str, Any]) -> None:
        for queue in auth["token"].split():
            await socket.consume(queue)

    return io


async def come(io: waypost.Server, name: str, queues: str) -> None:
    query, headers = REQUESTS[name]
    client = ModelClient(io, handshake=replace(HANDSHAKE, query=query, headers=headers))
    await client.connect(queues)


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_consumer_of_such_a_client_is_warned_of_once(caplog: pytest.LogCaptureFixture, name: str) -> None:
    async with running(make_server()) as io:
        for _ in range(3):
            await come(io, name, "jobs mails")
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [said.split(" consumes queue ")[1].split(" ")[0] for said in warnings] == (
        ["'jobs'", "'mails'"] if name in SAID else []
    )
    assert all(SAID[name] in said for said in warnings)


async def test_very_many_queues_are_not_warned_of_each(caplog: pytest.LogCaptureFixture) -> None:
    async with running(make_server()) as io:
        await come(io, "C++", " ".join(f"inbox:{number}" for number in range(150)))
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 100


def test_the_clients_of_the_table_are_the_ones_with_caveats() -> None:
    assert {client.name.partition(",")[0] for client in KNOWN_CLIENTS if client.queue_caveat} == set(SAID)
