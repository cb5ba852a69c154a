"""The journals of a store, served to several nodes: rows in one order, and writes only by a session's home."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, Final

from waypost.errors import StoreClosed
from waypost.logs import fields, get_logger
from waypost.storage.base import Journal
from waypost.storage.clock import StoreClock
from waypost.storage.host.driving import Then, begin
from waypost.storage.host.homes import NOBODY, Homes
from waypost.storage.host.node import HostedNode
from waypost.storage.journal_records import Entry, ExpiredSession, SessionRow
from waypost.storage.wire import reports, requests
from waypost.storage.wire.calls import JOURNAL
from waypost.storage.wire.frames import encode

__all__ = ["HostedJournal", "HostedJournals"]

_logger = get_logger(__name__)

_CHANGES: Final = frozenset({"detach_session", "end_session", "save_session", "note_stuck"})


class HostedJournal:
    """One journal, and the nodes that follow it.

    Args:
        number: Its number on the links.
        journal: The store's journal.
        store: The store, as errors name it.
        clock: The store's clock.

    Attributes:
        journal: The store's journal.
        followers: The nodes that follow it, by name.
        homes: The homes of its sessions.
    """

    __slots__ = ("_clock", "_told", "followers", "homes", "journal", "number")

    def __init__(self, number: int, journal: Journal, store: str, clock: StoreClock) -> None:
        self.number = number
        self.journal = journal
        self.followers: dict[str, HostedNode] = {}
        self.homes = Homes(store, self._ask)
        self._told = journal.oldest
        self._clock = clock

    def opened(self) -> reports.Opened:
        """Return where the journal stands, for a node that follows it from now on."""
        one = self.journal
        return reports.Opened(self.number, one.generation, dict(one.ends), one.top, one.oldest, one.size_bytes)

    def tell_kept(self, *, certainly: bool = False) -> None:
        """Tell all nodes what the journal keeps, if that has changed otherwise than by an append."""
        if certainly or self.journal.oldest != self._told:
            self._told = self.journal.oldest
            self.tell(reports.Kept(self.number, self._told, self.journal.size_bytes))

    # -- entries ---------------------------------------------------------------------------------------------

    def append(self, node: HostedNode, request: requests.Append) -> None:
        """Append an entry; all other nodes get it."""
        record, call = request.record, request.call

        def committed(position: int) -> None:
            node.tell(reports.Done(call, position))
            if len(self.followers) > (node.name in self.followers):
                self.give(node, position, record)
            node.written(call)
            if self.journal.oldest != self._told:
                self.tell_kept()

        node.write(call, self.journal.append(record, committed), _nothing)

    def give(self, node: HostedNode | None, position: int, record: bytes) -> None:
        """Tell all followers of an entry, except the node that has appended it; ``None`` if no node has."""
        message = encode(reports.Appended(self.number, position, record))
        for other in self.followers.values():
            if other is not node:
                other.outgoing.add_entry(self.number, position, message)

    async def read(self, after: int, upto: int, max_entries: int, max_bytes: int) -> list[Entry]:
        """Read entries again, for a node that was far behind."""
        return await self.journal.read(after, upto, max_entries=max_entries, max_bytes=max_bytes)

    # -- sessions --------------------------------------------------------------------------------------------

    def open_session(self, node: HostedNode, request: requests.OpenSession) -> None:
        """Store a session; the node is its home."""
        key, homes = request.key, self.homes
        is_new = not homes.is_settled(key)
        if is_new:
            homes.settle_in(node, key, request.sid)

        def opened(start: int) -> None:
            node.tell(reports.Done(request.call, start))
            node.written(request.call)

        async def open_session() -> None:
            try:
                await self.journal.open_session(key, request.sid, request.data, opened)
            except BaseException:
                if is_new:
                    homes.forget(key)
                raise

        node.write(request.call, open_session(), _nothing)

    def attach_session(self, node: HostedNode, request: requests.AttachSession) -> None:
        """Attach a session; from now on the node is its home."""
        self.homes.begin_attaching(node, request.key)

        def attached(found: SessionRow) -> None:
            self.homes.attached(request.key, found.sid)
            node.answer(request.call, found)
            node.written(request.call)

        def finished(found: SessionRow | None) -> None:
            if found is None:
                self.homes.forget(request.key)
                node.answer(request.call, None)
                node.written(request.call)

        node.write(request.call, self.journal.attach_session(request.key, attached), finished)

    def change_session(self, node: HostedNode, request: requests.ChangeSession) -> None:
        """Change a session, if the node is its home."""
        if request.method not in _CHANGES:
            raise ValueError(f"no method of a journal that changes a session: {request.method}")
        arguments = request.arguments
        if request.method == "detach_session":
            # What comes is how long its time is from now on.
            arguments = (self._clock.now() + arguments[0],)
            key = self.homes.detach(node, request.key, arguments[0])
        else:
            key = self.homes.key_for(node, request.key)
        if request.method == "end_session":
            self.homes.forget(key)
        node.run(request.call, getattr(self.journal, request.method)(key, *arguments))

    def prove(self, node: HostedNode, request: requests.Prove) -> None:
        """Note what has arrived, if the node is the session's home."""
        if self.homes.key_for(node, request.key) == request.key:
            self.journal.prove(request.key, request.position, request.last)

    def move_session(self, node: HostedNode, request: requests.MoveSession) -> None:
        """Let a session join or leave rooms, if the node is its home."""
        move = self.journal.join if request.joins else self.journal.leave
        key = self.homes.key_for(node, request.key)
        node.write(request.call, move(key, request.rooms, _done(node, request.call)), _nothing)

    # -- sessions that match ---------------------------------------------------------------------------------

    def move_matching(self, node: HostedNode, request: requests.MoveMatching) -> None:
        """Let matching sessions join or leave rooms; all other nodes learn of it."""

        def moved(position: int) -> None:
            node.tell(reports.Done(request.call, position))
            row = reports.MovedMatching(self.number, request.rooms, request.except_, request.moved, request.joins)
            self.tell(row, without=node)
            node.written(request.call)

        move = self.journal.join_matching if request.joins else self.journal.leave_matching
        node.write(request.call, move(request.rooms, request.except_, request.moved, moved), _nothing)

    def end_matching(self, node: HostedNode, request: requests.EndMatching) -> None:
        """End matching sessions; each node is told of those whose home it was."""

        def ended(sessions: Collection[ExpiredSession]) -> None:
            at_home = self.tell_ended(request.rooms, request.except_, sessions, request.note, by=node)
            node.answer(request.call, at_home)
            node.written(request.call)

        work = self.journal.end_matching(request.rooms, request.except_, ended, note=request.note)
        node.write(request.call, work, _nothing)

    def tell_ended(
        self,
        rooms: Collection[str] | None,
        except_: Collection[str],
        sessions: Collection[ExpiredSession],
        note: bytes,
        by: HostedNode | None = None,
    ) -> list[ExpiredSession]:
        """Tell followers of ended sessions: each gets those whose home it was.

        Args:
            rooms: The rooms that matched.
            except_: The rooms that were left out.
            sessions: All sessions that were ended.
            note: The caller's note.
            by: The node that has ended them, which is told otherwise; ``None`` if no node has.

        Returns:
            The sessions of ``by``, and those that are nobody's.
        """
        at_home: dict[str, list[ExpiredSession]] = {name: [] for name in self.followers}
        others: list[ExpiredSession] = []
        for session in sessions:
            home = self.homes.forget_sid(session.sid)
            if home is None or home is by:
                others.append(session)
            elif home.name in at_home:
                at_home[home.name].append(session)
        if by is None and at_home:
            # One node tells the application of those that no node knows.
            at_home[next(iter(at_home))] += others
        for name, follower in self.followers.items():
            if follower is not by:
                follower.tell(reports.EndedMatching(self.number, _listed(rooms), [*except_], at_home[name], note))
        return others

    # -- lives -----------------------------------------------------------------------------------------------

    def claim_session(self, node: HostedNode, request: requests.ClaimSession) -> None:
        """Answer when no other node has a life of a session, which does not expire meanwhile."""
        if self.homes.claim(node, request.key, request.call):
            begin(self.journal.attach_session(request.key, _nothing), Then(_nothing, self._not_kept))

    def _not_kept(self, error: BaseException) -> None:
        _logger.warning(
            "%s: a session that a client returns to may expire before: %s",
            self.journal.name,
            error,
            extra=fields(namespace=self.journal.name),
        )

    def release_session(self, node: HostedNode, request: requests.ReleaseSession) -> None:
        """Note that a node has no life of a session any more, when its earlier writes have taken effect."""

        def released(_: int) -> None:
            self.homes.release(node, request.key, request.handed)

        node.run(request.call, self.journal.join(NOBODY, (), released))

    def leave(self, node: HostedNode, detach: Callable[[HostedJournal, bytes, float | None], None]) -> None:
        """Forget a node that is gone, and detach its sessions."""
        self.followers.pop(node.name, None)
        for key, expires_at in self.homes.leave(node):
            detach(self, key, expires_at)

    def _ask(self, home: HostedNode, key: bytes) -> None:
        home.tell(reports.Claimed(self.number, key))

    def tell(self, message: object, without: HostedNode | None = None) -> None:
        """Send a row to all followers, except to one."""
        encoded = encode(message)
        for node in self.followers.values():
            if node is not without:
                node.outgoing.add_encoded(encoded)


