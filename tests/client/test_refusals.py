"""What a call raises when the server does not handle its event, and what it returns as the type asked for."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, assert_type

import pytest

import waypost


@dataclass
class Parcel:
    id: int
    label: bytes = b""


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


@pytest.fixture
def io(io: waypost.Server) -> waypost.Server:
    @io.event
    async def buy(socket: waypost.Socket, n: int) -> Any:
        if n == 0:
            raise ZeroDivisionError("a secret")
        if n > 9:
            raise waypost.EventRefused("sold out", {"left": 9})
        return {"id": n, "label": b"x"}

    @io.event
    async def own(socket: waypost.Socket) -> Any:
        return {"error": "a value"}

    return io


async def test_a_call_raises_what_the_handler_refused(url: str) -> None:
    async with waypost.Client(url) as client:
        with pytest.raises(waypost.EventRefused, match=r"^sold out$") as refused:
            await client.call("buy", 10)
        assert (refused.value.message, refused.value.data, refused.value.is_final) == ("sold out", {"left": 9}, True)
        with pytest.raises(waypost.EventRefused, match="expected int") as refused:
            await client.call("buy", "ten")
        assert refused.value.data["parameter"] == "n"
        assert await client.call("own") == {"error": "a value"}


async def test_a_call_does_not_wait_for_what_failed_or_has_no_handler(url: str) -> None:
    async with waypost.Client(url, ack_timeout_s=3600) as client:
        with pytest.raises(waypost.EventRefused, match=r"^its handling failed: ZeroDivisionError$") as refused:
            await client.call("buy", 0)
        assert not refused.value.is_final
        with pytest.raises(waypost.EventRefused, match="no handler for 'sell'") as refused:
            await client.call("sell", 0)
        assert refused.value.is_final


async def test_a_client_refuses_a_server_s_call_as_the_server_does(io: waypost.Server, url: str) -> None:
    client = waypost.Client(url)

    @client.event
    async def pickup() -> None:
        raise waypost.EventRefused("no van", [1])

    async with client:
        assert await client.call("ask", "pickup") == {"answer": {"error": "no van", "data": [1]}}


async def test_an_answer_is_converted_to_the_type_that_was_asked_for(url: str) -> None:
    async with waypost.Client(url) as client:
        parcel = await client.call("buy", 7, returns=Parcel)
        assert_type(parcel, Parcel)
        assert parcel == Parcel(7, b"x")
        assert await client.call("echo", 1, {"id": 2}, returns=tuple[int, Parcel]) == (1, Parcel(2))
        assert await client.call("echo", returns=int | None) is None
        with pytest.raises(waypost.AnswerMismatch, match="the answer to 'own': expected Parcel") as misfit:
            await client.call("own", returns=Parcel)
        assert misfit.value.received == {"error": "a value"}
        with pytest.raises(waypost.ConfigurationError, match="returns"):
            await client.call("buy", 7, returns=waypost.Client)


async def test_a_client_with_retries_converts_too(url: str) -> None:
    async with waypost.Client(url, retries=1) as client:
        assert await client.call("buy", 7, returns=Parcel) == Parcel(7, b"x")
