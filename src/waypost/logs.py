"""The loggers of Waypost: whatever somebody else chose is printable in each line they write.

Clients choose names of events and namespaces, headers, paths, reasons; applications raise exceptions that quote them.
With line ends and ESC in it, such a text could forge log lines, or control the terminal that shows them. So all
modules take their logger from `get_logger`, and need not think of it at each call.

What a sentence is about stands in the record a second time, as fields: `fields` says which there are. A sentence that
a client can cause as often as it likes is marked by `by_client`: `waypost.log_floods` limits those.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping
from traceback import TracebackException
from typing import Any

from waypost.log_floods import BY_CLIENT, FloodFilter
from waypost.text import printable

__all__ = ["FIELDS", "FLOODS", "by_client", "fields", "get_logger", "plain"]

_CONTINUED = "\n    "
_OWN_PARTS = ('File "', "Traceback (", "+ Exception Group Traceback", "During handling of", "The above exception")
"""What Python begins a part of a traceback with; the text of an exception begins with its type's name."""


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a name; what its records show is printable.

    Args:
        name: The logger's name: below ``waypost``, or uvicorn's.
    """
    logger = logging.getLogger(name)  # noqa: TID251  # the one place
    logger.addFilter(FLOODS)
    logger.addFilter(_PRINTABLE)
    return logger


def fields(
    *,
    event: str | None = None,
    sid: str | None = None,
    namespace: str | None = None,
    queue: str | None = None,
    consumer: str | None = None,
    message_id: str | None = None,
    schedule: str | None = None,
    connection: int | None = None,
    address: str | None = None,
    node: str | None = None,
    worker: int | None = None,
    store: object = None,
    option: str | None = None,
    code: str | None = None,
    count: int | None = None,
    position: int | None = None,
    seconds: float | None = None,
) -> dict[str, object]:
    """Return the fields of a log call, for its ``extra``; those that are ``None`` are left out.

    Args:
        event: The event's name.
        sid: The socket's id, which other clients may know. The secret id of a session is in no log.
        namespace: The namespace's name.
        queue: The queue's name.
        consumer: The consumer's name.
        message_id: The id of the queue's message.
        schedule: The schedule's name.
        connection: The connection's number in its process.
        address: The address of a client, or of a node.
        node: The name of the server that the line is about.
        worker: The number of the worker that the line is about.
        store: The store, without its password.
        option: The server's option that set the limit which was reached.
        code: The name of a refusal, which stays the same in later versions.
        count: How many there are of what the sentence counts.
        position: The offset in a journal or a queue.
        seconds: The time that the sentence tells.
    """
    given = locals()
    return {name: str(value) if name == "store" else value for name, value in given.items() if value is not None}


FIELDS = frozenset(inspect.signature(fields).parameters)
"""The names of all fields."""


def by_client(about: Mapping[str, object] | None = None) -> dict[str, object]:
    """Return the ``extra`` of a line that a client can cause as often as it likes; a flood of such lines is cut.

    Args:
        about: The fields; ``None`` for none.
    """
    return {**(about or {}), BY_CLIENT: True}


FLOODS = FloodFilter()
"""Loggers are the process's, and so is this filter of all of them: each kind of line counts once for the process."""


class _Printable(logging.Filter):
    """Makes the arguments and the traceback of each record printable. Drops no record."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            if record.args and not record.getMessage().isprintable():
                record.args = _shown_arguments(record.args)
            if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
                record.exc_text = _traceback(record.exc_info[1])
        except Exception:  # noqa: BLE001  # an argument's own `__str__` failed; the handler meets it too, and reports it
            record.exc_text = None
        return True


_PRINTABLE = _Printable()


class _Shown:
    """An argument of a log call, printable with ``%s`` and with ``%r``."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def __str__(self) -> str:
        return printable(str(self.value))

    def __repr__(self) -> str:
        return printable(repr(self.value))


def plain(argument: object) -> object:
    """Return an argument of a record as the log call gave it."""
    return argument.value if isinstance(argument, _Shown) else argument


def _shown_arguments(arguments: tuple[object, ...] | Mapping[str, object]) -> tuple[object, ...] | dict[str, object]:
    if isinstance(arguments, Mapping):
        return {name: _shown(value) for name, value in arguments.items()}
    return tuple(map(_shown, arguments))


def _shown(value: object) -> Any:
    return value if isinstance(value, int | float) else _Shown(value)  # %d needs a number


def _traceback(error: BaseException) -> str | None:
    """Format an exception as `logging` does, but each line is printable, and no text in it can begin a line.

    Returns:
        The text; ``None`` if the exception can be shown as it is, so that a formatter may do it in its own way.
    """
    formatted = TracebackException.from_exception(error, compact=True)
    raw = "".join(formatted.format())
    for one in _all_of(formatted):
        one.__notes__ = [str(note).replace("\n", _CONTINUED) for note in one.__notes__ or ()]
    text = "\n".join(line for part in formatted.format() for line in _lines(part))
    return None if text == raw.rstrip("\n") else text


def _all_of(formatted: TracebackException) -> Iterator[TracebackException]:
    """Yield an exception, those that led to it, and those in its group."""
    yield formatted
    for other in (formatted.__cause__, formatted.__context__, *(formatted.exceptions or ())):
        if other is not None:
            yield from _all_of(other)


def _lines(part: str) -> Iterator[str]:
    """Split a part of a traceback into printable lines; those after the first of an exception's text are indented."""
    indent = "" if part.lstrip(" |\n").startswith(_OWN_PARTS) else "    "
    first, *others = part.rstrip("\n").split("\n") if part.strip() else [""]
    yield printable(first)
    for other in others:
        yield indent + printable(other)
    yield from [""] * (len(part) - len(part.rstrip("\n")) - 1)
