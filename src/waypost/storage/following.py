"""The storage contract between nodes: what a node learns of the writes of others, and how nodes talk.

A *node* is one server process with its own connections. Nodes that share a store follow each journal: each applies
the rows of the log in the log's order, its own included. For its own writes the row is the call of ``on_commit``, for
those of other nodes it is a call of the journal's `Follower`. Both come in one order, so all nodes deliver the same
events in the same order, and nothing is delivered that the store has not taken.

A store of one process (memory, an SQLite file that is opened directly) has no other nodes: `Store.nodes` is ``None``,
and no follower is ever called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from waypost.errors import StorageError
from waypost.storage.engine_state import EngineState
from waypost.storage.journal_records import ExpiredSession
from waypost.storage.queue_records import Due, Enqueued, NewMessageRow

__all__ = ["EVERYBODY", "ClaimVoid", "Follower", "Nodes", "QueueFollower", "Ways"]

EVERYBODY = None
"""As the receiver of a message: all nodes, the sender too."""


class ClaimVoid(StorageError):
    """Another node has claimed the session later: its client has gone on to that node."""


class Follower(Protocol):
    """Applies the rows of one journal that other nodes have written. Set by `Journal.follow`.

    The methods are called in the loop's thread, between the calls of ``on_commit``, in the order of the log. They
    must not raise and must not block. Rows name sessions, rooms and positions; they never name sockets.
    """

    def appended(self, position: int, record: bytes) -> None:
        """Another node has appended an entry."""
        ...

    def joined(self, rooms: Collection[str] | None, except_: Collection[str], joined: Collection[str]) -> None:
        """Another node has let all matching sessions join rooms; see `Journal.join_matching`."""
        ...

    def left(self, rooms: Collection[str] | None, except_: Collection[str], left: Collection[str]) -> None:
        """Another node has let all matching sessions leave rooms; see `Journal.leave_matching`."""
        ...

    def ended(
        self,
        rooms: Collection[str] | None,
        except_: Collection[str],
        sessions: Collection[ExpiredSession],
        note: bytes,
    ) -> None:
        """Another node has ended all matching sessions; see `Journal.end_matching`.

        Args:
            rooms: The rooms that matched.
            except_: The rooms that were left out.
            sessions: The removed sessions whose home was this node.
            note: The caller's note.
        """
        ...

    def jumped(self) -> None:
        """Rows were missed: this node was too far behind, or the engine has lost what it had confirmed.

        The journal stands where the engine's does now; its generation may be another one. All clients of the journal
        are to be cut off, so that they come back and get what they have missed, or are told that it is gone.
        """
        ...

    def claimed(self, key: bytes) -> None:
        """The client of a session whose home is this node has come to another node.

        The node ends the session's life here, and then calls `Journal.release_session`. It is called for each claim,
        also for one that the other node does not wait for to the end: so a node that stood still for a time learns
        that it has lost the session before it sees any later row.
        """
        ...


class QueueFollower(Protocol):
    """Learns of what other nodes, or other programs, did to queues. Set by `Nodes.follow_queues`.

    The methods are called in the loop's thread. They must not raise and must not block.
    """

    def arrived(self, queue: str, messages: Sequence[NewMessageRow], enqueued: Enqueued) -> None:
        """Another node has added messages to a queue, of which this node owns a consumer."""
        ...

    def released(self, due: Due) -> None:
        """The store has released due messages, or another program has changed queues; see `Store.release_due`."""
        ...

    def freed(self, queue: str, consumer: str) -> None:
        """A consumer has no owner any more: its owner has released it, is dead, or stood still.

        The nodes that have claimed the consumer since it was free are told, and perhaps others.
        An owner that stood still, or was too far behind, hears it itself when it goes on; perhaps it has heard of the
        next owner before.
        """
        ...


class Ways(Protocol):
    """Ways to the processes of other nodes, on which connections of clients are forwarded."""

    @property
    def number(self) -> str:
        """This node's number. No other node ever has it."""
        ...

    @property
    def suffix(self) -> str:
        """The end of the ids of its clients' sessions: the number, or a label for balancers, a point and it."""
        ...

    async def open(self, number: str) -> asyncio.Transport | None:
        """Open a connection to a node's process, on which both have proven that they are nodes of this store.

        It is read from `asyncio.Transport.resume_reading` on; the caller sets the protocol before.

        Args:
            number: The node's number. It is untrusted.

        Returns:
            The connection; ``None`` if no living node has the number.

        Raises:
            OSError: The node is alive, and can't be reached.
        """
        ...

    def serve(self, take: Callable[[asyncio.Transport], None]) -> None:
        """Call a function with each connection that another node has opened; it sets the protocol."""
        ...


class Nodes(Protocol):
    """The other nodes on a store: who they are, messages to them, and which node owns a queue's consumer."""

    @property
    def name(self) -> str:
        """This node's name; no other node ever has it, not even after a restart."""
        ...

    @property
    def others(self) -> Collection[str]:
        """The names of the other nodes that are alive."""
        ...

    def send(self, receiver: str | None, topic: str, message: bytes, *, may_drop: bool = False) -> None:
        """Send a message. Returns at once.

        Args:
            receiver: A node's name, or `EVERYBODY`.
            topic: Selects the function that receives it; see `listen`.
            message: The message; opaque to the store.
            may_drop: Whether another node does without the message if it is far behind: what waits for a node is
                bounded, and a node that falls behind further is cut off.

        Delivery: at most once; not to a node that is dead. It comes after all rows that this node has applied and the
        rows of the writes that it has asked for, and after this node's earlier messages. Messages to `EVERYBODY` come
        in one order for all nodes.
        """
        ...

    def listen(self, topic: str, receive: Callable[[str, bytes], None] | None) -> None:
        """Call a function with the sender and the content of each message on a topic; ``None`` ends that.

        Messages that nobody listens to are dropped.
        """
        ...

    @property
    def ways(self) -> Ways | None:
        """The ways to the processes of other nodes; ``None`` if all are on this machine, and reached otherwise."""
        ...

    def watch(self, changed: Callable[[str, bool], None]) -> None:
        """Call a function with the name of each other node that comes (True) or that is gone (False).

        A node that is gone sends nothing any more, and its last row and message were applied before the call. On an
        engine that several machines share a node may only have been cut off: then it comes again under its name.
        """
        ...

    async def claim_consumer(self, queue: str, consumer: str) -> str:
        """Own a queue's consumer, if no other living node does; returns the name of the node that owns it.

        Settling and attempts of a consumer count only from the node that owns it; from another one they change
        nothing, as with an old epoch. Holds count from any node.
        """
        ...

    async def release_consumer(self, queue: str, consumer: str) -> None:
        """Own a consumer no more, after all earlier writes for it."""
        ...

    def follow_queues(self, follower: QueueFollower) -> None:
        """Set the follower of queues; once for each opening of the store."""
        ...

    def state(self) -> EngineState | None:
        """Return what this node sees of the engine; ``None`` if a process of the same service has the store open."""
        ...
