"""An application whose clients say what is done with a queue; see test_queue_control.py."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import waypost

io = waypost.Server(drain_s=0.2, ping_interval_s=0.25, ping_timeout_s=20)


@io.on("connect")
async def connect(socket: waypost.Socket, auth: dict[str, Any]) -> None:
    if "consume" in auth:
        await socket.consume(auth["consume"], **auth.get("consuming", {}))


@io.event
async def put(socket: waypost.Socket, queue: str, job: Any, options: dict[str, Any]) -> int:
    return (await io.queue(queue).emit("job", job, **options)).offset


@io.event
async def auth(socket: waypost.Socket) -> list[str]:
    """Tell the names in this client's auth."""
    return sorted(socket.handshake.auth)


@io.event
async def send_plain(socket: waypost.Socket) -> None:
    """Send the client an event that comes from no queue."""
    await socket.emit("plain")


@io.event
async def configure(socket: waypost.Socket, queue: str, options: dict[str, Any]) -> bool:
    await io.queue(queue).configure(**options)
    return True


@io.event
async def keep(socket: waypost.Socket, queue: str) -> bool:
    """Let a second consumer exist, so that the queue keeps what the first one has acknowledged."""
    await io.queue(queue).get_consumer("archive").create()
    return True


@io.event
async def seek(socket: waypost.Socket, queue: str, to: str | int) -> bool:
    """Seek to an offset, to a time in ISO's form, or to what has a name."""
    is_time = isinstance(to, str) and ":" in to
    await io.queue(queue).get_consumer().seek(datetime.fromisoformat(str(to)) if is_time else to)  # type: ignore[arg-type]
    return True


@io.event
async def pause(socket: waypost.Socket, queue: str, whole: bool, seconds: float | None) -> bool:
    """Pause the whole queue or its consumer, for some seconds or until it is resumed."""
    until = None if seconds is None else datetime.now(UTC) + timedelta(seconds=seconds)
    await (io.queue(queue) if whole else io.queue(queue).get_consumer()).pause(until=until)
    return True


@io.event
async def resume(socket: waypost.Socket, queue: str, whole: bool) -> bool:
    await (io.queue(queue) if whole else io.queue(queue).get_consumer()).resume()
    return True


@io.event
async def extend(socket: waypost.Socket, queue: str, seconds: float) -> int:
    """Let the client keep what it has in hand; answered with how many messages that is."""
    return socket.extend_lease(queue, seconds=seconds)


@io.event
async def look(socket: waypost.Socket, queue: str) -> dict[str, int]:
    """Tell the numbers of the queue's consumer."""
    info = await io.queue(queue).get_consumer().info()
    names = ("offset", "waiting", "retrying", "in_flight", "attached", "dead_letters")
    return {name: getattr(info, name) for name in names}
