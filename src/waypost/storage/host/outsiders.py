"""Does what programs without a server ask the host of a store for, over links of their own."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Final

import msgspec

from waypost.errors import StoreClosed
from waypost.logs import get_logger
from waypost.storage.host.driving import Then, begin
from waypost.storage.host.journals import HostedJournal, OutsideRows
from waypost.storage.host.served import ServedStore
from waypost.storage.journal_records import ExpiredSession
from waypost.storage.outside import OutsideWrite, tell_follower
from waypost.storage.wire.frames import FrameReader, FrameWriter
from waypost.storage.wire.link import Link
from waypost.storage.wire.outside import REQUESTS, Done, Publish, Refused, Request, Write
from waypost.storage.wire.problems import to_problem

__all__ = ["Outsiders"]

_logger = get_logger(__name__)

_MOST_BYTES: Final = 512 << 20
_MANY_IDS: Final = 10_000


class Outsiders:
    """The programs without a server that have a link to a host.

    Args:
        served: Returns the open store; ``None`` while there is none.
    """

    __slots__ = ("_ids", "_served")

    def __init__(self, served: Callable[[], ServedStore | None]) -> None:
        self._served = served
        # Until when the id of a write to a journal is remembered, on the store's clock.
        self._ids: dict[tuple[str, str], float] = {}

    def attach(self, link: Link) -> None:
        """Serve a program at the other end of a link."""
        link.start(_Receiver(link, self._begin))

    def _begin(self, link: Link, request: Request) -> None:
        def answer(message: object) -> None:
            frame = FrameWriter()
            frame.add(message)
            link.send(frame.take())

        def done(_: object) -> None:
            answer(Done(request.call))

        def failed(error: BaseException) -> None:
            answer(Refused(request.call, to_problem(error)))

        served = self._served()
        if served is None:
            failed(StoreClosed("of the parent process"))
        elif isinstance(request, Publish):
            begin(served.queues.receive(request.queue, request.message, request.window_s), Then(done, failed))
        else:
            self._write(served, request, done, failed)

    def _write(
        self,
        served: ServedStore,
        request: Write,
        done: Callable[[object], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        hosted = served.journals.get(request.write.journal)
        if hosted is None:
            # Nobody is there, and nobody was.
            done(None)
            return
        name = (request.write.journal, request.write_id)
        if request.write_id and request.window_s > 0 and not self._note(name, served, request.window_s):
            done(None)
            return

        def not_done(error: BaseException) -> None:
            self._ids.pop(name, None)
            failed(error)

        begin(_write_to(hosted, request.write), Then(done, not_done))

    def _note(self, name: tuple[str, str], served: ServedStore, window_s: float) -> bool:
        """Note the id of a write; returns whether it is new."""
        now = served.store.clock.now()
        if self._ids.get(name, now) > now:
            return False
        if len(self._ids) >= _MANY_IDS:
            self._ids = {one: until for one, until in self._ids.items() if until > now}
        self._ids[name] = now + window_s
        return True


async def _write_to(hosted: HostedJournal, write: OutsideWrite) -> None:
    """Do a write, and tell all nodes as of a row that no node has written."""
    journal, rows = hosted.journal, OutsideRows(hosted)
    told = partial(_tell, rows, write)
    match write.kind:
        case "emit":
            await journal.append(write.content, told)
        case "join":
            await journal.join_matching(write.rooms, write.except_, write.moved, told)
        case "leave":
            await journal.leave_matching(write.rooms, write.except_, write.moved, told)
        case "end":

            def ended(sessions: Collection[ExpiredSession]) -> None:
                tell_follower(rows, write, journal.top, [*sessions])

            await journal.end_matching(write.rooms, write.except_, ended, note=write.content)


def _tell(rows: OutsideRows, write: OutsideWrite, position: int) -> None:
    tell_follower(rows, write, position, [])


class _Receiver:
    """Takes what one program sends."""

    def __init__(self, link: Link, begin: Callable[[Link, Request], None]) -> None:
        self._link = link
        self._begin = begin
        self._reader: FrameReader[Request] = FrameReader(REQUESTS, _MOST_BYTES)

    def received(self, data: bytes) -> None:
        try:
            for messages in self._reader.feed(data):
                for message in messages:
                    self._begin(self._link, message)
        except msgspec.MsgspecError as error:
            _logger.warning("a program without a server sent what is no request: %s", error)
            self._link.close()

    def closed(self) -> None:
        """Do nothing: what it has asked for is done all the same."""
