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


class Outsiders:
    """The programs without a server that have a link to a host.

    Args:
        served: Returns the open store; ``None`` while there is none.
    """

    __slots__ = ("_served",)

    def __init__(self, served: Callable[[], ServedStore | None]) -> None:
        self._served = served

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
        write, window_s = request.write, request.window_s
        hosted = served.journals.get(write.journal)
        if hosted is None:
            # Nobody is there, and nobody was.
            done(None)
        elif write.kind == "emit" and request.write_id and window_s > 0:
            appending = served.store.append_once(write.journal, write.content, request.write_id, window_s)
            begin(appending, Then(done, failed))
        else:
            begin(_write_to(hosted, write), Then(done, failed))


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
