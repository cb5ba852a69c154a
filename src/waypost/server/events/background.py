"""Background tasks of the application: they start with the server and are cancelled when it stops."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from waypost.errors import ConfigurationError
from waypost.server.calling.faults import fault
from waypost.server.services import Services
from waypost.server.watching.hooks import report_failure
from waypost.typed.handlers import check_handler

__all__ = ["Background", "TaskFunction"]

TaskFunction = Callable[[], Coroutine[Any, Any, Any]]


class Background:
    """The background tasks of a server.

    Args:
        services: The services that the server's parts share.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._functions: list[TaskFunction] = []
        self._running: set[asyncio.Task[None]] = set()
        self._is_started = False

    def add(self, function: TaskFunction) -> None:
        """Add a task; a server that has started runs it at once. See `waypost.Server.task`.

        Raises:
            ConfigurationError: The argument is no ``async def`` without arguments, or was added before.
        """
        if not inspect.iscoroutinefunction(function) or check_handler("task", function, 0).fewest:
            raise ConfigurationError("task", function, "an async def without arguments")
        if function in self._functions:
            raise ConfigurationError("task", function, "to be added once")
        self._functions.append(function)
        if self._is_started:
            self._services.own_loop.check("task")
            self._begin(function)

    def start(self) -> None:
        """Start all tasks."""
        self._is_started = True
        for function in self._functions:
            self._begin(function)

    def stop(self) -> None:
        """Cancel all tasks. The server waits for their ends together with those of handlers."""
        self._is_started = False
        for task in self._running:
            task.cancel()

    def _begin(self, function: TaskFunction) -> None:
        task = asyncio.get_running_loop().create_task(self._run(function), name=function.__qualname__)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        self._services.keep_task(task)

    async def _run(self, function: TaskFunction) -> None:
        try:
            await function()
        except BaseException as error:  # noqa: BLE001  # reported; the application's own fault must not stop the server
            name, outcome = f"task {function.__qualname__}", "; it runs again when the server is started again"
            report_failure(self._services.hooks, name, "", "", fault(error), outcome=outcome)
