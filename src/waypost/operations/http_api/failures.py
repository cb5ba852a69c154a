"""Turns the errors of the server into problems with stable codes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from waypost.errors import (
    ConfigurationError,
    EncodingFailed,
    QueueFull,
    StorageError,
    StorageUncertain,
    StoreClosed,
    StoreFull,
    StoreLost,
)
from waypost.logs import by_client, fields, get_logger
from waypost.operations.http.problems import Problem

__all__ = ["problems"]

logger = get_logger("waypost.operations")

_BUSY_S = 1
_FULL_S = 10


@contextmanager
def problems(*, is_repeatable: bool = False) -> Iterator[None]:
    """Raise a problem for an error of the server.

    Args:
        is_repeatable: Whether the request has an id of its own, so that a second one changes nothing.

    Raises:
        Problem: The server has raised an error.
    """
    try:
        yield
    except ConfigurationError as error:
        raise Problem(422, "bad_value", str(error), argument=error.option, expected=error.expected) from error
    except EncodingFailed as error:
        raise Problem(422, "not_encodable", str(error)) from error
    except QueueFull as error:
        logger.warning("a message was refused: %s", error, extra=by_client(fields(queue=error.queue)))
        detail = f"queue {error.queue} is full: nothing was stored; let its consumers catch up, or raise its limits"
        numbers = ("queue", "messages", "bytes", "max_messages", "max_bytes")
        members = {name: getattr(error, name) for name in numbers}
        raise Problem(503, "queue_full", detail, retry_after_s=_BUSY_S, **members) from error
    except StorageUncertain as error:
        logger.warning("the result of a request is not known: %s", error, extra=by_client(fields(store=error.store)))
        again = "send it again with the same id: it counts once" if is_repeatable else "look before you send it again"
        detail = f"it is not known whether the store has done this; it was done once or not at all; {again}"
        raise Problem(503, "uncertain", detail, retry_after_s=_BUSY_S, retry_is_safe=is_repeatable) from error
    except StoreFull as error:
        logger.warning("a request was refused: %s", error, extra=by_client(fields(store=error.store)))
        detail = "the store's disk is full: nothing was stored; free some space there"
        raise Problem(503, "store_full", detail, retry_after_s=_FULL_S) from error
    except StoreLost as error:
        logger.warning("a request was refused: %s", error, extra=by_client(fields(store=error.store)))
        raise _unavailable("the store is lost; look into the server's log") from error
    except StoreClosed as error:
        # Nothing for an operator to do: it starts or stops, and says so.
        raise _unavailable("this server has not started yet, or it stops; try again", closes=True) from error
    except StorageError as error:
        # The sentence of the error names the store, which stays inside.
        logger.warning("a request was refused: %s", error, extra=by_client(fields(store=error.store)))
        raise _unavailable("the store does not answer; try again, and look into the server's log") from error


def _unavailable(detail: str, *, closes: bool = False) -> Problem:
    """Return the problem of a store that takes nothing now.

    Args:
        detail: What is the matter, and what to do.
        closes: Whether to close the connection: another server may answer over the next one.
    """
    headers = [("Connection", "close")] if closes else None
    return Problem(503, "store_unavailable", detail, retry_after_s=_BUSY_S, headers=headers)
