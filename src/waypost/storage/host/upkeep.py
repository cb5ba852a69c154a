"""The store's upkeep, done for all nodes together: expiry, retention, and messages that fall due."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from waypost.logs import fields, get_logger
from waypost.storage.base import Store
from waypost.storage.clock import LONGEST_SLEEP_S
from waypost.storage.host.driving import Then, begin
from waypost.storage.host.journals import HostedJournals
from waypost.storage.host.node import HostedNode
from waypost.storage.host.queues import HostedQueues
from waypost.storage.journal_records import ExpiredSession
from waypost.storage.queue_records import Due, ExpiredConsumer
from waypost.storage.wire import reports, requests
from waypost.storage.wire.calls import STORE

__all__ = ["DueAlarm", "Upkeep"]

_logger = get_logger(__name__)

_AFTER_FAILURE_S = 1.0
_STANDSTILL_S = 5.0
"""A process that has not run for so long could not be reached by clients that came back."""


class DueAlarm:
    """Releases messages when they fall due, whichever node has enqueued them, and tells the nodes.

    Args:
        store: The store.
        nodes: The living nodes, by name.
    """

    __slots__ = ("_at", "_nodes", "_store", "_timer")

    def __init__(self, store: Store, nodes: Mapping[str, HostedNode]) -> None:
        self._store = store
        self._nodes = nodes
        self._at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, at: float) -> None:
        """Ask the store at a time of its own, when a message falls due."""
        if self._at is not None and self._at <= at:
            return
        self.stop()
        self._at = at
        pause_s = min(max(0.0, at - self._store.clock.now()), LONGEST_SLEEP_S)
        self._timer = asyncio.get_running_loop().call_later(pause_s, self._ring)

    def stop(self) -> None:
        """Ask no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._at = None

    async def release(self, without: HostedNode | None = None) -> Due:
        """Release what is due, and tell the nodes, except one."""
        due = await self._store.release_due()
        if due.next_at is not None:
            self.set(due.next_at)
        if due.queues or due.changed:
            for node in [*self._nodes.values()]:
                if node is not without:
                    node.tell(reports.Released(due))
        return due

    def _ring(self) -> None:
        self._timer = self._at = None
        begin(self.release(), Then(lambda _: None, self._failed))

    def _failed(self, error: BaseException) -> None:
        _logger.error(
            "messages that are due have to wait %.1f s more: %s",
            _AFTER_FAILURE_S,
            error,
            extra=fields(seconds=_AFTER_FAILURE_S),
        )
        self.set(self._store.clock.now() + _AFTER_FAILURE_S)


class Upkeep:
    """The methods of a `Store` that are served to several nodes.

    Args:
        store: The store.
        nodes: The living nodes, by name.
        journals: The journals that nodes have opened.
        queues: The queues.
        alarm: Releases messages that are due.
    """

    __slots__ = (
        "_alarm",
        "_beat_at",
        "_journals",
        "_nodes",
        "_queues",
        "_spared_until",
        "_store",
        "_unclaimed",
    )

    def __init__(
        self,
        store: Store,
        nodes: Mapping[str, HostedNode],
        journals: HostedJournals,
        queues: HostedQueues,
        alarm: DueAlarm,
    ) -> None:
        self._store = store
        self._nodes = nodes
        self._journals = journals
        self._queues = queues
        self._alarm = alarm
        # Expired sessions of nodes that are gone: the next one that asks is told of them.
        self._unclaimed: list[ExpiredSession] = []
        self._beat_at: float | None = None
        self._spared_until = 0.0

    def beat(self) -> None:
        """Note that this process runs, and tell the nodes how the store is; see `StoreHost.beat`."""
        self._beat_at = self._note_standstill()
        troubles = [*self._store.troubles()]
        for number, node in enumerate([*self._nodes.values()]):
            node.tell(reports.Condition(troubles, None if number else self._store.take_counts()))

    def _note_standstill(self) -> float:
        now = self._store.clock.now()
        if self._beat_at is not None and now - self._beat_at > _STANDSTILL_S:
            self._spared_until = now + (now - self._beat_at)
            self._beat_at = now
        return now

    def plain(self, node: HostedNode, request: requests.Plain) -> None:
        """Call a method of the store."""
        method = STORE[request.method]
        match request.method:
            case "expire_sessions":
                node.run(request.call, self._expire_sessions(node))
            case "expire_consumers":
                idle_s, attached = method.decode_arguments(request.arguments)
                node.run(request.call, self._expire_consumers(node, idle_s, frozenset(attached)))
            case "trim":
                node.run(request.call, self._trim())
            case "release_due":
                node.run(request.call, self._alarm.release(node))
            case "drop_journal":
                (name,) = method.decode_arguments(request.arguments)
                node.run(request.call, self._drop_journal(node, name))
            case _:
                node.run(request.call, method.call(self._store, request.arguments))

    def leave(self, node: HostedNode) -> None:
        """Keep for others what a node that is gone was not told of."""
        self._unclaimed += node.expired
        node.expired = []

    async def _expire_sessions(self, node: HostedNode) -> list[ExpiredSession]:
        is_spared = self._note_standstill() < self._spared_until
        for one in () if is_spared else await self._store.expire_sessions():
            journal = self._journals.get(one.journal)
            home = None if journal is None else journal.homes.forget_sid(one.sid)
            if home is None or home.is_gone:
                self._unclaimed.append(one)
            else:
                home.expired.append(one)
        told = node.expired + self._unclaimed
        node.expired, self._unclaimed = [], []
        return told

    async def _expire_consumers(
        self, node: HostedNode, idle_s: float, attached: frozenset[tuple[str, str]]
    ) -> list[ExpiredConsumer]:
        node.attached = attached
        in_use = self._queues.owned.union(*(one.attached for one in self._nodes.values()))
        return await self._store.expire_consumers(idle_s, in_use)

    async def _trim(self) -> int:
        trimmed = await self._store.trim()
        for journal in self._journals:
            journal.tell_kept()
        clock = self._store.clock
        for node in self._nodes.values():
            node.tell(reports.Time(clock.now(), clock.ahead_s))
        return trimmed

    async def _drop_journal(self, node: HostedNode, name: str) -> bool:
        journal = self._journals.get(name)
        if journal is not None:
            # The last node that uses it no more removes it.
            journal.followers.pop(node.name, None)
            if journal.followers:
                return False
        is_dropped = await self._store.drop_journal(name)
        if is_dropped and journal is not None:
            self._journals.remove(journal)
        return is_dropped
