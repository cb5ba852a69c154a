"""The link between two workers, over which they hand connections to each other, in both directions.

It is a stream socket, because one of packets takes no frame from 212,992 bytes. Every connection that is handed over
is answered. Until then the sender keeps the descriptor, so that a client whose worker is stuck, or dies before it has
taken the connection, still gets a response.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from waypost.errors import ProtocolViolation
from waypost.logs import by_client, fields, get_logger
from waypost.transports.handover.passed import Kind, Passed, pack, pack_answer, pack_node, unpack
from waypost.transports.handover.raw_answers import SESSION_UNKNOWN, UNAVAILABLE, answer

__all__ = ["Link"]

logger = get_logger("waypost.workers")

_TAKE_TIMEOUT_S = 10.0
"""Seconds in which the other worker takes a connection, before the client gets a 503."""
_MAX_WAITING = 512
"""How many connections may wait until the other worker takes them. The kernel limits descriptors on their way too."""
_MAX_WAITING_BYTES = 16 << 20
_READ_BYTES = 65_536
_MAX_DESCRIPTORS = 64
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


@dataclass(slots=True, eq=False)
class _Waiting:
    """A frame that is not sent completely, or a connection that is not answered."""

    frame: bytes
    descriptor: int | None
    deadline: float
    sent: int = 0


class Link:
    """The link to one other worker.

    Args:
        number: The other worker's number.
        sock: The connected stream socket, non-blocking; the link owns it.
        take: Called with each connection that the other worker hands over.
        refused: Called for each connection that this worker had to refuse.
        lost: Called once, when the other worker is gone.
        introduced: Called with the number of the other worker's node, if it is one of a store by itself.

    Attributes:
        number: The other worker's number.
        is_leaving: Whether the other worker accepts no new clients any more.
    """

    def __init__(
        self,
        number: int,
        sock: socket.socket,
        take: Callable[[socket.socket, Passed], None],
        refused: Callable[[], None],
        lost: Callable[[], None],
        introduced: Callable[[str], None] = lambda number: None,
    ) -> None:
        self.number = number
        self.is_leaving = False
        self._sock = sock
        self._take = take
        self._refused = refused
        self._lost = lost
        self._introduced = introduced
        self._loop = asyncio.get_running_loop()
        self._unsent: deque[_Waiting] = deque()
        self._unsent_bytes = 0
        self._unanswered: deque[_Waiting] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._received = bytearray()
        self._descriptors: deque[int | None] = deque()
        self._is_open = True
        self._waits_to_write = False
        self._loop.add_reader(sock, self._read)

    @property
    def is_stuck(self) -> bool:
        """Whether the other worker has not taken in time what it was handed."""
        return bool(self._unanswered) and self._unanswered[0].descriptor is None

    def hand_over(self, descriptor: int, passed: Passed) -> bool:
        """Hand a connection over; the client gets a 503 if the other worker is stuck, or too many wait for it.

        Args:
            descriptor: A descriptor of the connection, which the link closes; the caller closes its own.
            passed: What was read of the connection.

        Returns:
            False if the other worker is gone; the caller still owns the descriptor then.
        """
        if not self._is_open:
            return False
        frame = pack(passed)
        is_full = len(self._unanswered) >= _MAX_WAITING or self._unsent_bytes + len(frame) > _MAX_WAITING_BYTES
        if is_full or self.is_stuck:
            logger.warning(
                "worker %d is stuck or has too much to do: a request for it gets a 503, and its client tries again; "
                "look for what blocks that worker's event loop, or raise --workers",
                self.number,
                extra=by_client(fields(worker=self.number)),
            )
            self._refuse(descriptor, UNAVAILABLE)
            return True
        waiting = _Waiting(frame, descriptor, self._loop.time() + _TAKE_TIMEOUT_S)
        self._unanswered.append(waiting)
        if self._timer is None:
            self._timer = self._loop.call_at(waiting.deadline, self._give_up)
        self._send(waiting)
        return True

    def introduce(self, node: str) -> None:
        """Tell the other worker which node of the store this one is."""
        self._send(_Waiting(pack_node(node), None, 0.0))

    def finish(self) -> None:
        """Close the link, because the other worker has ended, after everything that it has said."""
        while self._is_open and self._read():
            pass
        self.close()

    def close(self) -> None:
        """Close the link. A connection that the other worker has not taken gets a response."""
        if not self._is_open:
            return
        self._is_open = False
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        if self._timer is not None:
            self._timer.cancel()
        for waiting in self._unanswered:
            if waiting.descriptor is not None:
                self._refuse(waiting.descriptor, SESSION_UNKNOWN)
        self._unanswered.clear()
        self._unsent.clear()
        for descriptor in self._descriptors:
            if descriptor is not None:
                os.close(descriptor)
        self._descriptors.clear()

    def _refuse(self, descriptor: int, response: bytes) -> None:
        self._refused()
        answer(descriptor, response)

    def _end(self) -> None:
        if self._is_open:
            self.close()
            self._lost()

    # -- what goes out --------------------------------------------------------------------------------------

    def _send(self, waiting: _Waiting) -> None:
        self._unsent.append(waiting)
        self._unsent_bytes += len(waiting.frame)
        if not self._waits_to_write:
            self._write()

    def _write(self) -> None:
        try:
            while self._unsent:
                self._write_some(self._unsent[0])
        except (BlockingIOError, InterruptedError):
            if not self._waits_to_write:
                self._waits_to_write = True
                self._loop.add_writer(self._sock, self._write)
            return
        except OSError:
            self._end()
            return
        if self._waits_to_write:
            self._waits_to_write = False
            self._loop.remove_writer(self._sock)

    def _write_some(self, waiting: _Waiting) -> None:
        rest = memoryview(waiting.frame)[waiting.sent :]
        if waiting.sent or waiting.descriptor is None:
            waiting.sent += self._sock.send(rest)
        else:
            try:
                waiting.sent = socket.send_fds(self._sock, [rest], [waiting.descriptor])
            except OSError as error:
                if error.errno != errno.ETOOMANYREFS:
                    raise
                # Too many descriptors are on their way between processes of this user.
                self._forget_unsent(waiting)
                self._refuse(waiting.descriptor, UNAVAILABLE)
                return
        if waiting.sent == len(waiting.frame):
            self._unsent.popleft()
            self._unsent_bytes -= len(waiting.frame)

    def _forget_unsent(self, waiting: _Waiting) -> None:
        self._unsent.remove(waiting)
        self._unsent_bytes -= len(waiting.frame)
        self._unanswered.remove(waiting)

    def _give_up(self) -> None:
        """Answer those whose time is over; a frame of which nothing was sent is not sent any more."""
        self._timer, now = None, self._loop.time()
        for waiting in [each for each in self._unanswered if each.deadline <= now]:
            descriptor, waiting.descriptor = waiting.descriptor, None
            if descriptor is None:
                continue
            logger.warning(
                "worker %d has not taken a connection within %g s: its client gets a 503, and tries again; look for "
                "what blocks that worker's event loop",
                self.number,
                _TAKE_TIMEOUT_S,
                extra=by_client(fields(worker=self.number, seconds=_TAKE_TIMEOUT_S)),
            )
            if not waiting.sent:
                self._forget_unsent(waiting)
            self._refuse(descriptor, UNAVAILABLE)
        rest = next((each for each in self._unanswered if each.descriptor is not None), None)
        if rest is not None:
            self._timer = self._loop.call_at(rest.deadline, self._give_up)

    # -- what comes in --------------------------------------------------------------------------------------

    def _read(self) -> bool:
        """Read and handle what has come; returns whether there was something."""
        try:
            data, descriptors, flags, _ = socket.recv_fds(self._sock, _READ_BYTES, _MAX_DESCRIPTORS, _CLOSE_ON_EXEC)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            self._end()
            return False
        self._descriptors.extend(descriptors)
        if not descriptors and flags & socket.MSG_CTRUNC:
            # This process has no descriptor left for the connection that came.
            self._descriptors.append(None)
        if not data:
            self._end()
            return False
        self._received += data
        self._handle_frames()
        return True

    def _handle_frames(self) -> None:
        answers = b""
        try:
            while (frame := unpack(self._received)) is not None:
                if frame[0] is Kind.CONNECTION:
                    answers += self._take_next(frame[1])
                elif frame[0] is Kind.NODE:
                    self._introduced(frame[1].data.decode("ascii", "replace"))
                else:
                    self._receive_answer(frame[0])
        except (ProtocolViolation, IndexError):
            logger.exception(
                "closed the link to worker %d, which sends what no worker sends",
                self.number,
                extra=fields(node=str(self.number)),
            )
            self._end()
        # Before anything is served: what has no answer when this process dies was not served.
        if answers and self._is_open:
            self._send(_Waiting(answers, None, 0.0))

    def _take_next(self, passed: Passed) -> bytes:
        """Take a connection, to be served in a later turn of the loop; returns the answer."""
        descriptor = self._descriptors.popleft()
        if descriptor is not None:
            self._take(socket.socket(fileno=descriptor), passed)
        return pack_answer(taken=descriptor is not None)

    def _receive_answer(self, kind: Kind) -> None:
        waiting = self._unanswered.popleft()
        descriptor, waiting.descriptor = waiting.descriptor, None
        if descriptor is None:
            return
        if kind is Kind.TAKEN:
            os.close(descriptor)
        else:
            self._refuse(descriptor, UNAVAILABLE)
