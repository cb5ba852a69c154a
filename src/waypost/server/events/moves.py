"""Clients with an outbox that go from one server of a cluster to another, and their events still in hand there.

When the first event of an outbox comes over a connection, its server asks the others what they have of this client. A
repeat of an event that another server is handling waits for the end of that, and then finds the stored answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

import msgspec

from waypost.logs import fields, get_logger
from waypost.server.cluster.bus import Topic
from waypost.storage.following import EVERYBODY, Nodes

__all__ = ["Left", "Moves", "Resident"]

logger = get_logger("waypost.cluster")

_PATIENCE_S = 30.0
"""A server that is there, and does not answer for so long, is taken for one that has nothing of the client."""

_Event: TypeAlias = tuple[bytes, str]


class Left(NamedTuple):
    """The events of a client on a server that the client has left.

    Attributes:
        running: The ids of the messages that are being handled.
        failed: The place of the event that failed last and was neither repeated nor given up yet.
        is_here: Whether the client has not left: it has a later connection to this server.
    """

    running: Sequence[str] = ()
    failed: int | None = None
    is_here: bool = False


class Resident(Protocol):
    """The events of outboxes on this server. `Repeats` is one."""

    def leave(self, client: bytes, since: float) -> Left:
        """Begin no event of a client any more: it has opened a connection to another server, at this time."""
        ...

    def hold(self, digest: bytes, sequence: int) -> None:
        """Hold a client's events after this one back."""
        ...


class Came(msgspec.Struct, frozen=True, tag="came", array_like=True):
    """A client has come to the sending server.

    Attributes:
        number: The server's number of the question.
        client: The client's key in the store.
        since: The time of its connection's handshake.
    """

    number: int
    client: bytes
    since: float


class Known(msgspec.Struct, frozen=True, tag="known", array_like=True):
    """The events that the sending server still has of a client.

    Attributes:
        number: The question's number.
        running: The ids of the messages that are being handled.
        failed: See `Left`.
        is_here: See `Left`.
    """

    number: int
    running: tuple[str, ...]
    failed: int | None
    is_here: bool


class Ended(msgspec.Struct, frozen=True, tag="ended", array_like=True):
    """The handling of an event has ended, whose client has gone to another server.

    Attributes:
        client: The client's key in the store.
        message: The event's id.
        failed: The event's place, if it failed and is expected again.
    """

    client: bytes
    message: str
    failed: int | None


Message: TypeAlias = Came | Known | Ended


@dataclass(slots=True)
class _Inquiry:
    """A question to the others.

    Attributes:
        client: The client's key.
        waiting: The servers that have not answered.
        done: Whether the client has a later connection elsewhere, once all have answered.
        is_elsewhere: Whether one has said so.
    """

    client: bytes
    waiting: set[str]
    done: asyncio.Future[bool]
    is_elsewhere: bool = False


class Moves:
    """The messages between servers about clients with an outbox.

    Args:
        nodes: The servers.
        resident: The events on this server.
    """

    def __init__(self, nodes: Nodes, resident: Resident) -> None:
        self._nodes = nodes
        self._resident = resident
        self._topic: Topic[Message] = Topic(nodes, "outboxes", Message, self._receive)
        self._inquiries: dict[int, _Inquiry] = {}
        self._last = 0
        # The servers that handle an event; and those that wait for the end of one that is handled here.
        self._abroad: dict[_Event, dict[str, asyncio.Future[None]]] = {}
        self._awaited: dict[_Event, set[str]] = {}

    def came(self, client: bytes, since: float) -> asyncio.Future[bool] | None:
        """Ask the others about a client that has come.

        Args:
            client: The client's key.
            since: The time of its connection's handshake.

        Returns:
            A future of whether the client has a later connection to another server; ``None`` if there is none.
        """
        others = set(self._nodes.others)
        if not others:
            return None
        self._last += 1
        loop = asyncio.get_running_loop()
        inquiry = self._inquiries[self._last] = _Inquiry(client, others, loop.create_future())
        loop.call_later(_PATIENCE_S, self._give_up, self._last)
        self._topic.send(EVERYBODY, Came(self._last, client, since))
        return inquiry.done

    async def ended(self, client: bytes, message: str) -> None:
        """Wait until no other server handles an event. May be cancelled."""
        while running := self._abroad.get((client, message)):
            await asyncio.wait(running.values())

    def end(self, client: bytes, message: str, failed: int | None) -> bool:
        """Tell those who wait for it that an event is handled no more; returns whether anybody does."""
        waiting = self._awaited.pop((client, message), set())
        for server in sorted(waiting):
            self._topic.send(server, Ended(client, message, failed))
        return bool(waiting)

    def gone(self, server: str) -> None:
        """Note that a server is gone: it handles nothing any more."""
        for number in list(self._inquiries):
            self._answered(number, server)
        for event in list(self._abroad):
            self._end_abroad(event, server)
        for waiting in self._awaited.values():
            waiting.discard(server)

    def close(self) -> None:
        """Wait for nothing any more."""
        for number in list(self._inquiries):
            self._finish(number)
        for event, running in list(self._abroad.items()):
            for server in list(running):
                self._end_abroad(event, server)

    # -- what other servers send ----------------------------------------------------------------------------

    def _receive(self, server: str, message: Message) -> None:
        if isinstance(message, Came):
            left = self._resident.leave(message.client, message.since)
            for running in left.running:
                self._awaited.setdefault((message.client, running), set()).add(server)
            self._topic.send(server, Known(message.number, tuple(left.running), left.failed, left.is_here))
        elif isinstance(message, Known):
            self._learn(server, message)
        else:
            if message.failed is not None:
                self._resident.hold(message.client, message.failed)
            self._end_abroad((message.client, message.message), server)

    def _learn(self, server: str, known: Known) -> None:
        inquiry = self._inquiries.get(known.number)
        if inquiry is None or server not in inquiry.waiting:
            return
        for message in known.running:
            running = self._abroad.setdefault((inquiry.client, message), {})
            if server not in running:
                running[server] = asyncio.get_running_loop().create_future()
        if known.failed is not None:
            self._resident.hold(inquiry.client, known.failed)
        inquiry.is_elsewhere = inquiry.is_elsewhere or known.is_here
        self._answered(known.number, server)

    def _answered(self, number: int, server: str) -> None:
        inquiry = self._inquiries[number]
        inquiry.waiting.discard(server)
        if not inquiry.waiting:
            self._finish(number)

    def _give_up(self, number: int) -> None:
        inquiry = self._inquiries.get(number)
        if inquiry is not None:
            logger.warning(
                "servers do not say what they have of a client: %s",
                ", ".join(sorted(inquiry.waiting)),
                extra=fields(count=len(inquiry.waiting)),
            )
            self._finish(number)

    def _finish(self, number: int) -> None:
        inquiry = self._inquiries.pop(number)
        if not inquiry.done.done():
            inquiry.done.set_result(inquiry.is_elsewhere)

    def _end_abroad(self, event: _Event, server: str) -> None:
        running = self._abroad.get(event, {})
        ended = running.pop(server, None)
        if not running:
            self._abroad.pop(event, None)
        if ended is not None and not ended.done():
            ended.set_result(None)
