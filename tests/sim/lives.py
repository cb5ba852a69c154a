"""What the application was told of each session, and whether that was one life at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf

from waypost.errors import ConnectionRefused

__all__ = ["LifeLog", "Told", "check_lives"]


@dataclass(slots=True)
class Told:
    """A handler that was called for a socket.

    Attributes:
        server: The how many-eth life of the server.
        sid: The socket.
        kind: ``connect``, ``event`` or ``disconnect``.
        began: When.
        ended: When it returned or raised; never, if the server was killed.
        refused: Whether it raised: a connect handler that does so has let nobody in.
    """

    server: int
    sid: str
    kind: str
    began: float
    ended: float = inf
    refused: bool = False


class LifeLog:
    """All that was told, in order.

    Args:
        time: The virtual clock.
    """

    def __init__(self, time: Callable[[], float]) -> None:
        self.all: list[Told] = []
        self._time = time

    @contextmanager
    def told(self, server: int, sid: str, kind: str) -> Iterator[None]:
        """Note that a handler runs."""
        one = Told(server, sid, kind, self._time())
        self.all.append(one)
        try:
            yield
        except ConnectionRefused:
            one.refused = True
            raise
        finally:
            one.ended = self._time()


def check_lives(
    log: LifeLog, grace_s: float, *, empty: int | None, may_be_late: Callable[[Told], bool] = lambda _: False
) -> Iterator[str]:
    """Name what was told of a session at the same time, or in a wrong order.

    Args:
        log: What was told.
        grace_s: How long a handler of an ended connection is waited for.
        empty: The life of the server in which everybody has left by now, if it still runs.
        may_be_late: Tells whether an event may have waited behind another one, until beyond its connection's end.
    """
    lives: dict[tuple[int, str], list[Told]] = {}
    for one in log.all:
        lives.setdefault((one.server, one.sid), []).append(one)
    for (server, sid), told in lives.items():
        connected = False
        last: Told | None = None
        for one in told:
            if one.kind == "event" and may_be_late(one):
                continue
            if connected is (one.kind == "connect"):
                yield f"{sid} was told {one.kind} at {one.began:.4f} {'again' if connected else 'before connect'}"
            if last is not None and one.began < min(last.ended, last.began + grace_s):
                yield f"{sid} was told {one.kind} at {one.began:.4f}, while its {last.kind} of {last.began:.4f} ran"
            connected = one.kind != "disconnect" and not one.refused
            last = one
        if connected and server == empty:
            yield f"{sid} was never told its disconnect, its last was {told[-1]}"
