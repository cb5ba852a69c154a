"""An event of a client on its way to a handler, and how it is answered."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from waypost.errors import EncodingFailed, EventRefused, Reject
from waypost.protocol.answers import answer_values
from waypost.protocol.extension import OutboxMark, Rejection, split_outbox_mark
from waypost.protocol.packet import Packet
from waypost.protocol.records import read_values
from waypost.server.events.repeats import Repeats, Turn

if TYPE_CHECKING:
    from waypost.server.events.source import Source

__all__ = ["MESSAGE_ID", "Incoming"]

logger = logging.getLogger("waypost.socket")

MESSAGE_ID: ContextVar[str | None] = ContextVar("MESSAGE_ID", default=None)
"""The id of the event that is being handled, if it has one."""


class Incoming:
    """An event that a client sent. It is answered once; one of an outbox in any case, so that it is not repeated.

    Args:
        source: The client that sent it.
        repeats: The events that clients send again until they are answered.
        packet: The event as it came.

    Attributes:
        name: Its name.
        arguments: Its arguments.
        is_marked: Whether an outbox sent it, and repeats it until it is answered.
    """

    __slots__ = ("_ack_id", "_mark", "_repeats", "_source", "_turn", "arguments", "is_marked", "name")

    def __init__(self, source: Source, repeats: Repeats, packet: Packet) -> None:
        self._source = source
        self._repeats = repeats
        self._ack_id = packet.ack_id
        self._turn: Turn | None = None
        self._mark: OutboxMark | None = None
        data = packet.data
        if source.client_revision and packet.ack_id is not None:
            data, self._mark = split_outbox_mark(data)
        self.name: str = data[0]
        self.arguments = tuple(data[1:])
        self.is_marked = self._mark is not None
        if self._mark is not None:
            repeats.arrived(source, self._mark)

    @property
    def message_id(self) -> str | None:
        """The id by which an outbox names it."""
        return None if self._mark is None else self._mark.message

    async def begin(self) -> bool:
        """Return whether it is to be handled now; if it is to be and was before, it is answered as it was then."""
        if self._mark is None:
            return True
        admitted = await self._repeats.admit(self._source, self._mark)
        self._turn = admitted.turn
        if admitted.record is not None:
            self._send(tuple(read_values(admitted.record)[1:]))
        elif admitted.is_held:
            self._reject(Rejection(reason=""))
        elif admitted.is_unknown:
            self._reject(Rejection(reason="the server's store does not answer"))
        return self._turn is not None

    def answer(self, answer: Any) -> None:
        """Acknowledge one that no outbox sent with what its handler returned."""
        if self._ack_id is not None:
            self._send(answer_values(answer))

    async def accept(self, answer: Any) -> None:
        """Acknowledge one of an outbox with what its handler returned, which is stored first for its repeats."""
        if self._turn is None:
            return
        values = answer_values(answer)
        record = self._record(values)
        if record is None:
            values, record = (), self._record(())
        if record is not None:
            await self._turn.keep(record)
        self._send(values)
        self.end()

    def refuse(self, reason: str, plain: dict[str, Any], data: Any = None) -> None:
        """Answer that it is not handled, and never will be; one of an outbox is answered by `settle`.

        Args:
            reason: Why.
            plain: The acknowledgement for clients without an outbox.
            data: What else one with an outbox is told.
        """
        if self._turn is None:
            self._send((plain,))
        else:
            self._turn.refusal = Rejection(reason=reason, is_final=True, data=data)

    def fail(self, error: BaseException, plain: dict[str, Any] | None = None) -> None:
        """Answer that what handles it raised; a client with an outbox will send it again.

        Args:
            error: What was raised. `EventRefused` refuses it for ever, `Reject` says when to send it again.
            plain: The acknowledgement for clients without an outbox; ``None`` for none.
        """
        if self._turn is None:
            if plain is not None:
                self._send((plain,))
            return
        if isinstance(error, EventRefused):
            self.refuse(error.message, {}, error.data)
        else:
            self._turn.fail()
            self._reject(_rejection(error))
            self.end()

    def ignore(self) -> None:
        """Take note that nobody handles it; a client without an outbox is not told."""
        if self._turn is not None:
            self._turn.refusal = Rejection(reason=f"no handler for {self.name!r}", is_final=True)

    async def settle(self) -> None:
        """Send the refusal of one of an outbox, if it was refused; it is stored first, for its repeats.

        A repeat that was handled after all would come behind events that the client had sent after it.
        """
        if self._turn is None or self._turn.refusal is None:
            return
        refusal, self._turn.refusal = self._turn.refusal, None
        record = self._record((refusal.argument(),))
        if record is None:
            refusal = replace(refusal, data=None)
            record = self._record((refusal.argument(),))
        if record is not None:
            await self._turn.keep(record)
        self._reject(refusal)
        self.end()

    def end(self) -> None:
        """Let its repeats go on; does nothing the second time."""
        if self._turn is not None:
            self._turn.end()

    def _reject(self, rejection: Rejection) -> None:
        self._send((rejection.argument(),))

    def _record(self, values: tuple[Any, ...]) -> bytes | None:
        try:
            return self._source.codec.encode_event(self._source.namespace, "ack", values).to_record()
        except EncodingFailed as problem:
            logger.error("the answer to %r can't be stored: %s", self.name, problem)
            return None

    def _send(self, values: tuple[Any, ...]) -> bool:
        """Acknowledge it, if that is still asked for; return whether the values can be."""
        source = self._source
        if self._ack_id is None:
            return True
        try:
            frames = source.codec.encode_ack(source.namespace, self._ack_id, values)
        except EncodingFailed as problem:
            logger.error("the ack of %r on socket %s is not sent: %s", self.name, source.sid, problem)
            return False
        if source.left_because is None:
            source.out.send(frames)
        return True


def _rejection(error: BaseException) -> Rejection:
    """Say that something raised; an exception's own text may be a secret, and stays here."""
    if isinstance(error, Reject):
        return Rejection(reason=error.reason, retry_in_s=error.retry_in_s)
    return Rejection(reason=type(error).__name__)
