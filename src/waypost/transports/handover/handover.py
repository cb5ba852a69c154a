"""Hands connections over to the worker whose session a request is for, and takes those of other workers.

A load balancer, or the kernel, may give a request to any worker. The session id names the session's worker; see
`worker_sid`. The worker that reads the request passes the connection on, with what it has read. Later requests on the
same connection come to the right worker at once. Only a connection whose TLS is in this process can't
be passed on; its bytes are forwarded (`relay`), which costs both workers a read and a write for each piece.

Where the processes are nodes of a store, the session id names the node. A node on another machine, or one that no
parent links with this one, gets the bytes too (`forwarding`).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from waypost.logs import by_client, fields, get_logger
from waypost.protocol.worker_sid import asks_for_a_session, worker_of
from waypost.server.watching.counters import Counters
from waypost.storage.following import Ways
from waypost.transports.handover.forwarded import take_forwarded
from waypost.transports.handover.forwarding import Forwarding
from waypost.transports.handover.link import Link
from waypost.transports.handover.origins import origin_of
from waypost.transports.handover.passed import MAX_DATA_BYTES, Passed
from waypost.transports.handover.raw_answers import UNAVAILABLE
from waypost.transports.handover.relay import relay
from waypost.transports.peers import Peers

__all__ = ["Arriving", "Crosser", "Far", "Handover"]

logger = get_logger("waypost.workers")


class Arriving(Protocol):
    """A protocol of uvicorn that can begin in the middle.

    Attributes:
        arrival: The connection that another worker has read, if this one begins so.
    """

    arrival: Passed | None


class Crosser(Protocol):
    """An HTTP connection of uvicorn that may go to another node.

    Attributes:
        transport: The client's connection.
        connections: The open connections, which a stopping server closes.
        tasks: Keeps references to tasks.
    """

    transport: asyncio.Transport
    connections: set[Any]
    tasks: set[Any]


@dataclass(frozen=True, slots=True)
class Far:
    """A node that is reached over the network, if there is one with the number.

    Attributes:
        number: The number. It is untrusted.
    """

    number: str


class Handover:
    """One process' part in handing over connections.

    Args:
        peers: The other workers; ``None`` for a process without a parent.

    Attributes:
        worker: The number of this worker, or of this node, as session ids name it.
        counters: Counts what is handed over.
        is_leaving: Returns whether this worker accepts no new sessions any more.
        find_ways: Returns the ways to other nodes, once the store is open; ``None`` without nodes on the network.
    """

    def __init__(self, peers: Peers | None) -> None:
        self.worker = "" if peers is None else str(peers.number)
        self.counters = Counters()
        self.is_leaving: Callable[[], bool] = lambda: False
        self.find_ways: Callable[[], Ways | None] = lambda: None
        self._ways: Ways | None = None
        # The links to workers that are nodes by themselves, by the nodes' numbers.
        self._nodes: dict[str, Link] = {}
        self._peers = peers
        self._links: dict[str, Link] = {}
        self._make: Callable[[], Arriving] | None = None
        self._arriving: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def start(self, make_protocol: Callable[[], Arriving]) -> None:
        """Begin to hand over and to take connections.

        Args:
            make_protocol: Makes the protocol of a new connection.
        """
        self._make = make_protocol
        self._ways = self.find_ways()
        if self._ways is not None:
            self.worker = self._ways.number
            self._ways.serve(self._take_forwarded)
        if self._peers is not None:
            self._peers.watch(self._came, self._gone, self._leaving)

    def close(self) -> None:
        """Take nothing any more. May be called again."""
        self._is_closed = True
        for link in self._links.values():
            link.close()
        self._links.clear()

    # -- the other workers ----------------------------------------------------------------------------------

    def _came(self, number: int, sock: socket.socket) -> None:
        if self._is_closed:
            sock.close()
            return
        key = str(number)
        link = Link(
            number,
            sock,
            self._take,
            self._count_refused,
            lambda: self._forget(key),
            lambda node: self._introduced(node, link),
        )
        self._links[key] = link
        if self._ways is not None:
            link.introduce(self.worker)

    def _introduced(self, node: str, link: Link) -> None:
        self._nodes[node] = link

    def _gone(self, number: int) -> None:
        key = str(number)
        link = self._links.get(key)
        if link is not None:
            link.finish()
            self._forget(key)

    def _leaving(self, number: int) -> None:
        link = self._links.get(str(number))
        if link is not None:
            link.is_leaving = True

    def _forget(self, key: str) -> None:
        link = self._links.pop(key, None)
        for node in [node for node, one in self._nodes.items() if one is link]:
            del self._nodes[node]

    def _count_refused(self) -> None:
        self.counters.refused_handovers += 1

    # -- handing over ---------------------------------------------------------------------------------------

    def link_for(self, head: bytes) -> Link | Far | None:
        """Return the way to the process that a request is for; ``None`` if it is answered here.

        An id that names no living worker is looked up once, and then refused here, as any unknown one. Whether there
        is a node on the network is found out by `forward_far`.

        Args:
            head: The request line and the headers. They are untrusted.
        """
        worker = worker_of(head)
        if worker is None:
            return self._spare() if self.is_leaving() and asks_for_a_session(head) else None
        if worker == self.worker:
            return None
        self.counters.foreign_requests += 1
        if self._ways is None:
            return self._links.get(worker)
        return self._nodes.get(worker) or Far(worker)

    def _spare(self) -> Link | None:
        """Return a link to a worker for a new session, one after the other."""
        for key, link in self._links.items():
            if not link.is_leaving and not link.is_stuck:
                self._links[key] = self._links.pop(key)
                return link
        return None

    def hand_over(self, link: Link, transport: asyncio.Transport, passed: Passed) -> bool:
        """Hand a connection over at the beginning of a request; nothing else is under way on it.

        Returns:
            False if the other worker is gone, or has no place for what was read; the connection is unchanged then.
        """
        raw = transport.get_extra_info("socket")
        if raw is None or len(passed.data) > MAX_DATA_BYTES:
            return False
        try:
            descriptor = os.dup(raw.fileno())
        except OSError:
            logger.warning("a connection can't be handed over: there is no file descriptor for it")
            return False
        if not link.hand_over(descriptor, passed):
            os.close(descriptor)
            return False
        self.counters.handed_over += 1
        # Closes this process's descriptor. The connection stays open in the other one.
        transport.abort()
        return True

    def forward(
        self, link: Link, transport: asyncio.Transport, passed: Passed, connections: set[Any], tasks: set[Any]
    ) -> bool:
        """Forward a connection's bytes from now on, because it can't be handed over; see `hand_over`.

        Args:
            link: The link to the other worker.
            transport: The client's connection.
            passed: What was read of it, and where it comes from.
            connections: The open connections, which a stopping server closes.
            tasks: Keeps references to tasks.
        """
        if len(passed.data) > MAX_DATA_BYTES:
            return False
        inside, theirs = socket.socketpair()
        inside.setblocking(False)
        theirs.setblocking(False)
        descriptor = theirs.detach()
        if not link.hand_over(descriptor, passed):
            os.close(descriptor)
            inside.close()
            return False
        self.counters.forwarded += 1
        relay(transport, inside, connections, tasks)
        return True

    def forward_far(self, far: Far, http: Crosser, data: bytes) -> None:
        """Forward a connection's bytes to another node from now on; it comes back if there is none.

        Args:
            far: The node.
            http: The connection, which has let go of its transport.
            data: What was read, from the beginning of a request on.
        """
        forwarding = Forwarding(http.transport, http.connections, self._take_back)
        task = asyncio.get_running_loop().create_task(self._go_far(far, forwarding, http.transport, data))
        http.tasks.add(task)
        task.add_done_callback(http.tasks.discard)

    async def _go_far(self, far: Far, forwarding: Forwarding, outside: asyncio.Transport, data: bytes) -> None:
        assert self._ways is not None
        origin = origin_of(outside)
        try:
            inside = await self._ways.open(far.number)
        except OSError as problem:
            logger.warning(
                "node %s can't be reached: a request for it gets a 503, and its client tries again: %s; check that "
                "nodes reach each other's internal addresses (docs/serving.md, several machines)",
                far.number,
                problem,
                extra=by_client(fields(node=far.number)),
            )
            self._count_refused()
            forwarding.refuse(UNAVAILABLE)
            return
        if forwarding.is_over or outside.is_closing():
            if inside is not None:
                inside.abort()
        elif inside is None:
            self._count_refused()
            self._serve_again(forwarding.give_up(), Passed(data))
        else:
            self.counters.forwarded += 1
            forwarding.begin(inside, origin, data)

    # -- taking ---------------------------------------------------------------------------------------------

    def _take(self, sock: socket.socket, passed: Passed) -> None:
        try:
            # Fails if the other worker has answered meanwhile, because it waited for too long.
            sock.send(b"")
        except OSError:
            sock.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(sock, passed))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    async def _serve(self, sock: socket.socket, passed: Passed) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: self._begin(passed), sock)
        except OSError as problem:
            sock.close()
            logger.debug("a connection from another worker was lost: %s", problem)

    def _take_forwarded(self, line: asyncio.Transport) -> None:
        if self._is_closed:
            line.abort()
        else:
            take_forwarded(line, self._begin)

    def _take_back(self, outside: asyncio.Transport, data: bytes) -> None:
        self._serve_again(outside, Passed(data, is_final=False))

    def _serve_again(self, outside: asyncio.Transport, passed: Passed) -> None:
        """Serve a connection here that was forwarded before, or was to be."""
        if outside.is_closing():
            return
        protocol = self._begin(passed)
        outside.set_protocol(protocol)
        protocol.connection_made(outside)
        outside.resume_reading()

    def _begin(self, passed: Passed) -> Any:
        assert self._make is not None
        protocol = self._make()
        protocol.arrival = passed
        return protocol
