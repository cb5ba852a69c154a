"""How far this node has applied each journal's log, and what waits for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

__all__ = ["Progress"]


class Progress:
    """The ticks that this node has applied.

    The follower of the journals notes them. A message to another node names those that have moved since the message
    before; the other node handles it when it has applied as much.
    """

    __slots__ = ("_moves", "_ticks", "_waiting")

    def __init__(self) -> None:
        # By journal: the tick, and the number of the move that brought it. The last one moved stands last.
        self._ticks: dict[int, tuple[int, int]] = {}
        self._moves = 0
        self._waiting: dict[int, list[tuple[int, Callable[[], None]]]] = {}

    def note(self, journal: int, tick: int) -> None:
        """Note that the rows of a journal up to a tick are applied; the first call also says that it is followed."""
        self._moves += 1
        ticks = self._ticks
        ticks.pop(journal, None)
        ticks[journal] = (tick, self._moves)
        if self._waiting and (waiting := self._waiting.pop(journal, None)) is not None:
            if later := [one for one in waiting if one[0] > tick]:
                self._waiting[journal] = later
            for wanted, ready in waiting:
                if wanted <= tick:
                    ready()

    def applied(self, journal: int) -> int | None:
        """Return the tick up to which a journal is applied; ``None`` if this node does not follow it."""
        found = self._ticks.get(journal)
        return None if found is None else found[0]

    def moved_since(self, moves: int) -> tuple[int, dict[int, int] | None]:
        """Return the ticks of the journals that have moved after a number of moves, and the number by now.

        Args:
            moves: The number that an earlier call has returned; 0 at first.

        Returns:
            The number, and the ticks by journal; ``None`` for none.
        """
        if moves == self._moves:
            return moves, None
        ticks: dict[int, int] = {}
        for journal in reversed(self._ticks):
            tick, move = self._ticks[journal]
            if move <= moves:
                break
            ticks[journal] = tick
        return self._moves, ticks

    def behind(self, ticks: Mapping[int, int]) -> tuple[int, int] | None:
        """Return a journal, with the tick, that is not applied up to a tick; ``None`` if all are.

        A journal that this node does not follow is none it waits for.
        """
        for journal, tick in ticks.items():
            found = self._ticks.get(journal)
            if found is not None and found[0] < tick:
                return journal, tick
        return None

    def when(self, journal: int, tick: int, ready: Callable[[], None]) -> None:
        """Call a function once, when a journal is applied up to a tick. It must not raise."""
        self._waiting.setdefault(journal, []).append((tick, ready))
