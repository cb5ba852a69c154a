"""Who gets what is emitted to rooms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from tests.interop.conftest import Connect
from tests.interop.peer import Client

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]


@dataclass
class Crowd:
    """Three clients: ann in red and blue, ben in blue, and cid in no room."""

    ann: Client
    ben: Client
    cid: Client

    async def news(self) -> dict[str, list[Any]]:
        """Return what each got, once nothing more can be on its way."""
        everyone = {"ann": self.ann, "ben": self.ben, "cid": self.cid}
        for client in everyone.values():
            await client.call("whisper", client.connects[0].id, "last")
            await client.hears("news", "last")
        return {name: [args[0] for args in client.args_of("news")[:-1]] for name, client in everyone.items()}


@pytest_asyncio.fixture(loop_scope="module")
async def crowd(connect: Connect, mode: str) -> Crowd:
    return Crowd(
        await connect(mode, auth={"rooms": ["red", "blue"]}),
        await connect(mode, auth={"rooms": ["blue"]}),
        await connect(mode),
    )


TARGETS: dict[str, tuple[list[str], list[str], bool, set[str]]] = {
    "one room": (["red"], [], False, {"ann"}),
    "a shared room": (["blue"], [], False, {"ann", "ben"}),
    "a union, each once": (["red", "blue"], [], False, {"ann", "ben"}),
    "an empty room": (["green"], [], False, set()),
    "all but a room": ([], ["red"], False, {"ben", "cid"}),
    "all but two rooms": ([], ["red", "blue"], False, {"cid"}),
    "a room but for another": (["blue"], ["red"], False, {"ben"}),
    "a room but for itself": (["blue"], ["blue"], False, set()),
    "everyone": ([], [], False, {"ann", "ben", "cid"}),
    "a room without the sender": (["red", "blue"], [], True, {"ben"}),
    "everyone without the sender": ([], [], True, {"ben", "cid"}),
    "all but a room, without the sender": ([], ["blue"], True, {"cid"}),
}


@pytest.mark.parametrize(("to", "excluded", "from_socket", "expected"), TARGETS.values(), ids=TARGETS)
async def test_a_broadcast_reaches_its_target(
    crowd: Crowd, to: list[str], excluded: list[str], from_socket: bool, expected: set[str]
) -> None:
    await crowd.ann.call("broadcast", to, excluded, from_socket, "hello")
    news = await crowd.news()
    assert {name for name, got in news.items() if got == ["hello"]} == expected
    assert {name for name, got in news.items() if not got} == {"ann", "ben", "cid"} - expected


async def test_joining_and_leaving(crowd: Crowd) -> None:
    assert await crowd.cid.call("rooms") == [[]]
    await crowd.cid.call("join", "red")
    await crowd.ann.call("leave", "red")
    assert await crowd.cid.call("rooms") == [["red"]]
    assert await crowd.ann.call("rooms") == [["blue"]]
    await crowd.ben.call("publish", "red", "hello")
    assert await crowd.news() == {"ann": [], "ben": [], "cid": ["hello"]}


async def test_a_room_of_one(crowd: Crowd) -> None:
    await crowd.ann.call("whisper", crowd.cid.connects[0].id, "psst", b"\x00")
    assert await crowd.news() == {"ann": [], "ben": [], "cid": ["psst"]}
    assert crowd.cid.args_of("news")[0] == ("psst", b"\x00")


async def test_a_disconnected_member_is_gone_from_its_rooms(crowd: Crowd) -> None:
    await crowd.ann.disconnect()
    await crowd.ann.resume()
    await crowd.ann.connected(2)
    assert await crowd.ann.call("rooms") == [["blue", "red"]]
    await crowd.ben.call("publish", "red", "hello")
    assert await crowd.ann.gets("news") == [("hello",)]


async def test_broadcasts_arrive_in_the_same_order_everywhere(crowd: Crowd) -> None:
    for number in range(100):
        await (crowd.ann, crowd.ben, crowd.cid)[number % 3].emit("announce", number)
    orders = [await client.gets("news", 100) for client in (crowd.ann, crowd.ben, crowd.cid)]
    assert orders[0] == orders[1] == orders[2]
    assert sorted(orders[0]) == [(number,) for number in range(100)]
