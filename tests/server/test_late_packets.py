"""Packets for namespaces that a client has left: no fault, as long as the server remembers them; and it forgets."""

from __future__ import annotations

import re

import pytest

import waypost
from tests.server.model_client import ModelClient, running, until
from waypost.errors import MalformedPacket
from waypost.server.namespaces import peer


async def test_a_client_that_leaves_many_namespaces_is_remembered_in_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "_REMEMBERED", 3)
    io = waypost.Server(drain_s=0.0)
    io.of(re.compile("/n.*"))
    async with running(io):
        client = ModelClient(io)
        await client.connect()
        for number in range(4):
            await _enter_and_leave(client, f"/n{number}")
        assert client.connection is not None
        for number in (3, 2, 1):
            client.connection.receive(f'42/n{number},["late"]')
            assert client.connection.is_open
        with pytest.raises(MalformedPacket):
            client.connection.receive('42/n0,["late"]')


async def _enter_and_leave(client: ModelClient, namespace: str) -> None:
    answers, client.namespace = client.answers, namespace
    client.send("0")
    await until(lambda: client.answers > answers)
    client.send("1")
