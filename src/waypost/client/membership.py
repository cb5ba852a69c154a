"""A client's way into a namespace and out of it: CONNECT, the answer, DISCONNECT."""

from __future__ import annotations

import asyncio
from typing import Any

from waypost.client.engine import DisconnectDetails
from waypost.client.session import Session
from waypost.errors import ConnectFailed, MalformedPacket
from waypost.protocol.packet import Packet, PacketType

__all__ = ["Membership"]

_MAX_EARLY_PACKETS = 10_000


class Membership:
    """The client's membership in one namespace.

    Args:
        session: The client's session in the namespace.
        url: The URL that the application gave, for errors.
        max_early_bytes: The most bytes, as decoded, of the packets that the server sends before it answers CONNECT.

    Attributes:
        session: The client's session in the namespace.
        wanted: Whether the application wants to be connected; the client then reconnects after a loss.
        entries: The number of times that the server has accepted the client.
    """

    def __init__(self, session: Session, url: str, max_early_bytes: int) -> None:
        self.session = session
        self.wanted = False
        self.entries = 0
        self._url = url
        self._patient = False
        self._waiting: asyncio.Future[None] | None = None
        self._answered: asyncio.Future[None] | None = None
        self._early: list[tuple[Packet, int]] = []
        self._early_bytes = 0
        self._max_early_bytes = max_early_bytes

    def want(self, *, patient: bool) -> asyncio.Future[None]:
        """Ask for the connection to the namespace.

        Args:
            patient: Whether to keep trying after a failure.

        Returns:
            A future that is done once the client is connected, or raises the failure.
        """
        self.wanted = True
        self._patient = patient
        if self._waiting is None or self._waiting.done():
            self._waiting = asyncio.get_running_loop().create_future()
        return self._waiting

    def want_in_time(self) -> None:
        """Ask for the connection to the namespace, however long it takes; nobody waits for it."""
        self.wanted = self._patient = True

    def ask(self) -> asyncio.Future[None]:
        """Note that CONNECT is sent.

        Returns:
            A future that is done when the answer arrives, or can't arrive any more.
        """
        self._early, self._early_bytes = [], 0
        self._answered = asyncio.get_running_loop().create_future()
        return self._answered

    @property
    def is_asking(self) -> bool:
        """Whether the client awaits an answer to CONNECT."""
        return self._answered is not None

    def receive(self, packet: Packet, size: int) -> None:
        """Take a packet of this namespace.

        Args:
            packet: The packet.
            size: How many bytes it takes in memory.

        Raises:
            MalformedPacket: The packet is not allowed at this point.
        """
        if self.session.sid is None and self._answered is None:
            return
        if packet.type is PacketType.EVENT and self._answered is None:
            self.session.take(packet, size)
        elif packet.type is PacketType.ACK and packet.ack_id is not None and self._answered is None:
            self.session.calls.answer(packet.ack_id, packet.data)
        elif self._answered is not None:
            self._receive_early(packet, size)
        elif packet.type is PacketType.DISCONNECT:
            self.leave("io server disconnect", DisconnectDetails("the server disconnected this client"))
        else:
            raise MalformedPacket("no second answer to CONNECT", f"{packet.type.name} of {packet.namespace}")

    def _receive_early(self, packet: Packet, size: int) -> None:
        if packet.type is PacketType.CONNECT:
            self._accept(packet.data or {})
        elif packet.type is PacketType.CONNECT_ERROR:
            self._refuse(packet.data)
        elif len(self._early) >= _MAX_EARLY_PACKETS or self._early_bytes + size > self._max_early_bytes:
            came = f"{len(self._early)} other packets, which take {self._early_bytes} bytes"
            raise MalformedPacket("an answer to CONNECT", came)
        else:
            self._early.append((packet, size))  # Node's server replays missed events before it answers
            self._early_bytes += size

    def _accept(self, answer: dict[str, Any]) -> None:
        sid = answer.get("sid")
        if not isinstance(sid, str):
            raise MalformedPacket("an answer to CONNECT with a sid, as Socket.IO 3 and later give it", answer)
        self._stop_asking()
        self.entries += 1
        self.session.begin(sid, answer)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
        early, self._early = self._early, []
        for packet, size in early:
            self.receive(packet, size)

    def _refuse(self, data: Any) -> None:
        self._stop_asking()
        self.wanted = False
        message, more = (data, None) if isinstance(data, str) else (str(data.get("message", "")), data.get("data"))
        self._report(ConnectFailed(self._url, message, more))

    def _stop_asking(self) -> None:
        answered, self._answered = self._answered, None
        if answered is not None and not answered.done():
            answered.set_result(None)

    def fail(self, failure: ConnectFailed, *, still_asking: bool = False) -> None:
        """Note that an attempt failed. Unless the caller of `want` is patient, it gets the failure.

        Args:
            failure: The failure.
            still_asking: Whether an answer to CONNECT may still arrive.
        """
        if not still_asking:
            self._stop_asking()
        if self._is_awaited and not self._patient:
            self.wanted = False
        self._report(failure)

    @property
    def _is_awaited(self) -> bool:
        return self._waiting is not None and not self._waiting.done()

    def _report(self, failure: ConnectFailed) -> None:
        """Pass a failure to the caller of `want`; without one, to the application's handler."""
        if self._waiting is not None and self._is_awaited and not self.wanted:
            self._waiting.set_exception(failure)
        else:
            self.session.tell("connect_error", failure)

    def lose(self, reason: str, details: DisconnectDetails) -> None:
        """Note that the connection is lost."""
        if self.session.sid is not None:
            self.session.lose(reason, details)
        elif self._answered is not None:
            self.fail(ConnectFailed(self._url, f"the server did not answer to CONNECT: {reason}"))

    def leave(self, reason: str, details: DisconnectDetails) -> None:
        """Leave the namespace, and do not reconnect."""
        self.wanted = False
        self._stop_asking()
        if self.session.sid is not None:
            self.session.lose(reason, details)
        if self._is_awaited:
            self._report(ConnectFailed(self._url, reason))

    def give_up(self, failure: ConnectFailed) -> None:
        """Stop trying to connect, and report the failure."""
        self.wanted = False
        if self._is_awaited:
            self._report(failure)
