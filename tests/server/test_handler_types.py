"""What type checkers know of handlers: `make check` fails where one of the wrong ones here is not found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_type

import pytest

import waypost


@dataclass
class Parcel:
    id: int


async def forgot_the_socket(parcel: Parcel) -> str:
    return f"{parcel.id}"


async def right(socket: waypost.Socket, parcel: Parcel, note: str = "") -> int:
    return parcel.id


def expired(ended: waypost.EndedSession) -> None: ...


def wrong_first_parameters(io: waypost.Server, room: waypost.Namespace, parent: waypost.ParentNamespace) -> None:
    """Nobody calls this: it is for mypy."""
    io.on("pickup", forgot_the_socket)  # type: ignore[arg-type]
    io.on("pickup")(forgot_the_socket)  # type: ignore[arg-type]
    io.on("pickup", concurrent=True)(forgot_the_socket)  # type: ignore[arg-type]
    io.once("pickup", forgot_the_socket)  # type: ignore[arg-type]
    io.event(forgot_the_socket)  # type: ignore[arg-type]
    io.event(concurrent=True)(forgot_the_socket)  # type: ignore[arg-type]
    io.on_any(forgot_the_socket)  # type: ignore[arg-type]
    io.on_any_outgoing(forgot_the_socket)  # type: ignore[arg-type]
    io.use(forgot_the_socket)  # type: ignore[arg-type]
    io.consumer("jobs")(forgot_the_socket)  # type: ignore[arg-type]
    room.event(forgot_the_socket)  # type: ignore[arg-type]
    parent.event(forgot_the_socket)  # type: ignore[arg-type]

    @io.event  # type: ignore[arg-type]
    async def decorated(message: waypost.Message) -> None: ...

    @io.event("pickup")  # type: ignore[call-overload, untyped-decorator]
    async def named(socket: waypost.Socket) -> None: ...


async def right_handlers(io: waypost.Server, socket: waypost.Socket) -> None:
    """Nobody calls this either."""
    io.on("pickup", right)
    io.on("session_expired", expired)
    decorated = io.event(right)
    assert_type(await decorated(socket, Parcel(1), note="fragile"), int)
    await decorated(socket, "no parcel")  # type: ignore[arg-type]

    @io.on("connect")
    def connect(socket: waypost.Socket, auth: dict[str, Any]) -> None: ...

    @io.on("session_expired")
    def also_expired(ended: waypost.EndedSession) -> None: ...

    @io.on_any
    def every(*arguments: Any) -> None: ...


@pytest.mark.parametrize("name", ["pickup", 7, None])
def test_event_with_a_name_says_what_to_write(name: Any) -> None:
    for owner in (waypost.Server(), waypost.Client("http://127.0.0.1:1")):
        if name is None and isinstance(owner, waypost.Server):
            continue  # @io.event() is fine
        with pytest.raises(waypost.ConfigurationError, match=r'a function with a name.*@on\("name"\)'):
            owner.event(name)
