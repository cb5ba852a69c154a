"""The broadcast operator: whom an emit is for and how it goes, built up step by step and never changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from waypost.errors import ConfigurationError
from waypost.server.basics.targets import Target
from waypost.server.cluster.seam import ANSWER_TIMEOUT_S, DisconnectSockets
from waypost.server.emitting.broadcast import BroadcastCall
from waypost.server.emitting.remote_socket import FetchedSockets, fetch_sockets

if TYPE_CHECKING:
    from waypost.server.emitting.audience import Audience
    from waypost.server.namespaces.channel import Channel

__all__ = ["Flags", "Operator"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """How an event goes.

    Attributes:
        timeout_s: Seconds in which those who are asked for an ack have to answer.
        volatile: Whether it is dropped for every client that can't take it right now.
        compress: Whether its packet may be compressed.
        local: Whether it stays on this server.
    """

    timeout_s: float
    volatile: bool = False
    compress: bool = True
    local: bool = False

    def with_timeout(self, seconds: float) -> Flags:
        """The same with another timeout.

        Raises:
            ConfigurationError: It is no number above 0.
        """
        if not seconds > 0:
            raise ConfigurationError("timeout", seconds, "seconds, a number above 0")
        return replace(self, timeout_s=seconds)


class Operator:
    """Whom an emit is for, and how it goes. Every method that changes that returns a new one; keep and share them.

    Made by ``to``, ``in_``, ``except_``, ``volatile``, ``compress``, ``local`` and ``timeout`` of a server or
    namespace, and by those of a socket that address others.
    """

    __slots__ = ("_audience", "_flags", "_target")

    def __init__(self, audience: Audience, target: Target, flags: Flags) -> None:
        self._audience = audience
        self._target = target
        self._flags = flags

    # -- whom -----------------------------------------------------------------------------------------------

    def to(self, *rooms: str) -> Operator:
        """Add rooms: members of any of them are meant, each once. No rooms at all mean nobody.

        Args:
            rooms: Names of rooms; a socket's id is one too.
        """
        target = Target((self._target.rooms or frozenset()).union(rooms), self._target.except_)
        return Operator(self._audience, target, self._flags)

    in_ = to

    def except_(self, *rooms: str) -> Operator:
        """Leave out the members of rooms.

        Args:
            rooms: Names of rooms; a socket's id is one too.
        """
        target = Target(self._target.rooms, self._target.except_.union(rooms))
        return Operator(self._audience, target, self._flags)

    # -- how ------------------------------------------------------------------------------------------------

    @property
    def volatile(self) -> Operator:
        """The same, but for events that are dropped for every client that can't take them right now."""
        return self._with(replace(self._flags, volatile=True))

    @property
    def local(self) -> Operator:
        """The same, but only for clients of this server; without a cluster these are all there are.

        An emit is in the journal all the same, and reaches those of its clients that come back.
        """
        return self._with(replace(self._flags, local=True))

    def compress(self, compress: bool) -> Operator:
        """The same, but for events whose packets may, or may not, be compressed.

        Args:
            compress: ``False`` for what is compressed already, as pictures are.
        """
        return self._with(replace(self._flags, compress=compress))

    def timeout(self, seconds: float) -> Operator:
        """The same with another timeout for `call`, instead of the server's ``ack_timeout_s``.

        Args:
            seconds: A number above 0.

        Raises:
            ConfigurationError: It is none.
        """
        return self._with(self._flags.with_timeout(seconds))

    # -- events ---------------------------------------------------------------------------------------------

    async def emit(self, event: str, *args: Any) -> None:
        """Emit an event to them.

        Args:
            event: Its name; none of Socket.IO's reserved ones.
            args: Its arguments: whatever JSON can carry, and ``bytes`` anywhere in it.

        Raises:
            EncodingFailed: An argument can't be encoded.
            StorageError: The store did not take it; it is delivered to nobody.

        Delivery: in order, exactly once to those who are connected or come back in time. A volatile one at most
        once. Returns when it is in the store; if cancelled it may still be delivered. The order is that of the calls,
        also for what is not stored: an event that needs no store waits for those before it.
        """
        encoded = self._audience.codec.encode_event(self._audience.namespace, event, args)
        compress = self._flags.compress
        if self._flags.volatile:
            await self._audience.publish_volatile(self._target, encoded, compress=compress)
        else:
            await self._audience.publish(self._target, encoded, compress=compress)

    def call(self, event: str, *args: Any) -> BroadcastCall:
        """Emit an event to all of them who are connected, and collect their acks.

        Args:
            event: Its name; none of Socket.IO's reserved ones.
            args: Its arguments.

        Returns:
            A `BroadcastCall`: ``await`` it for a `BroadcastAnswers`, or iterate over it with ``async for`` for the
            answers as they come. Nothing is sent before that.

        Raises:
            EncodingFailed: An argument can't be encoded.

        Delivery: at most once, in order, to those connected now: an event with an ack is not in the journal. A
        volatile one is not sent to a client that can't take it right now; that client is among the missing.
        """
        encoded = self._audience.codec.encode_event(self._audience.namespace, event, args)
        return BroadcastCall(self._audience, self._target, encoded, self._flags)

    # -- the sockets ----------------------------------------------------------------------------------------

    async def fetch_sockets(self) -> FetchedSockets:
        """List those of them who are connected.

        Returns:
            What is known of each, also of those on other servers of a cluster, and which servers did not answer.
        """
        return await fetch_sockets(self._audience, self._target, self._address, local=self._flags.local)

    async def sockets_join(self, *rooms: str) -> None:
        """Let all of them join rooms; those who are away, and may come back, too. Returns when it counts.

        Args:
            rooms: Names of rooms.

        Raises:
            StorageError: The store did not take it; nobody joined.
        """
        await self._audience.join(self._target, rooms)

    async def sockets_leave(self, *rooms: str) -> None:
        """Let all of them leave rooms; those who are away, and may come back, too. Returns when it counts.

        Args:
            rooms: Names of rooms.

        Raises:
            StorageError: The store did not take it; nobody left.
        """
        await self._audience.leave(self._target, rooms)

    async def disconnect_sockets(self, *, close: bool = False) -> None:
        """Disconnect all of them from the namespace, after what was emitted before; nobody comes back by itself.

        Args:
            close: Close their whole connections too, with all their namespaces.
        """

        def disconnect(channel: Channel) -> None:
            channel.disconnect()
            if close:
                channel.close_connection()

        await self._audience.each(self._target, disconnect)
        if not self._flags.local:
            async for _ in self._audience.ask_others(DisconnectSockets(self._target, close), ANSWER_TIMEOUT_S):
                pass

    def _address(self, sid: str) -> Operator:
        return Operator(self._audience, Target(frozenset((sid,))), self._flags)

    def _with(self, flags: Flags) -> Operator:
        return Operator(self._audience, self._target, flags)
