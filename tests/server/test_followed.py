"""The rows of other nodes, applied to the members of this one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

import waypost
from tests.server.model_client import ModelClient, hub_of, running, until
from waypost.server.basics.targets import EVERYONE, Target, read_head, write_record
from waypost.server.emitting.feed import CLOSES
from waypost.server.emitting.followed import Followed
from waypost.storage.journal_records import ExpiredSession


@dataclass
class Here:
    """A server, and the rows of its main namespace that another node would have written."""

    io: waypost.Server
    rows: Followed
    ended: list[str]

    def record(self, target: Target, *args: object, compress: bool = True) -> bytes:
        """Return the record of an event."""
        codec = hub_of(self.io).services.codec
        return write_record(target, codec.encode_event("/", "news", args), compress=compress)


@pytest.fixture
async def here() -> AsyncIterator[Here]:
    io = waypost.Server(drain_s=0.0)
    ended: list[str] = []

    @io.on("session_expired")
    async def expired(session: waypost.EndedSession) -> None:
        ended.append(session.socket_id)

    @io.on("connect")
    async def connect(socket: waypost.Socket, auth: dict[str, str]) -> None:
        await socket.join(auth.get("token", "lobby"))

    async with running(io):
        core = hub_of(io).directory.core("/")
        yield Here(io, Followed(core.feed, core.index, core.ownership.claimed), ended)


async def test_an_event_reaches_those_who_are_meant_with_its_offset(here: Here) -> None:
    red, blue = ModelClient(here.io), ModelClient(here.io)
    await red.connect("red")
    await blue.connect("blue")
    shown: list[object] = []
    here.io.on_any_outgoing(lambda socket, event, *args: shown.append((socket.id, event, *args)))
    here.rows.appended(7, here.record(Target(frozenset(("red",))), "for red"))
    here.rows.appended(8, here.record(Target(None, frozenset(("red",))), "for all others"))
    here.rows.appended(9, here.record(EVERYONE, "for all"))
    assert await red.wait_for(2) == [["news", "for red"], ["news", "for all"]]
    assert await blue.wait_for(2) == [["news", "for all others"], ["news", "for all"]]
    assert red.offset == f"{hub_of(here.io).directory.core('/').generation}.9"
    # The listeners of outgoing events run here, for the clients that are here.
    assert shown == [
        (red.sid, "news", "for red"),
        (blue.sid, "news", "for all others"),
        (red.sid, "news", "for all"),
        (blue.sid, "news", "for all"),
    ]


async def test_an_event_that_is_for_nobody_here_is_not_decoded(here: Here) -> None:
    client = ModelClient(here.io)
    await client.connect("red")
    nobody = write_record(Target(frozenset(("blue",))), hub_of(here.io).services.codec.encode_event("/", "news", ()))
    here.rows.appended(1, nobody[:-1])
    assert client.connected


@pytest.mark.parametrize("broken", ["head", "event"])
async def test_clients_that_can_not_get_an_event_come_back_for_it(
    here: Here, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = ModelClient(here.io)
    await client.connect("red")
    record = bytearray(here.record(Target(frozenset(("red",))), "news"))
    # The first byte of the target, or the kind of the event's record.
    record[4 if broken == "head" else read_head(bytes(record)).end] = 9
    here.rows.appended(1, bytes(record))
    await until(lambda: not client.connected)
    assert not client.disconnected_by_server, "it may come back"
    assert "event 1 of another node can't be delivered" in caplog.text


async def test_rooms_change_at_their_place_in_the_order(here: Here) -> None:
    red, blue = ModelClient(here.io), ModelClient(here.io)
    await red.connect("red")
    await blue.connect("blue")
    blues = Target(frozenset(("blues",)))
    here.rows.appended(1, here.record(blues, 1))
    here.rows.joined(None, ["red"], ["blues"])
    here.rows.appended(2, here.record(blues, 2))
    here.rows.joined(["red"], [], ["blues"])
    here.rows.appended(3, here.record(blues, 3))
    here.rows.left(["blues"], ["red"], ["blues"])
    here.rows.appended(4, here.record(blues, 4))
    assert await blue.wait_for(2) == [["news", 2], ["news", 3]]
    assert await red.wait_for(2) == [["news", 3], ["news", 4]]


@pytest.mark.parametrize("note", [b"", CLOSES])
async def test_clients_are_disconnected_and_those_away_are_told_of(here: Here, note: bytes) -> None:
    red, blue, away = ModelClient(here.io), ModelClient(here.io), ModelClient(here.io)
    await red.connect("red")
    await blue.connect("blue")
    await away.connect("red")
    await away.cut()
    assert red.sid
    assert away.sid
    sessions = [ExpiredSession("/", red.sid, b""), ExpiredSession("/", away.sid, b"[{},null,null]")]
    here.rows.ended(["red"], [], sessions, note)
    await until(lambda: red.disconnected_by_server and here.ended == [away.sid])
    assert blue.connected
    assert red.connection is not None
    await until(lambda: red.connection is not None and red.connection.is_open is not (note == CLOSES))


def test_a_record_says_whether_it_may_be_compressed(here: Here) -> None:
    for target in (EVERYONE, Target(frozenset(("a",)), frozenset(("b",)))):
        for compress in (True, False):
            head = read_head(here.record(target, 1, compress=compress))
            assert head[:2] == (target, compress)
