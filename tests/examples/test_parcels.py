"""The example with typed events works, and says what is wrong with events that do not fit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict

import pytest

import waypost
from examples.parcels.driver import Driver
from examples.parcels.events import Credentials, Parcel, Receipt, Status
from examples.parcels.service import make_server
from tests.client.serving import serving


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with serving(make_server()) as port:
        yield f"http://127.0.0.1:{port}"


ADA = Credentials("Ada", "let me in")


async def test_a_parcel_is_offered_and_delivered(url: str) -> None:
    ada, ben = Driver(url, ADA), Driver(url, Credentials("Ben", "let me in"))
    heard: list[object] = []
    ben.client.on("delivered", heard.append)
    async with ada.client, ben.client:
        assert await ada.client.call("offer", Parcel(1, "Main Street 5", 700)) is True
        parcel = await ben.next_parcel()
        assert parcel == await ada.next_parcel() == Parcel(1, "Main Street 5", 700)
        assert await ada.deliver(parcel, b"\x89PNG") == Receipt(1, Status.DELIVERED, left=0)
        assert await ben.client.call("search", ["delivered"]) == [
            {"id": 1, "to": "Main Street 5", "grams": 700, "status": "delivered"}
        ]
    assert heard == [{"parcel": 1, "signature": b"\x89PNG", "note": "Ada"}]


async def test_what_does_not_fit_is_answered_with_an_error(url: str) -> None:
    async with waypost.Client(url, auth=asdict(ADA)) as client:
        with pytest.raises(waypost.EventRefused, match="missing required field `grams`") as refused:
            await client.call("offer", {"id": 1, "to": "Main Street 5"})
        assert refused.value.data["parameter"] == "parcel"
        with pytest.raises(waypost.EventRefused) as refused:
            await client.call("search", ["lost"])
        assert refused.value.data["argument"] == 1


async def test_auth_that_does_not_fit_is_refused(url: str) -> None:
    with pytest.raises(waypost.ConnectFailed, match="Invalid auth"):
        await waypost.Client(url, auth={"driver": "Ada"}).connect()
    with pytest.raises(waypost.ConnectFailed, match="wrong token"):
        await Driver(url, Credentials("Ada", "guess")).client.connect()
