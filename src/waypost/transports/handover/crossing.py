"""Lets one HTTP connection cross to another worker, at the beginning of a request that is for that worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

from waypost.transports.handover.cuts import RequestCuts
from waypost.transports.handover.forwarded import ForwardedTransport
from waypost.transports.handover.handover import Far, Handover
from waypost.transports.handover.link import Link
from waypost.transports.handover.origins import origin_of
from waypost.transports.handover.passed import MAX_DATA_BYTES, Passed

__all__ = ["Crossing", "HttpConnection"]


class HttpConnection(Protocol):
    """An HTTP connection of uvicorn, as far as it matters here."""

    transport: asyncio.Transport
    flow: Any
    headers: list[tuple[bytes, bytes]]
    connections: set[Any]
    tasks: set[Any]

    @property
    def is_busy(self) -> bool:
        """Whether a request is not answered completely."""
        ...

    @property
    def reads_requests(self) -> bool:
        """Whether what comes is HTTP still, and will be answered."""
        ...

    @property
    def is_in_head(self) -> bool:
        """Whether a request's line or headers have come in part."""
        ...

    @property
    def is_in_body(self) -> bool:
        """Whether a request's body has come in part, or is to come."""
        ...

    def parse(self, data: bytes) -> None:
        """Pass bytes to the parser, which starts the requests in them."""
        ...

    def data_received(self, data: bytes) -> None:
        """Take bytes from the network."""
        ...

    def hold(self) -> None:
        """Stop all limits of time: a request waits for its turn to be handed over."""
        ...

    def leave(self) -> None:
        """Let go of the connection: what comes of it goes to another worker."""
        ...


class _Outcome(Enum):
    GONE = 1
    WAITS = 2
    STAYS = 3


class Crossing:
    """Parts the requests of one connection, and lets the connection cross when one is for another worker.

    A connection crosses only between two requests, when all responses are written. Until then the request waits
    unread, and the network is not read any further.

    Args:
        http: The connection.
        handover: This worker's part in handing over.
        arrival: The connection as another worker has handed it over; ``None`` if it was accepted here.
    """

    __slots__ = (
        "_arrived",
        "_cuts",
        "_handover",
        "_held",
        "_http",
        "_is_ours",
        "_link",
        "_origin",
        "_parsed",
        "is_over",
    )

    def __init__(self, http: HttpConnection, handover: Handover, arrival: Passed | None) -> None:
        self.is_over = False
        self._http = http
        self._handover = handover
        self._origin = None if arrival is None else arrival.origin
        self._arrived = b"" if arrival is None else arrival.data
        self._cuts = RequestCuts()
        self._link: Link | Far | None = None
        self._held = b""
        self._parsed = 0
        # A request is handed over once: two workers that leave would pass it to and fro.
        self._is_ours = arrival is not None and arrival.is_final

    @property
    def waits(self) -> bool:
        """Whether a request waits until the connection can cross."""
        return self._link is not None

    def begin(self) -> None:
        """Go on with what another worker has read."""
        if self._arrived and not self._http.transport.is_closing():
            self._http.data_received(b"")

    def receive(self, data: bytes) -> None:
        """Take bytes from the network."""
        if self._arrived:
            data, self._arrived = self._arrived + data, b""
        if self._link is not None:
            self._hold_more(data)
            return
        http, cuts = self._http, self._cuts
        while data and http.reads_requests:
            size = cuts.cut(data)
            if cuts.is_head and self._is_for_another(data, size):
                return
            http.parse(data[:size])
            data = data[size:]
            cuts.passed(size, in_head=http.is_in_head, in_body=http.is_in_body, headers=http.headers)

    def _is_for_another(self, data: bytes, size: int) -> bool:
        """Return whether the request whose head is complete now has crossed, or will; its worker may be gone."""
        if self._is_ours:
            self._is_ours = False
            return False
        head = self._cuts.head
        link = self._handover.link_for(head)
        if link is None:
            return False
        self._link, self._held, self._parsed = link, head + data[size:], len(head) - size
        self._http.hold()
        return self._try() is not _Outcome.STAYS

    def go_on(self) -> None:
        """Cross now, if a request waits for that, and all before it is answered."""
        if self._link is not None and self._try() is _Outcome.STAYS:
            # The worker is gone meanwhile.
            head, rest = self._held[: self._parsed], self._held[self._parsed :]
            self._held, self._is_ours = b"", True
            self._cuts.head = head
            self._http.data_received(rest)

    def _hold_more(self, data: bytes) -> None:
        self._held += data
        if len(self._held) > MAX_DATA_BYTES:
            self._http.transport.abort()
        else:
            self._http.flow.pause_reading()

    def _try(self) -> _Outcome:
        http, link, transport = self._http, self._link, self._http.transport
        if link is None or transport.is_closing():
            return _Outcome.GONE
        http.flow.pause_reading()
        if http.is_busy:
            return _Outcome.WAITS
        if isinstance(transport, ForwardedTransport):
            return self._let_go(lambda: transport.give_back(self._held))
        if isinstance(link, Far):
            return self._let_go(lambda: self._handover.forward_far(link, http, self._held))
        is_secure = transport.get_extra_info("sslcontext") is not None
        if not is_secure and transport.get_write_buffer_size():
            # The transport says when everything is written.
            transport.set_write_buffer_limits(high=0)
            return _Outcome.WAITS
        self._link = None
        if self._forward(link, transport) if is_secure else self._hand_over(link, transport):
            self.is_over, self._held = True, b""
            return _Outcome.GONE
        transport.set_write_buffer_limits()
        http.flow.resume_reading()
        return _Outcome.STAYS

    def _let_go(self, go: Callable[[], None]) -> _Outcome:
        http = self._http
        http.leave()
        go()
        self._link, self._held, self.is_over = None, b"", True
        return _Outcome.GONE

    def _hand_over(self, link: Link, transport: asyncio.Transport) -> bool:
        return self._handover.hand_over(link, transport, Passed(self._held, self._origin))

    def _forward(self, link: Link, transport: asyncio.Transport) -> bool:
        http, passed = self._http, Passed(self._held, origin_of(transport))
        if not self._handover.forward(link, transport, passed, http.connections, http.tasks):
            return False
        http.leave()
        return True
