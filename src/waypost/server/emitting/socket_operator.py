"""The operator of one socket: the options of an emit to its client, and the way to other clients."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from waypost.checking.names import Names
from waypost.errors import AckTimeout, NotConnected
from waypost.protocol.answers import answer_value
from waypost.server.basics.targets import Target
from waypost.server.calling.from_thread import blocking
from waypost.server.calling.waits import WAITS
from waypost.server.emitting.acks import AtCut
from waypost.server.emitting.operator import Operator

if TYPE_CHECKING:
    from waypost.own_loop import OwnLoop
    from waypost.protocol.codec import EncodedEvent
    from waypost.server.emitting.feed import Feed
    from waypost.server.emitting.flags import Flags
    from waypost.server.emitting.members import Member

__all__ = ["SocketOperator", "SocketOperatorFromThread"]


class SocketOperator:
    """The options of an emit to one client. Each step returns a new operator; keep and share them.

    Made by ``volatile``, ``compress``, ``local`` and ``timeout`` of a `Socket`. ``to``, ``in_``, ``except_`` and
    ``broadcast`` return an `Operator` for other clients, with the same options.
    """

    __slots__ = ("_feed", "_flags", "_member")

    def __init__(self, member: Member, feed: Feed, flags: Flags) -> None:
        self._member = member
        self._feed = feed
        self._flags = flags

    @property
    def from_thread(self) -> SocketOperatorFromThread:
        """The same methods for threads, which wait for the result; see `Operator.from_thread`."""
        return SocketOperatorFromThread(self, self._feed.own_loop)

    async def emit(self, event: str, *args: Any) -> None:
        """Emit an event to this client; see `Socket.emit`."""
        member = self._member
        if member.left_because is not None and member.is_gone:
            raise NotConnected(member.sid, member.namespace, f"emit {event!r}")
        mine = Target(frozenset((member.sid,)))
        await Operator(self._feed, mine, self._flags).emit(event, *args)

    async def call(self, event: str, *args: Any) -> Any:
        """Emit an event to this client and wait for its acknowledgement; see `Socket.call`."""
        member = self._member
        self._feed.own_loop.check("call")
        encoded = member.codec.encode_event(member.namespace, event, args)
        if not member.connected:
            raise NotConnected(member.sid, member.namespace, f"call {event!r}")
        ack_id, answer = member.out.acks.expect(encoded, AtCut.RESENDS, within_s=self._flags.timeout_s)
        try:
            async with asyncio.timeout(self._flags.timeout_s):
                arguments = await self._ask(encoded, ack_id, answer)
        except TimeoutError:
            raise AckTimeout(event, self._flags.timeout_s) from None
        finally:
            member.out.acks.forget(ack_id)
        if arguments is None:
            raise NotConnected(member.sid, member.namespace, f"call {event!r}")
        return answer_value(arguments)

    async def _ask(
        self, event: EncodedEvent, ack_id: int, answer: asyncio.Future[list[Any] | None]
    ) -> list[Any] | None:
        waits = WAITS.get()
        # The time in line counts too: nobody looks again whether the handler waits for its client by now.
        with nullcontext() if waits is None or waits.sid != self._member.sid else waits.one_more():
            await self._feed.in_turn(lambda: self._send(event, ack_id))
            return await answer

    def _send(self, event: EncodedEvent, ack_id: int) -> None:
        if self._member.out.is_writable or not self._flags.volatile:
            self._member.out.send_with_ack(event, ack_id, compress=self._flags.compress)

    # -- others ---------------------------------------------------------------------------------------------

    def to(self, *rooms: Names) -> Operator:
        """Address the members of rooms, this client excluded."""
        return self.broadcast.to(*rooms)

    in_ = to

    def except_(self, *rooms: Names) -> Operator:
        """Address all clients of the namespace except the members of rooms and this client."""
        return self.broadcast.except_(*rooms)

    @property
    def broadcast(self) -> Operator:
        """An operator for all clients of the namespace except this one."""
        others = Target(except_=frozenset((self._member.sid,)))
        return Operator(self._feed, others, self._flags)

    # -- how ------------------------------------------------------------------------------------------------

    @property
    def volatile(self) -> SocketOperator:
        """An operator for the same client that drops events if the client can't take them at once."""
        return SocketOperator(self._member, self._feed, self._flags._replace(volatile=True))

    @property
    def local(self) -> SocketOperator:
        """An operator for the same client that addresses only clients of this server."""
        return SocketOperator(self._member, self._feed, self._flags._replace(local=True))

    def compress(self, compress: bool) -> SocketOperator:
        """Set whether the transport may compress the packets; see `Operator.compress`."""
        return SocketOperator(self._member, self._feed, self._flags.with_compress(compress))

    def timeout(self, seconds: float) -> SocketOperator:
        """Set another timeout for `call`; see `Operator.timeout`."""
        return SocketOperator(self._member, self._feed, self._flags.with_timeout(seconds))


class SocketOperatorFromThread:
    """A `SocketOperator` for threads; each method waits for its result. Made by ``from_thread``."""

    __slots__ = ("_inner", "_own_loop")

    def __init__(self, inner: SocketOperator, own_loop: OwnLoop) -> None:
        self._inner = inner
        self._own_loop = own_loop

    emit = blocking(SocketOperator.emit)
    call = blocking(SocketOperator.call)