class OutsideRows:
    """Passes what other programs have written on to all nodes, as rows of the log; a `Follower`.

    Args:
        hosted: The journal.
    """

    __slots__ = ("_hosted",)

    def __init__(self, hosted: HostedJournal) -> None:
        self._hosted = hosted

    def appended(self, position: int, record: bytes) -> None:
        """Pass an entry on."""
        self._hosted.give(None, position, record)

    def joined(self, rooms: Collection[str] | None, except_: Collection[str], joined: Collection[str]) -> None:
        """Pass on that matching sessions have joined rooms."""
        self._move(rooms, except_, joined, joins=True)

    def left(self, rooms: Collection[str] | None, except_: Collection[str], left: Collection[str]) -> None:
        """Pass on that matching sessions have left rooms."""
        self._move(rooms, except_, left, joins=False)

    def ended(
        self,
        rooms: Collection[str] | None,
        except_: Collection[str],
        sessions: Collection[ExpiredSession],
        note: bytes,
    ) -> None:
        """Tell each node of the matching sessions that were ended, and of those whose home it was."""
        self._hosted.tell_ended(rooms, except_, sessions, note)

    def claimed(self, key: bytes) -> None:
        """Do nothing: no other program claims a session."""

    def jumped(self) -> None:
        """Do nothing: nothing is missed of a file."""

    def _move(
        self, rooms: Collection[str] | None, except_: Collection[str], moved: Collection[str], *, joins: bool
    ) -> None:
        number = self._hosted.number
        self._hosted.tell(reports.MovedMatching(number, _listed(rooms), [*except_], [*moved], joins))


