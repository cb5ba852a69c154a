"""The numbers of all servers of a cluster: each tells the others its own, about every second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import msgspec

from waypost.server.basics.traffic import Traffic
from waypost.server.cluster.bus import Topic
from waypost.server.connections.site_counts import SiteCounts
from waypost.server.namespaces.core import NamespaceCore
from waypost.server.services import Services
from waypost.server.watching.counters import (
    Counters,
    JournalState,
    ServerNumbers,
    ServerState,
    add_counters,
    add_loads,
    copy_counters,
    copy_loads,
    raise_counters,
)
from waypost.server.watching.loop_lag import LoopLag
from waypost.storage.following import EVERYBODY, Nodes

__all__ = ["Numbers", "Told"]

_INTERVAL_S = 1.0
_BYTES_PER_S = 64 << 10
"""Larger numbers are told less often, so that they take no more than this."""
_LONGEST_S = 10.0


class Told(msgspec.Struct, frozen=True, array_like=True):
    """The numbers of one server.

    Attributes:
        numbers: Its numbers.
        departed: The totals of the servers that have gone, as far as it knows.
        sites: The numbers of addresses, by limit and address.
    """

    numbers: ServerNumbers
    departed: Counters
    sites: dict[str, dict[str, int]]


class Numbers:
    """The numbers of this server and of the others.

    Args:
        services: The services that the server's parts share.
        transports: Returns the number of connections, by transport.
        traffic: The bytes of all connections.
        namespaces: The namespaces.

    Attributes:
        sites: The numbers of addresses that limits compare, by limit.
    """

    def __init__(
        self,
        services: Services,
        transports: Callable[[], dict[str, int]],
        traffic: Traffic,
        namespaces: Iterable[NamespaceCore],
    ) -> None:
        self._traffic = traffic
        self.sites: dict[str, SiteCounts] = {}
        self._services = services
        self._transports = transports
        self._namespaces = namespaces
        self._others: dict[str, ServerNumbers] = {}
        self._departed = Counters()
        self._lag = LoopLag()
        self._telling: asyncio.Task[None] | None = None
        self._last: Told | None = None

    def state(self) -> ServerState:
        """Return the numbers of all servers."""
        own, nodes = self._own(), self._services.store.nodes
        total, sockets, transports = copy_counters(own.counters), dict(own.sockets), dict(own.transports)
        queues = copy_loads(own.queues)
        add_counters(total, self._departed)
        for other in self._others.values():
            add_counters(total, other.counters)
            add_loads(queues, other.queues)
            for sums, counts in ((sockets, other.sockets), (transports, other.transports)):
                for name, count in counts.items():
                    sums[name] = sums.get(name, 0) + count
        return ServerState(
            connections=own.connections + sum(other.connections for other in self._others.values()),
            sockets=sockets,
            counters=total,
            journals=self._journals(),
            server="" if nodes is None else nodes.name,
            servers={} if nodes is None else {nodes.name: own, **self._others},
            transports=transports,
            queues=queues,
            loop_lag_s=max(own.loop_lag_s, *(other.loop_lag_s for other in self._others.values()), 0.0),
        )

    def _own(self) -> ServerNumbers:
        transports = self._transports()
        counters = self._services.counters
        counters.bytes_received, counters.bytes_sent = self._traffic.received, self._traffic.sent
        counters.store.add(self._services.store.take_counts())
        return ServerNumbers(
            sum(transports.values()),
            {namespace.name: len(namespace.index) for namespace in self._namespaces},
            copy_counters(counters),
            transports,
            copy_loads(self._services.queues.loads),
            self._lag.longest_s,
        )

    def _journals(self) -> dict[str, JournalState]:
        journals = {}
        for namespace in self._namespaces:
            journal = namespace.feed.journal
            if journal is not None:
                journals[namespace.name] = JournalState(
                    events=journal.top - journal.oldest + 1,
                    bytes=journal.size_bytes,
                    oldest_offset=f"{journal.generation}.{journal.oldest}",
                    newest_offset=f"{journal.generation}.{journal.top}",
                )
        return journals

    def start(self) -> None:
        """Begin to watch the event loop."""
        self._lag.start()

    def stop(self) -> None:
        """Watch the event loop no more."""
        self._lag.stop()

    # -- the others -----------------------------------------------------------------------------------------

    def begin(self, nodes: Nodes) -> None:
        """Tell the others, and hear of them."""
        topic: Topic[Told] = Topic(nodes, "numbers", Told, self._heard)
        self._telling = asyncio.get_running_loop().create_task(self._tell(topic))

    def end(self) -> None:
        """Tell and hear nothing any more."""
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        for name in list(self._others):
            self._forget(name)
        self._departed, self._last = Counters(), None

    def joined(self) -> None:
        """Note that a server has come, which knows no numbers yet."""
        self._last = None

    def gone(self, server: str) -> None:
        """Note that a server is gone."""
        numbers = self._forget(server)
        if numbers is not None:
            add_counters(self._departed, numbers.counters)

    def _forget(self, server: str) -> ServerNumbers | None:
        for counts in self.sites.values():
            counts.heard(server, {})
        return self._others.pop(server, None)

    async def _tell(self, topic: Topic[Told]) -> None:
        pause_s = _INTERVAL_S
        while True:
            sites = {name: counts.to_tell() for name, counts in self.sites.items()}
            told = Told(self._own(), copy_counters(self._departed), sites)
            if told != self._last:
                self._last = told
                size = topic.send(EVERYBODY, told)
                pause_s = min(max(_INTERVAL_S, size / _BYTES_PER_S), _LONGEST_S)
            await asyncio.sleep(pause_s)

    def _heard(self, server: str, told: Told) -> None:
        self._others[server] = told.numbers
        # All servers add those that have gone at the same place of the order; who came later learns of them here.
        raise_counters(self._departed, told.departed)
        for name, counts in self.sites.items():
            counts.heard(server, told.sites.get(name, {}))
