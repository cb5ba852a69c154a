"""One opening of a store, and all that serves it to nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from waypost.storage.base import Journal, Store
from waypost.storage.choose import StoreOptions
from waypost.storage.host.journals import HostedJournal, HostedJournals
from waypost.storage.host.node import HostedNode
from waypost.storage.host.queues import HostedQueues
from waypost.storage.host.upkeep import DueAlarm, Upkeep
from waypost.storage.wire import requests
from waypost.storage.wire.calls import ANSWERS

__all__ = ["Handler", "ServedStore"]

Handler: TypeAlias = Callable[[HostedNode, Any], None]
"""Begins what a node asks for."""


class ServedStore:
    """An open store, served to nodes.

    Args:
        options: The options it was opened with.
        store: The store.
        nodes: The living nodes, by name.

    Attributes:
        options: The options it was opened with.
        store: The store.
        path: Its file; ``None`` for one in memory.
        name: The store, as errors name it.
        journals: The journals that nodes have opened.
        alarm: Releases messages that are due.
        queues: The queues.
        upkeep: Expiry and retention.
        handlers: What begins each kind of request.
    """

    __slots__ = ("alarm", "handlers", "journals", "name", "options", "path", "queues", "store", "upkeep")

    def __init__(self, options: StoreOptions, store: Store, nodes: dict[str, HostedNode]) -> None:
        self.options = options
        self.store = store
        self.path = options.path()
        self.name = self.path or "memory:"
        self.journals = HostedJournals(self.name, store.clock)
        self.alarm = DueAlarm(store, nodes)
        self.queues = HostedQueues(store, nodes, self.alarm.set)
        self.upkeep = Upkeep(store, nodes, self.journals, self.queues, self.alarm)
        self.handlers = self._make_handlers()

    def _make_handlers(self) -> dict[type, Handler]:
        def of_journal(method: Callable[[HostedJournal, HostedNode, Any], None]) -> Handler:
            def handle(node: HostedNode, request: Any) -> None:
                method(self.journals[request.journal], node, request)

            return handle

        return {
            requests.Append: of_journal(HostedJournal.append),
            requests.OpenSession: of_journal(HostedJournal.open_session),
            requests.AttachSession: of_journal(HostedJournal.attach_session),
            requests.ChangeSession: of_journal(HostedJournal.change_session),
            requests.Prove: of_journal(HostedJournal.prove),
            requests.MoveSession: of_journal(HostedJournal.move_session),
            requests.MoveMatching: of_journal(HostedJournal.move_matching),
            requests.EndMatching: of_journal(HostedJournal.end_matching),
            requests.ClaimSession: of_journal(HostedJournal.claim_session),
            requests.ReleaseSession: of_journal(HostedJournal.release_session),
            requests.OpenJournal: self._open_journal,
            requests.Plain: self._plain,
            requests.Enqueue: self.queues.enqueue,
            requests.Hold: self.queues.hold,
            requests.ClaimConsumer: self.queues.claim,
            requests.ReleaseConsumer: self.queues.release,
        }

    def _open_journal(self, node: HostedNode, request: requests.OpenJournal) -> None:
        def found(journal: Journal) -> None:
            node.answer(request.call, self.journals.add(journal, node))

        node.run(request.call, self.store.journal(request.name), found)

    def _plain(self, node: HostedNode, request: requests.Plain) -> None:
        if request.target is None:
            self.upkeep.plain(node, request)
        elif isinstance(request.target, int):
            self.journals.plain(node, request)
        elif request.method in ANSWERS:
            method = ANSWERS[request.method]
            node.run(request.call, method.call(self.store.answers(), request.arguments))
        else:
            self.queues.plain(node, request)