class HostedJournals:
    """The journals that nodes have opened.

    Args:
        store: The store, as errors name it.
        clock: The store's clock.
    """

    __slots__ = ("_by_name", "_by_number", "_clock", "_numbers", "_store")

    def __init__(self, store: str, clock: StoreClock) -> None:
        self._store = store
        self._clock = clock
        self._by_name: dict[str, HostedJournal] = {}
        self._by_number: dict[int, HostedJournal] = {}
        self._numbers = 0

    def __iter__(self) -> Iterator[HostedJournal]:
        return iter([*self._by_name.values()])

    def get(self, name: str) -> HostedJournal | None:
        """Return a journal that a node has opened."""
        return self._by_name.get(name)

    def __getitem__(self, number: int) -> HostedJournal:
        journal = self._by_number.get(number)
        if journal is None:
            raise StoreClosed(self._store)
        return journal

    def add(self, journal: Journal, node: HostedNode) -> reports.Opened:
        """Let a node follow a journal from now on; returns where it stands."""
        found = self._by_name.get(journal.name)
        if found is None or found.journal is not journal:
            self._numbers += 1
            found = HostedJournal(self._numbers, journal, self._store, self._clock)
            journal.follow(OutsideRows(found))
            self._by_name[journal.name] = self._by_number[self._numbers] = found
        found.followers[node.name] = node
        return found.opened()

    def remove(self, journal: HostedJournal) -> None:
        """Forget a journal that was dropped; one of its name may have been opened since."""
        self._by_number.pop(journal.number, None)
        if self._by_name.get(journal.journal.name) is journal:
            del self._by_name[journal.journal.name]

    def plain(self, node: HostedNode, request: requests.Plain) -> None:
        """Call a method of a journal that changes nothing."""
        journal = self[int(request.target or 0)].journal
        node.run(request.call, JOURNAL[request.method].call(journal, request.arguments))


def _done(node: HostedNode, call: int) -> Callable[[int], None]:
    def committed(position: int) -> None:
        node.tell(reports.Done(call, position))
        node.written(call)

    return committed


def _listed(rooms: Collection[str] | None) -> list[str] | None:
    return None if rooms is None else [*rooms]


def _nothing(_: Any) -> None:
    """Answer nothing: the answer was sent in the order of writes."""
