"""The inbox of a namespace: calls the application's functions in the order of arrival, one at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from waypost.client.answers import Answers, HandledMessages
from waypost.client.flow import Flow
from waypost.client.handlers import Handlers
from waypost.client.messages import HANDLED, ReceivedMessage, received_message
from waypost.client.streams import ReceivedEvent, Streams
from waypost.errors import ArgumentMismatch, EncodingFailed, EventRefused, Reject
from waypost.logs import fields, get_logger
from waypost.protocol.answers import answer_values
from waypost.protocol.extension import DeliveryMark
from waypost.protocol.rejections import nack_values
from waypost.typed.handlers import Handler

__all__ = ["Delivery", "Inbox"]

logger = get_logger("waypost.client")


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event for the application.

    Attributes:
        event: The event's name.
        arguments: The event's arguments.
        is_lifecycle: Whether it is one of the client's own events.
        ack_id: The id for the acknowledgement; ``None`` if the server asked for none.
        sid: The session in which it arrived; only that session gets the acknowledgement.
        mark: The mark of a queued message; ``None`` for other events.
        size: The bytes that the event takes in memory.
    """

    event: str
    arguments: tuple[Any, ...]
    is_lifecycle: bool = False
    ack_id: int | None = None
    sid: str | None = None
    mark: DeliveryMark | None = None
    size: int = 0

    @property
    def message(self) -> ReceivedMessage | None:
        """The description of a queued message; ``None`` for other events."""
        return None if self.mark is None else received_message(self.mark)


class Acknowledge(Protocol):
    """Sends an acknowledgement, if its session still exists; raises `EncodingFailed`."""

    def __call__(self, ack_id: int, values: Sequence[Any], sid: str | None) -> None: ...


