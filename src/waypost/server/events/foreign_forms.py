"""Handlers in the form of another Socket.IO server are refused when they are registered, with the line to write.

Called here, such a handler would take the socket for a ``sid``, or would fail for every client.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from waypost.errors import ConfigurationError
from waypost.typed.handlers import Handler

__all__ = ["check_catch_all", "check_form", "check_middleware"]

_MOMENT_ARGUMENTS = {
    "connect": ("auth",),
    "disconnect": ("reason",),
    "disconnecting": ("reason",),
    "session_expired": (),
    "new_namespace": (),
}
"""What the server's own events bring, after the socket or what stands in its place."""

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def check_form(event: str, handler: Handler, *, is_moment: bool) -> None:
    """Check that a handler of a namespace or a socket is written for this server.

    Args:
        event: The event's name.
        handler: The handler.
        is_moment: Whether the event is one of the server's own.

    Raises:
        ConfigurationError: It is written for python-socketio, or needs more than the server's own event brings.
    """
    names = _names(handler.function)
    brings = _MOMENT_ARGUMENTS[event] if is_moment else ()
    is_foreign = handler.leading > 0 and (names[:1] == ["sid"] or (event == "connect" and "environ" in names))
    if not is_foreign and not (is_moment and handler.fewest > handler.leading + len(brings)):
        return
    rest = [name for name in names[1:] if name != "environ"][: len(brings)] if is_moment else names[1:]
    first = ["session" if event == "session_expired" else "namespace" if event == "new_namespace" else "socket"]
    raise _refusal(event, handler, [*first[: handler.leading], *(rest if handler.leading else brings)])


def check_catch_all(handler: Handler) -> None:
    """Check that a handler of all events is written for this server: the socket is first, then the event's name.

    Raises:
        ConfigurationError: It is written for python-socketio.
    """
    names = _names(handler.function)
    if handler.leading and "sid" in names[:2]:
        raise _refusal("all events", handler, ["socket", "event", "*args"])


def check_middleware(handler: Handler) -> None:
    """Check that a namespace's middleware is written for this server: it gets the socket alone.

    Raises:
        ConfigurationError: It needs more arguments, such as Node's ``next``.
    """
    if handler.fewest > 1:
        raise ConfigurationError(
            "middleware",
            handler.function,
            f"`{_line(handler, ['socket'])}`: it returns to let the client in, or raises ConnectionRefused",
        )


def _refusal(event: str, handler: Handler, arguments: list[str]) -> ConfigurationError:
    names = _names(handler.function)
    hints = ""
    if "sid" in names:
        hints += "; socket.id is the sid"
    if "environ" in names:
        hints += "; socket.handshake has the headers, query and address of environ"
    return ConfigurationError(f"handler of {event}", handler.function, f"`{_line(handler, arguments)}`{hints}")


def _line(handler: Handler, arguments: list[str]) -> str:
    name = getattr(handler.function, "__name__", "handler")
    return f"{'async ' if handler.is_async else ''}def {name}({', '.join(arguments)}):"


def _names(function: Callable[..., Any]) -> list[str]:
    """Return the names of a function's positional parameters; no names if it has no signature."""
    try:
        signature = inspect.signature(function)
    except ValueError:
        return []
    return [parameter.name for parameter in signature.parameters.values() if parameter.kind in _POSITIONAL]
