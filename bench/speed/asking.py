"""Clients that ask and are answered: the next question when an answer comes (closed loop), or by the clock (open)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.speed.entering import leave
from bench.speed.frames import client_frame, heartbeat_answer, payload_bounds
from bench.speed.scripts import Script

__all__ = ["Asker", "Pace", "PacedAsker", "Tally", "Unexpected"]


class Unexpected(Exception):
    """A server said what it should not have."""


@dataclass
class Tally:
    """What all askers have done together.

    Attributes:
        done: How many answers came, each the right one.
        sent: How many questions went.
        running: Whether an answer is followed by the next question.
        failure: What went wrong.
    """

    done: int = 0
    sent: int = 0
    running: bool = False
    failure: Exception | None = None


class Asker(asyncio.Protocol):
    """A connection with so many questions in flight.

    Args:
        script: What is said; the answers have to come in order.
        tally: Where it is counted.
        in_flight: How many questions wait for an answer at the same time.
        first: Where in the script it begins.
    """

    __slots__ = ("_answer_at", "_answers", "_in_flight", "_request_at", "_requests", "_rest", "_tally", "transport")

    def __init__(self, script: Script, tally: Tally, in_flight: int = 1, first: int = 0) -> None:
        self._requests, self._answers = script.requests, script.answers
        self._tally = tally
        self._in_flight = in_flight
        self._request_at = self._answer_at = first % len(self._requests)
        self._rest = b""
        self.transport: asyncio.Transport

    def begin(self, transport: asyncio.Transport) -> None:
        """Have the connection."""
        self.transport = transport

    def start(self) -> None:
        """Ask the first questions."""
        self._ask(self._in_flight)

    def data_received(self, data: bytes) -> None:
        """Check and count all answers in it, and ask as many questions."""
        if self._rest:
            data = self._rest + data
        answers, answer_at = self._answers, self._answer_at
        at, end, done = 0, len(data), 0
        while at < end:
            # The usual case: a short frame, all there.
            start = at + 2
            stop = start + data[at + 1] if start <= end else 0
            if not stop or stop - start > 125:
                start, stop = payload_bounds(data, at)
            if not start or stop > end:
                break
            if data.startswith(answers[answer_at], start):
                answer_at = (answer_at + 1) % len(answers)
                done += 1
            elif not self._take_heartbeat(data[at], data[start:stop]):
                return
            at = stop
        self._rest = data[at:]
        self._answer_at = answer_at
        self._tally.done += done
        if done and self._tally.running:
            self._ask(done)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell, if it was needed still."""
        if self._tally.running and self._tally.failure is None:
            self._tally.failure = exc or Unexpected("the server closed a connection")

    def _ask(self, count: int) -> None:
        at = self._request_at
        self._tally.sent += count
        if count == 1:
            self.transport.write(self._requests[at])
        else:
            length = len(self._requests)
            self.transport.write(b"".join([self._requests[(at + number) % length] for number in range(count)]))
        self._request_at = (at + count) % len(self._requests)

    def _take_heartbeat(self, first: int, payload: bytes) -> bool:
        alive = heartbeat_answer(first, payload)
        if alive is not None:
            self.transport.write(alive)
            return True
        self._tally.failure = Unexpected(f"expected {self._answers[self._answer_at]!r}, got {payload[:200]!r}")
        leave(self.transport)
        return False


@dataclass
class Pace:
    """When questions were due, and how long their answers took.

    Attributes:
        rate: Questions a second, of all connections together.
        due: When each was due, by its number.
        latencies: How long after that its answer came, in seconds.
        late: How long after that each was sent.
    """

    rate: float
    due: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)

    async def run(self, askers: Sequence[PacedAsker], seconds: float, limit_s: float = 10) -> bool:
        """Ask in turn at the rate for so long, then wait for the last answers; tells whether all came."""
        clock, total = time.perf_counter, int(self.rate * seconds)
        began, sent, step = clock(), 0, 1 / self.rate
        while sent < total:
            now = clock()
            while sent < total and began + sent * step <= now:
                self.due.append(began + sent * step)
                askers[sent % len(askers)].ask(sent)
                self.late.append(clock() - self.due[-1])
                sent += 1
            # No timer is as exact as looking at the clock again.
            await asyncio.sleep(0)
        deadline = clock() + limit_s
        while len(self.latencies) < total and clock() < deadline:
            await asyncio.sleep(0.001)
        return len(self.latencies) == total


class PacedAsker(asyncio.Protocol):
    """A connection that asks when it is told to."""

    __slots__ = ("_pace", "_rest", "transport")

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._rest = b""
        self.transport: asyncio.Transport

    def begin(self, transport: asyncio.Transport) -> None:
        """Have the connection."""
        self.transport = transport

    def follow(self, pace: Pace) -> None:
        """Note answers elsewhere from now on."""
        self._pace = pace

    def ask(self, number: int) -> None:
        """Ask one question."""
        self.transport.write(client_frame(f'42{number}["ack",{{"number":{number}}}]'))

    def data_received(self, data: bytes) -> None:
        """Note how long the answers in it took."""
        now = time.perf_counter()
        data = self._rest + data
        at = 0
        while True:
            start, stop = payload_bounds(data, at)
            if not start or stop > len(data):
                break
            if data.startswith(b"43", start):
                number = int(data[start + 2 : data.index(b"[", start)])
                self._pace.latencies.append(now - self._pace.due[number])
            elif (alive := heartbeat_answer(data[at], data[start:stop])) is not None:
                self.transport.write(alive)
            at = stop
        self._rest = data[at:]

    def connection_lost(self, exc: Exception | None) -> None:
        """What is missing shows in the count of answers."""
