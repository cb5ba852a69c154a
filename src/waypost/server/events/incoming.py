"""An event of a client on its way to a handler, and its answer."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from waypost.errors import EncodingFailed, EventRefused, Reject
from waypost.logs import by_client, fields, get_logger
from waypost.protocol.answers import answer_values
from waypost.protocol.extension import READS_REJECTIONS, OutboxMark, split_outbox_mark
from waypost.protocol.packet import Packet
from waypost.protocol.records import read_values
from waypost.protocol.rejections import Rejection
from waypost.server.events.repeats import AnswerTurn, Repeats

if TYPE_CHECKING:
    from waypost.server.events.source import EventSource

__all__ = ["MESSAGE_ID", "Incoming"]

logger = get_logger("waypost.socket")

MESSAGE_ID: ContextVar[tuple[str, str] | None] = ContextVar("MESSAGE_ID", default=None)
"""The socket's id and the event's id while an event of an outbox is handled; ``None`` for other events."""


class Incoming:
    """An event that a client sent. It is answered at most once.

    An event of an outbox always gets an answer, which ends its repeats.

    Args:
        source: The client.
        repeats: The events that clients repeat until they get an answer.
        packet: The event's packet.

    Attributes:
        name: The event's name.
        arguments: The event's arguments.
        is_marked: Whether the event comes from an outbox, which repeats it until it gets an answer.
        size: The bytes that the event takes in memory; 0 for a small event that is not counted.
    """

    __slots__ = ("_ack_id", "_mark", "_repeats", "_source", "_turn", "arguments", "is_marked", "name", "size")

    def __init__(self, source: EventSource, repeats: Repeats, packet: Packet) -> None:
        self.size = 0
        self._source = source
        self._repeats = repeats
        self._ack_id = packet.ack_id
        self._turn: AnswerTurn | None = None
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
        """The event's id in its outbox; ``None`` for other events."""
        return None if self._mark is None else self._mark.message

    async def begin(self) -> bool:
        """Start handling the event.

        Returns:
            True if the event should be handled now. An event handled before gets its stored answer, and this returns
            False.
        """
        if self._mark is None:
            return True
        admitted = await self._repeats.admit(self._source, self._mark)
        self._turn = admitted.turn
        if admitted.record is not None:
            self._send(tuple(read_values(admitted.record)[1:]))
        elif admitted.is_held:
            self._reject(Rejection(reason=""))
        elif admitted.is_given_up:
            reason = "it was handled, but its answer was given up: the server kept too many"
            self._reject(Rejection(reason, is_final=True))
        elif admitted.is_unknown:
            self._reject(Rejection(reason="the server's store does not answer"))
        return self._turn is not None

    def answer(self, answer: Any) -> None:
        """Acknowledge an event without an outbox with its handler's result."""
        if self._ack_id is not None and not self._send(answer_values(answer)):
            self._tell(Rejection(reason="its answer can't be sent", is_final=True), plain=False)

    async def accept(self, answer: Any) -> None:
        """Acknowledge an event of an outbox with its handler's result. The answer is stored first, for repeats."""
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

    def refuse(self, refusal: EventRefused) -> None:
        """Answer that the event is refused. A final refusal of an event of an outbox is sent by `settle`.

        Args:
            refusal: The refusal for the client. Data that can't be encoded is left out.
        """
        rejection = Rejection(reason=refusal.message, is_final=refusal.is_final, data=refusal.data)
        if self._turn is None:
            self._tell(rejection, plain=True)
        elif refusal.is_final:
            self._turn.refusal = rejection
        else:
            self._hold_back(rejection)

    def fail(self, error: BaseException) -> None:
        """Answer that the handler raised an exception.

        Official clients get no answer. An outbox sends the event again.

        Args:
            error: The exception. `EventRefused` refuses the event; `Reject` sets the delay of the next attempt, or
                says that there shall be none.
        """
        if isinstance(error, EventRefused):
            self.refuse(error)
            return
        rejection = _rejection(error)
        if self._turn is None:
            self._tell(rejection, plain=False)
        elif rejection.is_final:
            self._turn.refusal = rejection
        else:
            self._hold_back(rejection)

    def ignore(self) -> None:
        """Answer that the event has no handler. Official clients get no answer, as with Node."""
        rejection = Rejection(reason=f"no handler for {self.name!r}", is_final=True)
        if self._turn is None:
            self._tell(rejection, plain=False)
        else:
            self._turn.refusal = rejection

    def _hold_back(self, rejection: Rejection) -> None:
        """Answer an event of an outbox that must be sent again, before the events after it."""
        if self._turn is not None:
            self._turn.fail()
        self._reject(rejection)
        self.end()

    def _tell(self, rejection: Rejection, *, plain: bool) -> None:
        """Acknowledge an event without an outbox with a rejection, in the form that its client reads.

        Args:
            rejection: The rejection.
            plain: Whether clients that know no `Rejection` get a plain object with the error.
        """
        if self._source.client_revision >= READS_REJECTIONS:
            self._reject(rejection)
        elif plain:
            error = {"error": rejection.reason}
            self._send_or((error if rejection.data is None else {**error, "data": rejection.data},), (error,))

    async def settle(self) -> None:
        """Store and send the final refusal of an event of an outbox, if there is one.

        It is stored for repeats: handling a repeat later would put it after events that the client sent later.
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
        """Let repeats of the event continue. A second call does nothing."""
        if self._turn is not None:
            self._turn.end()

    def _reject(self, rejection: Rejection) -> None:
        self._send_or((rejection.argument(),), (replace(rejection, data=None).argument(),))

    def _send_or(self, values: tuple[Any, ...], otherwise: tuple[Any, ...]) -> None:
        """Acknowledge the event with the first values; with the others if the first can't be encoded."""
        if not self._send(values):
            self._send(otherwise)

    def _record(self, values: tuple[Any, ...]) -> bytes | None:
        try:
            return self._source.codec.encode_event(self._source.namespace, "ack", values).to_record()
        except EncodingFailed as problem:
            logger.error(
                "the answer to %r can't be stored: %s",
                self.name,
                problem,
                extra=fields(event=self.name, sid=self._source.sid, namespace=self._source.namespace),
            )
            return None

    def _send(self, values: tuple[Any, ...]) -> bool:
        """Acknowledge the event, if the client asked for it; returns whether the values can be encoded."""
        source = self._source
        if self._ack_id is None:
            return True
        try:
            frames = source.codec.encode_ack(source.namespace, self._ack_id, values)
        except EncodingFailed as problem:
            logger.error(
                "the ack of %r on socket %s is not sent: %s",
                self.name,
                source.sid,
                problem,
                extra=by_client(fields(event=self.name, sid=source.sid, namespace=source.namespace)),
            )
            return False
        if source.left_because is None:
            source.out.send(frames)
        return True


def _rejection(error: BaseException) -> Rejection:
    """Return the rejection for an exception. Its text is not included, because it may contain secrets."""
    if isinstance(error, Reject):
        return Rejection(reason=error.reason, is_final=error.final, retry_in_s=error.retry_in_s)
    return Rejection(reason=f"its handling failed: {type(error).__name__}")
