"""Runs an ASGI application's lifespan around a block, as a web server runs it around all requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from waypost.errors import ConfigurationError
from waypost.testing.memory import Application, Message, Pipe

__all__ = ["lifespan"]


@asynccontextmanager
async def lifespan(application: Application) -> AsyncIterator[None]:
    """Send an application its startup event, and its shutdown event when the block ends.

    An application without a lifespan is served all the same, as the ASGI specification demands.

    Args:
        application: The ASGI application.

    Raises:
        ConfigurationError: The application reported that its startup or its shutdown failed.
    """
    told, answers = Pipe(), Pipe()
    running = asyncio.create_task(_run(application, told, answers))
    try:
        await _ask(application, "startup", told, answers)
        yield
        await _ask(application, "shutdown", told, answers)
    finally:
        running.cancel()
        await asyncio.wait((running,))


async def _run(application: Application, told: Pipe, answers: Pipe) -> None:
    async def receive() -> Message:
        message = await told.take()
        assert message is not None
        return message

    async def send(message: Message) -> None:
        await answers.put(message)

    try:
        await application({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    except Exception as error:  # noqa: BLE001  # ASGI: an application that raises here has no lifespan
        await answers.put({"type": "none", "message": repr(error)})
    finally:
        answers.shut()


async def _ask(application: Application, step: str, told: Pipe, answers: Pipe) -> None:
    await told.put({"type": f"lifespan.{step}"})
    answer = await answers.take()
    if answer is not None and answer["type"] == f"lifespan.{step}.failed":
        raise ConfigurationError("application", application, f"one that does not fail at {step}: {answer['message']}")
