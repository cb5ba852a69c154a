"""The order of a namespace's actions: an action without the store waits for earlier writes to the store."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["EmitLine", "EmitPlace"]

T = TypeVar("T")


class EmitPlace:
    """The place in line of a write to the store; made by `EmitLine.enter`."""

    __slots__ = ("followers", "is_left")

    def __init__(self) -> None:
        self.followers: tuple[tuple[Callable[[], Any], asyncio.Future[Any]], ...] = ()
        self.is_left = False


class EmitLine:
    """The pending writes to the store, in order, and the actions that wait for them.

    A plain emit is delivered after it is stored. A volatile event and an event with an ack are not stored, and would
    overtake it. So each write holds a place in line. An action without the store runs at once if the line is empty,
    and otherwise right after the last write before it.
    """

    __slots__ = ("_places",)

    def __init__(self) -> None:
        self._places: deque[EmitPlace] = deque()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in line, so that an action runs at once."""
        return not self._places

    def enter(self) -> EmitPlace:
        """Take the last place in line. Call `leave` when the write was delivered, or has failed."""
        place = EmitPlace()
        self._places.append(place)
        return place

    def leave(self, place: EmitPlace) -> None:
        """Give up a place, and run the actions behind it once all earlier places are given up.

        A second call does nothing.
        """
        place.is_left = True
        while self._places and self._places[0].is_left:
            first = self._places[0]
            if first.followers:
                _do_all(first)
            else:
                self._places.popleft()

    async def in_turn(self, action: Callable[[], T]) -> T:
        """Run an action after all writes that are in line now; at once if there are none.

        May be cancelled while it waits; the action is then not run.

        Args:
            action: The action. Actions run in the order of the calls, before the caller resumes.

        Returns:
            The action's result.

        Raises:
            Exception: Any error that the action raises.
        """
        if not self._places:
            return action()
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._places[-1].followers += ((action, done),)
        return await done


def _do_all(place: EmitPlace) -> None:
    """Run the actions behind a place. If one ends the task or the server, the next `leave` runs the rest."""
    followers, place.followers = iter(place.followers), ()
    try:
        for action, done in followers:
            if not done.done():
                _do(action, done)
    finally:
        place.followers = (*followers, *place.followers)


def _do(action: Callable[[], T], done: asyncio.Future[T]) -> None:
    try:
        done.set_result(action())
    except BaseException as error:
        # Its caller gets it, and not the write before it in line; unless it ends more than the caller.
        done.set_exception(error)
        if not isinstance(error, Exception):
            raise
