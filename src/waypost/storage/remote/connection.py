"""A node's end of its link: the calls under way, and the reports of the host in the order of writes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import copy
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from waypost.errors import StorageError, StorageUncertain, StoreClosed, StoreLost
from waypost.logs import fields, get_logger
from waypost.storage.callbacks import report
from waypost.storage.wire import reports, requests
from waypost.storage.wire.calls import PlainMethod
from waypost.storage.wire.frames import FrameReader, FrameWriter
from waypost.storage.wire.link import Link
from waypost.storage.wire.problems import from_problem

__all__ = ["Call", "Connection", "Pending"]

_logger = get_logger(__name__)

_T = TypeVar("_T")

_FRAME_BYTES = 256 << 10
_HOST_GONE: Final = "the process that has it open is gone"
_REMEDY: Final = "this process can't go on without it: stop, and start both again"


class Pending(Protocol):
    """A call that waits for its report."""

    future: asyncio.Future[Any]

    @property
    def what(self) -> str | None:
        """The operation in words, which is uncertain if the host goes away; ``None`` if it changes nothing."""
        ...

    def done(self, position: int) -> None:
        """Note that the write took effect."""
        ...

    def answered(self, result: msgspec.Raw) -> None:
        """Take the result."""
        ...


class Call(Generic[_T]):
    """A call with a result; see `Pending`.

    Args:
        future: Gets the result.
        decode: Decodes it.
        what: What the call does, in words; ``None`` if it changes nothing.
        first: Called with the result before the caller resumes.
        ids: The ids of the messages that it adds.
    """

    __slots__ = ("_decode", "_first", "future", "ids", "what")

    def __init__(
        self,
        future: asyncio.Future[_T],
        decode: Callable[[msgspec.Raw], _T],
        what: str | None,
        first: Callable[[_T], None] | None = None,
        ids: tuple[str, ...] = (),
    ) -> None:
        self.future = future
        self._decode = decode
        self.what: str | None = what
        self._first = first
        self.ids = ids

    def done(self, position: int) -> None:
        """Never reported for a call with a result."""

    def answered(self, result: msgspec.Raw) -> None:
        """Take the result."""
        value = self._decode(result)
        if self._first is not None:
            report(self._first, value)
        if not self.future.done():
            self.future.set_result(value)


class Connection:
    """A node's end of its link, for one opening of its store.

    Args:
        store: The store, as errors name it.
        link: The link.

    Attributes:
        store: The store, as errors name it.
        handlers: What takes the reports that are no answers to calls, by their types.
        credit_bytes: The host is told of what was taken in, in steps of so many bytes.
        ended: Called with the error when the host is gone, or can store nothing any more.
    """

    __slots__ = (
        "_calls",
        "_failure",
        "_frame",
        "_is_scheduled",
        "_link",
        "_loop",
        "_numbers",
        "_reader",
        "_taken_in",
        "credit_bytes",
        "ended",
        "handlers",
        "store",
    )

    def __init__(self, store: str, link: Link) -> None:
        self.store = store
        self.handlers: dict[type, Callable[[Any], None]] = {
            reports.Done: self._done,
            reports.Answer: self._answered,
            reports.Failed: self._failed,
            reports.Lost: self._lost,
        }
        self.ended: Callable[[StoreLost], None] = lambda _: None
        self._loop = asyncio.get_running_loop()
        self._link = link
        self._reader: FrameReader[reports.Report] = FrameReader(reports.REPORTS)
        self._frame = FrameWriter()
        self._is_scheduled = False
        self._calls: dict[int, Pending] = {}
        self._numbers = 0
        self._taken_in = 0
        self.credit_bytes = 1
        # Why nothing can be asked for any more.
        self._failure: StorageError | None = None

    # -- calls -----------------------------------------------------------------------------------------------

    def new_future(self) -> asyncio.Future[Any]:
        """Return a future for the result of a call."""
        return self._loop.create_future()

    def next_call(self) -> int:
        """Return the number of the next call.

        Raises:
            StorageError: Nothing can be asked for any more.
        """
        self.check()
        self._numbers += 1
        return self._numbers

    def check(self) -> None:
        """Check that the store can be used.

        Raises:
            StorageError: It can't.
        """
        if self._failure is not None:
            raise copy(self._failure)

    def send(self, request: object) -> None:
        """Send a request after all earlier ones.

        Raises:
            UnicodeError: A text in it is not valid Unicode. Nothing was sent.
        """
        self.check()
        self._post(request)

    def _post(self, request: object) -> None:
        self._frame.add(request)
        if self._frame.size_bytes > _FRAME_BYTES:
            self._flush()
        elif not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._flush)

    def ask(self, call: int, request: object, pending: Pending) -> asyncio.Future[Any]:
        """Send a request whose report is awaited; returns the future of it."""
        self.send(request)
        self._calls[call] = pending
        return pending.future

    def plain(self, method: PlainMethod, target: str | int | None, *arguments: Any, changes: bool) -> Any:
        """Call a plain method; returns the future of its result.

        Args:
            method: The method.
            target: The queue's name, the journal's number, or ``None`` for the store.
            arguments: Its arguments, in the order of its parameters.
            changes: Whether it may change something.
        """
        call = self.next_call()
        what = method.name if changes else None
        request = requests.Plain(call, target, method.name, method.encode_arguments(arguments))
        return self.ask(call, request, Call(self.new_future(), method.decode_result, what))

    def _flush(self) -> None:
        self._is_scheduled = False
        if self._frame.messages:
            self._link.send(self._frame.take())

    # -- its end ---------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Finish the calls that are under way, and say goodbye."""
        if self._failure is None:
            call = self.next_call()
            self._failure = StoreClosed(self.store)
            goodbye: Call[None] = Call(self.new_future(), lambda _: None, None)
            self._post(requests.Goodbye(call))
            self._calls[call] = goodbye
            await asyncio.wait({goodbye.future})
        self._failure = StoreClosed(self.store)
        self._link.close()
        # Claims wait for other nodes, so nobody waited for them.
        calls, self._calls = self._calls, {}
        for pending in calls.values():
            if not pending.future.done():
                pending.future.set_exception(StoreClosed(self.store))

    def closed(self) -> None:
        """Note that the host is gone: nothing is known of what was under way."""
        self._end(StoreLost(self.store, _HOST_GONE, remedy=_REMEDY))

    def _end(self, lost: StoreLost) -> None:
        is_new = self._failure is None
        if is_new or isinstance(self._failure, StoreClosed):
            self._failure = lost if is_new else self._failure
        calls, self._calls = self._calls, {}
        for pending in calls.values():
            if not pending.future.done():
                pending.future.set_exception(self._error_of(pending, lost))
        if is_new:
            report(self.ended, lost)

    def _error_of(self, pending: Pending, lost: StoreLost) -> StorageError:
        if pending.what is None:
            return copy(lost)
        return StorageUncertain(self.store, pending.what, _HOST_GONE, ids=getattr(pending, "ids", ()))

    # -- reports ---------------------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Take bytes of the host."""
        try:
            for messages in self._reader.feed(data):
                for message in messages:
                    self._take(message)
        except msgspec.MsgspecError as error:
            _logger.critical(
                "%s: the process that has it open sent what is no report: %s",
                self.store,
                error,
                extra=fields(store=self.store),
            )
            self._link.close()
            self.closed()
            return
        self._taken_in += len(data)
        if self._taken_in >= self.credit_bytes:
            self._post(requests.Credit(self._taken_in))
            self._taken_in = 0

    def _take(self, message: reports.Report) -> None:
        try:
            self.handlers[type(message)](message)
        except Exception:
            # What follows in the stream must be applied all the same.
            _logger.exception("what applies the rows of other nodes raised, which it must not")

    def _done(self, message: reports.Done) -> None:
        pending = self._calls.pop(message.call, None)
        if pending is not None:
            pending.done(message.position)

    def _answered(self, message: reports.Answer) -> None:
        pending = self._calls.pop(message.call, None)
        if pending is not None:
            pending.answered(message.result)

    def _failed(self, message: reports.Failed) -> None:
        pending = self._calls.pop(message.call, None)
        if pending is not None and not pending.future.done():
            pending.future.set_exception(from_problem(message.problem, self.store))

    def _lost(self, message: reports.Lost) -> None:
        lost = from_problem(message.problem, self.store)
        if isinstance(lost, StoreLost):
            report(self.ended, lost)
