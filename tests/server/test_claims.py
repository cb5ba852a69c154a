"""What a client says of its earlier session: it may be anything, and one client's word is no evidence."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.server.model_client import HANDSHAKE, ModelClient, hub_of, running
from tests.support.nodes import join, servers

WARNING = "it is an older copy"


def client_from(io: waypost.Server, address: str) -> ModelClient:
    return ModelClient(io, handshake=replace(HANDSHAKE, address=address))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        ({"pid": 5}, "unknown session"),
        ({"pid": None, "offset": "x.1"}, "unknown session"),
        ({"pid": ["x"], "offset": {}}, "unknown session"),
        ({"pid": "p" * 201}, "unknown session"),
        ({"pid": "p" * 2_000, "offset": "o" * 201}, "unknown session"),
        ({"pid": "p", "offset": 5}, "generation"),
        ({"pid": "p", "offset": ["x"]}, "generation"),
        ({"pid": "p", "offset": "o" * 2_000}, "generation"),
        ({"pid": "p", "offset": None}, "unknown session"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_claim_that_can_not_be_one_gets_its_reason(claim: dict[str, Any], reason: str) -> None:
    auths: list[Any] = []
    io = waypost.Server(drain_s=0.0)
    io.on("connect", lambda socket, auth: auths.append((auth, socket.handshake.auth)))
    async with running(io):
        client = ModelClient(io)
        await connect_with(client, {**claim, "token": "t"})
        assert client.answer["reason"] == reason
        assert client.pid not in (None, claim["pid"])
        assert auths == [({"token": "t"}, {"token": "t"})]
        # Its new session is an ordinary one.
        await client.cut()
        await client.connect()
        assert client.recovered


async def connect_with(client: ModelClient, payload: dict[str, Any]) -> None:
    """Connect with a payload of CONNECT that the official client would not send."""
    client.payload = payload
    try:
        await client.connect()
    finally:
        client.payload = None


async def test_an_offset_without_a_pid_is_the_applications() -> None:
    auths: list[Any] = []
    io = waypost.Server(drain_s=0.0)
    io.on("connect", lambda socket, auth: auths.append(auth))
    async with running(io):
        client = ModelClient(io)
        await connect_with(client, {"offset": 20})
    assert auths == [{"offset": 20}]
    assert "reason" not in client.answer


@pytest.mark.parametrize("is_from_before", [True, False])
async def test_one_client_makes_no_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, is_from_before: bool
) -> None:
    store = str(tmp_path / "store.db")
    io = waypost.Server(store=store, drain_s=0.0)
    liars = []
    if is_from_before:
        async with running(io):
            liars = [client_from(io, "203.0.113.7") for _ in range(6)]
            for liar in liars:
                await liar.connect()
            await io.emit("tick", 1)
            for liar in liars:
                await liar.wait_for(1)
        io = waypost.Server(store=store, drain_s=0.0)
        for liar in liars:
            liar.hub = client_from(io, "").hub
    caplog.set_level(logging.INFO)
    async with running(io):
        if not is_from_before:
            # Not even from many addresses: what has begun since the start can't have seen what is lost.
            liars = [client_from(io, f"203.0.113.{number}") for number in range(6)]
            for liar in liars:
                await liar.connect()
                await liar.cut()
        for number, liar in enumerate(liars):
            for offset in ("made.5", f"{(liar.offset or 'x.1').split('.')[0]}.{10**15 + number}"):
                liar.offset = offset
                await liar.connect()
                assert liar.answer["reason"] == "generation"
                await liar.cut()
    assert warnings(caplog) == []
    assert "sent offset 'made.5', which this store does not know" in caplog.text


async def test_an_older_copy_is_told_by_clients_of_several_addresses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, saved = tmp_path / "store", tmp_path / "saved"
    folder.mkdir()

    def server() -> waypost.Server:
        return waypost.Server(store=str(folder / "store.db"), drain_s=0.0)

    io = server()
    clients = []
    async with running(io):
        clients = [client_from(io, f"203.0.113.{number}") for number in range(4)]
        for client in clients:
            await client.connect()
        await io.emit("tick", 1)
        for client in clients:
            await client.wait_for(1)
    shutil.copytree(folder, saved)
    for number in (2, 3):
        io = server()
        async with running(io):
            for client in clients:
                client.hub = client_from(io, "").hub
                await client.connect()
                assert client.recovered == (number == 2)
            if number == 2:
                await io.emit("tick", number)
                for client in clients:
                    await client.wait_for(number)
        if number == 2:
            assert warnings(caplog) == []
            shutil.rmtree(folder)
            shutil.copytree(saved, folder)
    [warning] = warnings(caplog)
    assert WARNING in warning
    assert clients[0].answer["reason"] == "generation"


async def test_what_one_server_knows_of_lost_history_counts_at_all(tmp_path: Path) -> None:
    store = str(tmp_path / "store.db")
    async with servers(1, store=store, drain_s=0.0) as (_, [io]):
        clients = [client_from(io, f"203.0.113.{number}") for number in range(3)]
        for client in clients:
            await client.connect()
        await io.emit("tick", 1)
        for client in clients:
            await client.wait_for(1)
            client.vanish()
    witness, other, last = clients
    async with servers(2, store=store, drain_s=0.0) as (nodes, [io, second]):
        witness.hub, witness.offset = hub_of(io), f"{(witness.offset or '').split('.')[0]}.{10**15}"
        await witness.connect()
        assert witness.answer["reason"] == "generation"
        other.hub = hub_of(second)
        await other.connect()
        assert other.answer["reason"] == "generation"
        # One that comes later is told, too.
        third = waypost.Server(store=store, drain_s=0.0)
        join(nodes, third, "n2")
        async with running(third):
            last.hub = hub_of(third)
            await last.connect()
            assert last.answer["reason"] == "generation"
