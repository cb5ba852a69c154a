"""The order of what a namespace does: what needs no store waits for what is being stored and was asked for before."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["EmitLine", "EmitPlace"]

T = TypeVar("T")


class EmitPlace:
    """The place in line of something that is being stored. Made by `EmitLine.enter`."""

    __slots__ = ("followers", "is_left")

    def __init__(self) -> None:
        self.followers: tuple[tuple[Callable[[], Any], asyncio.Future[Any]], ...] = ()
        self.is_left = False


class EmitLine:
    """What is being stored, in the order in which it was asked for, and what has to be done behind it.

    A plain emit is delivered when it is stored. A volatile one is not stored, and would overtake it; so would an
    event that asks for an ack. So each write holds a place in line. What needs no store is done at once if the line
    is empty; else right after the last write that was in line when it came.
    """

    __slots__ = ("_places",)

    def __init__(self) -> None:
        self._places: deque[EmitPlace] = deque()

    def enter(self) -> EmitPlace:
        """Take the last place; `leave` it when what is stored has been delivered, or has failed."""
        place = EmitPlace()
        self._places.append(place)
        return place

    def leave(self, place: EmitPlace) -> None:
        """Give a place up, and do what waits for it once those before it are given up, too. Twice is fine."""
        place.is_left = True
        while self._places and self._places[0].is_left:
            first = self._places[0]
            if first.followers:
                _do_all(first)
            else:
                self._places.popleft()

    async def in_turn(self, action: Callable[[], T]) -> T:
        """Do something after all that stands in line now; at once if nothing does.

        Args:
            action: What to do. It is done in the order of the calls, before the caller resumes.

        Returns:
            What it returned; raises what it raised. If this is cancelled while it waits, it is not done.
        """
        if not self._places:
            return action()
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._places[-1].followers += ((action, done),)
        return await done


def _do_all(place: EmitPlace) -> None:
    """Do what waits for a place; if one of them ends the server or the task, the next one to leave does the rest."""
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
