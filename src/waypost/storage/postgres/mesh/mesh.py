"""This node's links to all others: its messages to them, theirs to it, and connections of clients passed between.

Each node dials each other one, and sends its messages on the connection that it has dialed. So a pair of nodes has
two connections, each for one direction, and no rule is needed for which of two to keep. A connection that breaks is
dialed again and goes on where it was: messages are numbered, and kept until the other node has handled them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from waypost.errors import StoreClosed
from waypost.logs import fields, get_logger
from waypost.storage.following import EVERYBODY, Ways
from waypost.storage.postgres.mesh.connection import MESSAGE_BYTES, MeshConnection
from waypost.storage.postgres.mesh.dialing import Dialer, Person, Timings, is_local
from waypost.storage.postgres.mesh.handshake import MESSAGES, OVER, Hello
from waypost.storage.postgres.mesh.holding import Holding
from waypost.storage.postgres.mesh.incoming import Incoming
from waypost.storage.postgres.mesh.listener import Listener, Unwelcome
from waypost.storage.postgres.mesh.messages import FROM_SENDER, Ack, FromSender, Message, Pong
from waypost.storage.postgres.mesh.outgoing import Limits, Outgoing
from waypost.storage.postgres.mesh.progress import Progress

__all__ = ["Mesh"]

_logger = get_logger(__name__)

_FAREWELL_S: Final = 1.0
_MOST_VOID: Final = 1000
# The dialing side pings, and gives a silent connection up first.
_LATER: Final = 2


@dataclass(slots=True)
class _Other:
    """Another node that is alive."""

    address: str
    outgoing: Outgoing
    dialer: Dialer


@dataclass(slots=True, eq=False)
class _Inbound:
    """The stream of another node, and the connection on which it comes.

    Attributes:
        incoming: The messages.
        connection: The connection; ``None`` while there is none.
        is_heard: Whether something came on the connection: before, the other side is still in the handshake.
        handled: The number of the last message that was handled.
    """

    incoming: Incoming
    connection: MeshConnection | None = None
    is_heard: bool = False
    handled: int = 0


class Mesh:
    """The links of one node, for one opening of its store.

    Args:
        store: The store, as errors name it.
        me: This node.
        progress: What this node has applied.
        after_writes: Calls a function when the writes to journals that this node has asked for are applied here or
            have failed; at once if there are none.
        limits: How much is kept for a node that is slow or can't be reached.
        timings: How it is noticed that a node is not reached any more.

    Attributes:
        unknown: Called when a node has come that `came` has not named; it should be looked for.
        broken: Called with the name of a living node when messages between it and this one are lost, as one of the
            two has fallen behind too far.
        accept: Called with each connection of a client that another node forwards; sets the transport's protocol.
        ways: The ways for connections of clients; ``None`` before this node has its number.
    """

    def __init__(
        self,
        store: str,
        me: Person,
        progress: Progress,
        after_writes: Callable[[Callable[[], None]], None],
        limits: Limits | None = None,
        timings: Timings | None = None,
    ) -> None:
        self.me = me
        self.unknown: Callable[[], None] = lambda: None
        self.broken: Callable[[str], None] = lambda _: None
        self.accept: Callable[[MeshConnection], None] = lambda connection: connection.abort("it serves no clients")
        self.ways: Ways | None = None
        self._store = store
        self._limits = limits or Limits()
        self._timings = timings or Timings()
        self._progress = progress
        self._loop = asyncio.get_running_loop()
        self._holding = Holding(after_writes)
        self._listener = Listener(me, self._welcome)
        self._listeners: dict[str, Callable[[str, bytes], None]] = {}
        self._others: dict[str, _Other] = {}
        self._inbound: dict[str, _Inbound] = {}
        # By name: the streams of nodes that were dead for this one. They end there, also if the node comes back.
        self._void: dict[str, str] = {}
        self._ends: set[asyncio.Task[None]] = set()
        self._watching: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._is_local = False

    async def start(self, host: str, port: int = 0) -> str:
        """Listen for other nodes; returns the address at which they reach this one.

        Args:
            host: The address to listen on, which other nodes reach.
            port: The port; 0 takes a free one.

        Raises:
            OSError: There is no listening there.
        """
        port = await self._listener.start(host, port)
        self._watch()
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._is_local = is_local(address)
        return address

    async def close(self) -> None:
        """Wait a moment until the others have what was sent, and end all links. A second call does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        self._holding.release_all()
        farewells = [self._loop.create_task(one.outgoing.drained()) for one in self._others.values()]
        if farewells:
            _, late = await asyncio.wait(farewells, timeout=_FAREWELL_S)
            for task in late:
                task.cancel()
        if self._watching is not None:
            self._watching.cancel()
        self._listener.close()
        for name in [*self._others]:
            self._part(name)
        if self._ends:
            await asyncio.wait(self._ends)

    # -- the other nodes -------------------------------------------------------------------------------------

    def came(self, name: str, address: str) -> None:
        """Have a link to another node, which is alive; again, when it has come back or its address has changed."""
        if name == self.me.name or self._is_closed:
            return
        if self._is_local and not is_local(address):
            self._is_local = False
            _logger.error(
                "node %s at %s can't reach this one, which has an address of this machine only, as its database is"
                " here: say another one by ?waypost_node_address=… in the store's URL",
                name,
                address,
                extra=fields(node=name, address=address, option="waypost_node_address"),
            )
        other = self._others.get(name)
        if other is None or other.address != address:
            if other is not None:
                self._end(other.dialer)
            outgoing = Outgoing(self._limits, self._progress, lambda: self._lose(name))
            if other is not None:
                outgoing = other.outgoing
            self._others[name] = _Other(address, outgoing, Dialer(self.me, name, address, outgoing, self._timings))
        inbound = self._inbound.get(name)
        if inbound is not None:
            inbound.incoming.open()

    def gone(self, name: str) -> None:
        """Have no link to another node any more: it is dead, or has left. What came of it is handled before."""
        self._part(name)
        inbound = self._inbound.pop(name, None)
        self._void[name] = "" if inbound is None else inbound.incoming.stream
        while len(self._void) > _MOST_VOID:
            del self._void[next(iter(self._void))]
        if inbound is not None:
            if inbound.incoming.is_open:
                inbound.incoming.finish()
            if inbound.connection is not None:
                inbound.connection.abort("the node is gone")

    def renewed(self) -> None:
        """Begin anew with everybody: this node was dead for the others, and what waits for them is of that time."""
        for other in self._others.values():
            other.outgoing.begin_anew()
            other.dialer.redial("this node has come back")

    def _part(self, name: str) -> None:
        other = self._others.pop(name, None)
        if other is not None:
            self._end(other.dialer)

    def _end(self, dialer: Dialer) -> None:
        task = self._loop.create_task(dialer.close())
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)

    def _lose(self, name: str) -> None:
        _logger.error(
            "messages to node %s are lost: it has fallen behind too far, or took this one for dead",
            name,
            extra=fields(node=name),
        )
        self._others[name].dialer.redial("messages are lost")
        # Not from within the call that sends.
        self._loop.call_soon(self._tell_broken, name)

    def _tell_broken(self, name: str) -> None:
        if name in self._others:
            self.broken(name)

    # -- messages --------------------------------------------------------------------------------------------

    def send(self, receiver: str | None, topic: str, message: bytes, *, may_drop: bool = False) -> None:
        """Send a message; see `waypost.storage.following.Nodes.send`.

        Raises:
            StoreClosed: The store is closed.
        """
        if self._is_closed:
            raise StoreClosed(self._store)
        self._holding.add(lambda: self._give(receiver, topic, message, may_drop))

    def listen(self, topic: str, receive: Callable[[str, bytes], None] | None) -> None:
        """Call a function with the sender and the content of each message on a topic; ``None`` ends that."""
        if receive is None:
            self._listeners.pop(topic, None)
        else:
            self._listeners[topic] = receive

    def _give(self, receiver: str | None, topic: str, message: bytes, may_drop: bool) -> None:
        if receiver is EVERYBODY or receiver == self.me.name:
            # Not from within the call that sends; and the sender waits for its own.
            self._loop.call_soon(self._receive, self.me.name, topic, message)
        if receiver is EVERYBODY:
            for other in self._others.values():
                other.outgoing.add(topic, message, may_drop=may_drop)
        elif (one := self._others.get(receiver)) is not None:
            one.outgoing.add(topic, message, may_drop=may_drop)

    def _receive(self, sender: str, topic: str, message: bytes) -> None:
        receive = self._listeners.get(topic)
        if receive is None or (self._is_closed and sender != self.me.name):
            return
        try:
            receive(sender, message)
        except Exception:
            # What follows must be handled all the same.
            _logger.exception("what takes messages on %r raised, which it must not", topic, extra=fields(node=sender))

    # -- what other nodes dial -------------------------------------------------------------------------------

    def _welcome(self, hello: Hello, connection: MeshConnection) -> int:
        if hello.name in self._void and hello.name not in self._others:
            self.unknown()
            raise Unwelcome("it is dead for this node, or has left")
        if hello.purpose != MESSAGES:
            self.accept(connection)
            return 0
        if self._void.get(hello.name) == hello.stream:
            return OVER
        inbound = self._inbound_of(hello)
        if inbound.connection is not None:
            inbound.connection.abort("the node has dialed again")
        self._void.pop(hello.name, None)
        inbound.connection, inbound.is_heard = connection, False
        connection.expect(FROM_SENDER, MESSAGE_BYTES, lambda message: self._take(inbound, connection, message))
        connection.lost.add_done_callback(lambda _: self._lost(hello.name, inbound, connection))
        other = self._others.get(hello.name)
        if other is None:
            self.unknown()
        else:
            other.dialer.hurry()
        return inbound.incoming.received

    def _inbound_of(self, hello: Hello) -> _Inbound:
        known = self._inbound.get(hello.name)
        if known is not None and known.incoming.stream == hello.stream:
            return known
        if known is not None and known.incoming.is_open:
            # The end of a stream that the other node has given up.
            known.incoming.finish()
            self._loop.call_soon(self._tell_broken, hello.name)
        if known is not None and known.connection is not None:
            known.connection.abort("the node has begun another stream")
        incoming = Incoming(hello.name, hello.stream, self._progress, self._receive)
        inbound = self._inbound[hello.name] = _Inbound(incoming)
        incoming.handled = lambda number: self._handled(inbound, number)
        if hello.name in self._others:
            incoming.open()
        return inbound

    def _take(self, inbound: _Inbound, connection: MeshConnection, message: FromSender) -> None:
        if not inbound.is_heard:
            inbound.is_heard = True
            connection.tell(Ack(inbound.handled))
        if isinstance(message, Message):
            inbound.incoming.take(message)
        else:
            connection.tell(Pong())

    def _handled(self, inbound: _Inbound, number: int) -> None:
        inbound.handled = number
        if inbound.connection is not None and inbound.is_heard:
            inbound.connection.tell(Ack(number))

    def _lost(self, name: str, inbound: _Inbound, connection: MeshConnection) -> None:
        if inbound.connection is not connection:
            return
        inbound.connection = None
        if not inbound.incoming.is_open and self._inbound.get(name) is inbound:
            # This node never knew it.
            del self._inbound[name]

    def _watch(self) -> None:
        """Close connections on which nothing comes any more: the other node pings."""
        silence_s = self._timings.silence_s * _LATER
        for inbound in self._inbound.values():
            connection = inbound.connection
            if connection is not None and self._loop.time() - connection.heard_at > silence_s:
                connection.abort(f"nothing came for {silence_s:g} s")
        self._watching = self._loop.call_later(silence_s / 4, self._watch)
