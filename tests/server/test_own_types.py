"""The option ``json_default`` of server and client: what each sends in values of its own types."""

from __future__ import annotations

import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.server.model_client import until
from waypost.protocol.packet import Packet
from waypost.testing import serve_in_memory


def plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, set):
        return sorted(value)
    raise TypeError


async def test_emits_acks_calls_messages_and_auth_carry_them(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    io = waypost.Server(store=store, json_default=plain, drain_s=0.0)
    seen: list[Any] = []

    @io.on("connect")
    async def connect(socket: waypost.Socket, auth: dict[str, Any]) -> None:
        if auth.get("limit") != "7.5":
            raise waypost.ConnectionRefused("no", {"missing": {"limit"}})

    @io.event
    async def order(socket: waypost.Socket, price: str) -> set[str]:
        await socket.emit("priced", Decimal(price))
        return {price}

    @io.consumer("bills")
    async def work(message: waypost.Message, total: Any) -> None:
        seen.append(total)

    async with serve_in_memory(io) as site:
        with pytest.raises(waypost.ConnectFailed) as refused:
            await site.connect()
        assert refused.value.data == {"missing": ["limit"]}
        client = await site.connect(auth={"limit": Decimal("7.5")}, json_default=plain)
        priced = client.events("priced")
        assert await client.call("order", Decimal("1.25")) == ["1.25"]
        assert (await anext(priced)).args == ("1.25",)
        await io.queue("bills").emit("bill", Decimal("2.5"))
        connection = sqlite3.connect(store)
        waypost.publish(connection, "bills", "bill", {3, 1}, json_default=plain)
        connection.commit()
        connection.close()
        client.on("count", lambda number: number)
        answers = await io.call("count", Decimal(1))
        assert list(answers.answers.values()) == ["1"]
        await until(lambda: seen == ["2.5", [1, 3]])


async def test_without_it_the_error_names_the_place() -> None:
    io = waypost.Server()
    await io.start()
    with pytest.raises(waypost.EncodingFailed, match=r"args\[1\]\['items'\]\[0\]: .*json_default"):
        await io.emit("order", 1, {"items": [Decimal(1)]})
    await io.close()


class OwnParser:
    def encode(self, packet: Packet) -> list[str]:
        return [repr(packet)]

    def make_decoder(self) -> Any: ...


async def later(value: Any) -> Any: ...


@pytest.mark.parametrize("make", [waypost.Server, lambda **options: waypost.Client("http://localhost", **options)])
def test_a_coroutine_and_an_own_parser_are_refused(make: Any) -> None:
    with pytest.raises(waypost.ConfigurationError, match="plain function"):
        make(json_default=later)
    with pytest.raises(waypost.ConfigurationError, match="own parser"):
        make(json_default=plain, parser=OwnParser())
