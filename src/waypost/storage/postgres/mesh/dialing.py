"""Dials another node, and keeps a connection to it for this node's messages."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

from waypost.logs import fields, get_logger
from waypost.retrying import Backoff, RetryPolicy
from waypost.storage.postgres.mesh.connection import MeshConnection
from waypost.storage.postgres.mesh.handshake import (
    GREETING_BYTES,
    GREETINGS,
    MESSAGES,
    OVER,
    Challenge,
    Hello,
    Refused,
    Strangers,
    Welcome,
    answer_challenge,
    check_welcome,
)
from waypost.storage.postgres.mesh.messages import FROM_RECEIVER, Ack, FromReceiver, Ping
from waypost.storage.postgres.mesh.outgoing import Outgoing

__all__ = ["Dialer", "Person", "Timings", "dial", "is_local", "parse_place"]

_logger = get_logger(__name__)

_DIAL_S: Final = 5.0
_PAUSES: Final = RetryPolicy(first_s=0.05, longest_s=2.0, jitter=0.2)


@dataclass(frozen=True, slots=True)
class Timings:
    """How a node notices that another one is not reached any more.

    Attributes:
        ping_s: Seconds between questions whether the line still carries something.
        silence_s: Seconds without a byte after which a connection is given up, and dialed again.
        broken_s: Seconds without a connection after which messages that may be dropped are.
    """

    ping_s: float = 2.0
    silence_s: float = 6.0
    broken_s: float = 1.0


class Person:
    """The identity of this node for others.

    Args:
        name: Its name.
        secret: The secret that the nodes of the store share.
    """

    __slots__ = ("name", "secret")

    def __init__(self, name: str, secret: bytes) -> None:
        self.name = name
        self.secret = secret


def parse_place(address: str) -> tuple[str, int]:
    """Return the host and the port of a node's address.

    Raises:
        ValueError: It is no ``host:port``.
    """
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def is_local(address: str) -> bool:
    """Return whether an address is one that only its own machine reaches."""
    try:
        return ip_address(parse_place(address)[0]).is_loopback
    except ValueError:
        return False  # a name


async def dial(
    me: Person, receiver: str, address: str, purpose: str, stream: str = ""
) -> tuple[MeshConnection, Welcome]:
    """Connect to another node, and let both sides prove themselves. May be cancelled.

    Args:
        me: This node.
        receiver: The other node's name.
        address: Its address, ``host:port``.
        purpose: What for.
        stream: The stream of messages.

    Raises:
        OSError: It can't be reached, or has not answered in time.
        Strangers: It is another one, or refuses this node.
    """
    host, port = parse_place(address)
    greeting = _Greeting(me, receiver, purpose, stream)
    loop = asyncio.get_running_loop()
    connection: MeshConnection | None = None
    try:
        async with asyncio.timeout(_DIAL_S):
            _, connection = await loop.create_connection(lambda: MeshConnection(greeting.made), host, port)
            welcome = await greeting.welcome(connection)
    except BaseException:
        if connection is not None:
            connection.abort("it was given up")
        raise
    return connection, welcome


class _Greeting:
    """The dialing side of a handshake."""

    def __init__(self, me: Person, receiver: str, purpose: str, stream: str) -> None:
        self._me = me
        self._receiver, self._purpose, self._stream = receiver, purpose, stream
        self._challenge: Challenge | None = None
        self._hello: Hello | None = None
        self._connection: MeshConnection
        self._ended: asyncio.Future[Welcome] = asyncio.get_running_loop().create_future()

    def made(self, connection: MeshConnection) -> None:
        self._connection = connection
        connection.expect(GREETINGS, GREETING_BYTES, self._take)

    async def welcome(self, connection: MeshConnection) -> Welcome:
        ends: set[asyncio.Future[Any]] = {self._ended, connection.lost}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not self._ended.done():
            raise ConnectionError(connection.lost.result())
        return self._ended.result()

    def _take(self, message: Any) -> None:
        try:
            self._go_on(message)
        except Strangers as problem:
            if not self._ended.done():
                self._ended.set_exception(problem)

    def _go_on(self, message: Any) -> None:
        me = self._me
        if isinstance(message, Challenge) and self._hello is None:
            self._challenge = message
            self._hello = answer_challenge(message, me.secret, me.name, self._receiver, self._purpose, self._stream)
            self._connection.tell(self._hello)
        elif isinstance(message, Welcome) and self._hello is not None and self._challenge is not None:
            check_welcome(message, self._hello, self._challenge, me.secret)
            # What comes next is set by who dialed, in a later turn of the loop.
            self._connection.transport.pause_reading()
            if not self._ended.done():
                self._ended.set_result(message)
        elif isinstance(message, Refused):
            raise Strangers(message.problem[:200])
        else:
            raise Strangers("it sent something else than a handshake")


class Dialer:
    """Keeps a connection to one other node.

    Args:
        me: This node.
        receiver: The other node's name.
        address: Its address.
        outgoing: The messages.
        timings: How an end is noticed.
    """

    def __init__(self, me: Person, receiver: str, address: str, outgoing: Outgoing, timings: Timings) -> None:
        self._timings = timings
        self._me = me
        self._receiver = receiver
        self._address = address
        self._outgoing = outgoing
        self._connection: MeshConnection | None = None
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run())
        self._problem = ""
        self._hurried = asyncio.Event()

    def hurry(self) -> None:
        """Wait no longer before the next attempt: the other node is there."""
        self._hurried.set()

    def redial(self, why: str) -> None:
        """Take another connection, as this one is of a stream that was given up."""
        if self._connection is not None:
            self._connection.abort(why)

    async def close(self) -> None:
        """End the connection. What the other node has not received is lost."""
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _run(self) -> None:
        backoff = Backoff(_PAUSES)
        since = self._loop.time()
        while True:
            stream = self._outgoing.stream
            try:
                connection, welcome = await dial(self._me, self._receiver, self._address, MESSAGES, stream)
            except (OSError, Strangers, ValueError) as problem:
                self._failed(str(problem) or "it did not answer in time", since)
            else:
                backoff.reset()
                self._reached()
                if stream != self._outgoing.stream:
                    connection.abort("the stream was given up meanwhile")
                elif welcome.received == OVER:
                    connection.abort("the stream is over")
                    self._outgoing.give_up()
                else:
                    problem_ = await self._serve(connection, welcome)
                    since = self._loop.time()
                    self._failed(problem_, since)
            self._hurried.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(backoff.next_s(random.random())):
                    await self._hurried.wait()

    def _failed(self, problem: str, since: float) -> None:
        """Note that the other node is not reached; it may only be leaving."""
        is_old = self._loop.time() - since > self._timings.broken_s
        if is_old:
            self._outgoing.unreachable()
        if is_old and problem != self._problem:
            self._problem = problem
            _logger.warning(
                "node %s at %s can't be reached: %s",
                self._receiver,
                self._address,
                problem,
                extra=fields(node=self._receiver, address=self._address),
            )
        else:
            _logger.debug(
                "node %s at %s can't be reached: %s",
                self._receiver,
                self._address,
                problem,
                extra=fields(node=self._receiver, address=self._address),
            )

    def _reached(self) -> None:
        if self._problem:
            self._problem = ""
            _logger.info(
                "node %s at %s is reached again",
                self._receiver,
                self._address,
                extra=fields(node=self._receiver, address=self._address),
            )

    async def _serve(self, connection: MeshConnection, welcome: Welcome) -> str:
        outgoing, timings = self._outgoing, self._timings
        self._connection = connection
        connection.expect(FROM_RECEIVER, GREETING_BYTES, self._take)
        connection.transport.resume_reading()
        # The other side says nothing before it has heard something.
        connection.tell(Ping())
        outgoing.connected(connection, welcome.received)
        try:
            while not connection.lost.done():
                await asyncio.wait({connection.lost}, timeout=timings.ping_s)
                if self._loop.time() - connection.heard_at > timings.silence_s:
                    connection.abort(f"nothing came of it for {timings.silence_s:g} s")
                    break
                connection.tell(Ping())
            return await connection.lost
        finally:
            outgoing.disconnected()
            self._connection = None
            connection.close()

    def _take(self, message: FromReceiver) -> None:
        if isinstance(message, Ack):
            self._outgoing.handled(message.number)