class Inbox:
    """Runs handlers, in a task that exists only while there is work.

    Args:
        handlers: The functions.
        streams: The loops over events.
        answers: The acknowledgements of the current session.
        handled: The handled messages of queues.
        acknowledge: Sends an acknowledgement.
        flow: The backpressure of the connection.
    """

    def __init__(
        self,
        handlers: Handlers,
        streams: Streams,
        *,
        answers: Answers,
        handled: HandledMessages,
        acknowledge: Acknowledge,
        flow: Flow,
    ) -> None:
        self._handlers = handlers
        self._streams = streams
        self._answers = answers
        self._handled = handled
        self._acknowledge = acknowledge
        self._flow = flow
        self._waiting: deque[Delivery] = deque()
        self._worker: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, delivery: Delivery) -> None:
        """Append an event."""
        self._waiting.append(delivery)
        self._flow.put(delivery.size)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())

    def drop(self) -> None:
        """Drop the waiting events; a running handler continues."""
        self._flow.drop(sum(delivery.size for delivery in self._waiting))
        self._waiting.clear()

    @property
    def is_current(self) -> bool:
        """Whether the caller is a handler of this inbox."""
        return self._worker is not None and self._worker is asyncio.current_task()

    async def idle(self) -> None:
        """Wait until all events are handled. May be cancelled."""
        while self._worker is not None:
            await asyncio.wait((self._worker,))

    async def _work(self) -> None:
        try:
            while self._waiting:
                delivery = self._waiting.popleft()
                self._flow.take(delivery.size)
                try:
                    await self._process(delivery)
                finally:
                    self._flow.release(delivery.size)
        finally:
            self._worker = None

    async def _process(self, delivery: Delivery) -> None:
        known = await self._known(delivery)
        if known is not None:
            self._send(delivery, known)
            return
        event, arguments = delivery.event, delivery.arguments
        function = self._handlers.take(event)
        if delivery.is_lifecycle:
            if function is not None:
                await self._run(function, arguments, delivery)
            return
        for listener in list(self._handlers.any):
            await self._run(listener, (event, *arguments), delivery)
        if function is not None:
            accepted, values = await self._run(function, arguments, delivery)
            await self._settle(delivery, values, accepted=accepted)
        await self._stream(delivery, is_answered=function is not None)

    async def _stream(self, delivery: Delivery, *, is_answered: bool) -> None:
        streams = self._streams.of(delivery.event)
        if not streams and not is_answered:
            if delivery.mark is None:
                logger.debug("event %r has no handler", delivery.event, extra=fields(event=delivery.event))
            else:
                # The queue waits for the acknowledgement, and may deliver no later message until the lease ends.
                logger.warning(
                    "event %r has no handler: expected one for this message of a queue, which stays unacknowledged"
                    " until its lease ends; register handlers, or call events(), before connecting",
                    delivery.event,
                    extra=fields(event=delivery.event),
                )
        for stream in streams:
            settle = None if is_answered or delivery.ack_id is None else self._settler(delivery)
            is_answered = True
            await stream.put(
                ReceivedEvent(delivery.event, delivery.arguments, settle, delivery.message), delivery.size
            )

    def _settler(self, delivery: Delivery) -> Callable[..., Any]:
        async def settle(values: Sequence[Any], *, accepted: bool) -> None:
            await self._settle(delivery, values, accepted=accepted)

        return settle

    async def _known(self, delivery: Delivery) -> Sequence[Any] | None:
        """Return the acknowledgement of an event that was handled before, or ``None``."""
        if delivery.mark is not None:
            return await self._handled.find(delivery.mark)
        if delivery.ack_id is not None:
            return self._answers.get(delivery.ack_id, delivery.sid)
        return None

    async def _settle(self, delivery: Delivery, values: Sequence[Any], *, accepted: bool) -> None:
        """Acknowledge an event, and remember the acknowledgement."""
        if delivery.ack_id is None:
            return
        if delivery.mark is None:
            self._answers.keep(delivery.ack_id, values, delivery.sid)
        elif accepted:
            await self._handled.remember(delivery.mark, values)
        self._send(delivery, values)

    def _send(self, delivery: Delivery, values: Sequence[Any]) -> None:
        if delivery.ack_id is None:
            return
        try:
            self._acknowledge(delivery.ack_id, values, delivery.sid)
        except EncodingFailed as error:
            logger.error(
                "what the handler of event %r returned can't be sent: %s",
                delivery.event,
                error,
                extra=fields(event=delivery.event),
            )
            self._acknowledge(delivery.ack_id, _rejection(error), delivery.sid)

    async def _run(
        self, function: Handler, arguments: tuple[Any, ...], delivery: Delivery
    ) -> tuple[bool, Sequence[Any]]:
        """Run a function; returns whether it returned, and the acknowledgement's arguments."""
        # One task runs all handlers, so each sets this anew.
        message = delivery.message
        HANDLED.set(None if message is None else (self._handlers, message))
        try:
            if delivery.is_lifecycle:
                result = await function.run_with(arguments)
            else:
                result = await function.run(function.convert(arguments))
        except ArgumentMismatch as mismatch:
            logger.warning(
                "event %r does not fit its handler: %s", delivery.event, mismatch, extra=fields(event=delivery.event)
            )
            return False, _rejection(mismatch)
        except EventRefused as refusal:
            logger.info(
                "event %r is refused: %s", delivery.event, refusal.message, extra=fields(event=delivery.event)
            )
            return False, _refusal(refusal) if delivery.mark is None else nack_values(refusal.message)
        except Reject as rejection:
            logger.info(
                "event %r was rejected: %s", delivery.event, rejection.reason, extra=fields(event=delivery.event)
            )
            return False, _rejection(rejection)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return False, self._failed(
                delivery, error
            )  # not this task, but an awaitable of the handler was cancelled
        except Exception as error:  # noqa: BLE001  # logged there
            return False, self._failed(delivery, error)
        return True, answer_values(result)

    @staticmethod
    def _failed(delivery: Delivery, error: BaseException) -> Sequence[Any]:
        logger.error(
            "the handler of event %r failed", delivery.event, exc_info=error, extra=fields(event=delivery.event)
        )
        return _rejection(error)


def _refusal(refusal: EventRefused) -> tuple[dict[str, Any]]:
    """Return the acknowledgement that refuses an event that comes from no queue, as a server refuses events."""
    error = {"error": refusal.message}
    return (error if refusal.data is None else {**error, "data": refusal.data},)


def _rejection(error: BaseException) -> tuple[dict[str, Any]]:
    """Return the acknowledgement for an exception. Its text is not included, because it may contain secrets."""
    if isinstance(error, Reject):
        return nack_values(error.reason, error.retry_in_s, final=error.final)
    return nack_values(type(error).__name__)
