"""Questions to the engine that are asked for at the same time, and go together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

__all__ = ["Gathered"]

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")

_MOST = 500
"""The most of one question: it is one statement between others of its connection."""


class Gathered(Generic[_K, _V]):
    """Asks one thing at a time; what is asked for meanwhile goes along with the next question.

    Args:
        ask: Asks the engine; returns what it knows.
    """

    __slots__ = ("_ask", "_task", "_waiting")

    def __init__(self, ask: Callable[[Sequence[_K]], Awaitable[dict[_K, _V]]]) -> None:
        self._ask = ask
        self._waiting: dict[_K, list[asyncio.Future[_V | None]]] = {}
        self._task: asyncio.Task[None] | None = None

    async def find(self, key: _K) -> _V | None:
        """Ask for one; ``None`` if the engine does not know it. May be cancelled. Raises what ``ask`` raises."""
        answer: asyncio.Future[_V | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(answer)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        return await answer

    async def _run(self) -> None:
        # Those of this turn of the loop go together.
        await asyncio.sleep(0)
        try:
            while self._waiting:
                keys = [*self._waiting][:_MOST]
                asked = {key: self._waiting.pop(key) for key in keys}
                try:
                    found = await self._ask(keys)
                except Exception as error:  # noqa: BLE001 - it is raised for those who have asked
                    for one in _open(asked):
                        one[1].set_exception(error)
                else:
                    for key, answer in _open(asked):
                        answer.set_result(found.get(key))
        finally:
            self._task = None


def _open(asked: dict[_K, list[asyncio.Future[_V | None]]]) -> list[tuple[_K, asyncio.Future[_V | None]]]:
    return [(key, answer) for key, waiting in asked.items() for answer in waiting if not answer.done()]
