"""Answers frames as fast as this machine lets Python, without any Socket.IO: what the load generator is held against.

``python -m bench.speed.servers.ceiling PORT``. It knows the masked frames of the work beforehand and looks their
answers up, so that nothing is decoded; what it is not told of, it leaves unanswered.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import Any, cast

import uvloop

from bench.speed.frames import split_masked
from bench.speed.scripts import ACKS
from waypost.protocol.websocket import accept_key, frame_message

_KEY = re.compile(rb"sec-websocket-key: *(\S+)", re.IGNORECASE)
_OPEN = '0{"sid":"ceiling","upgrades":[],"pingInterval":60000,"pingTimeout":60000,"maxPayload":1000000}'
_ENTERED = '40{"sid":"ceiling","pid":"ceiling"}'
_ANSWERS = dict(zip(ACKS.requests, (frame_message(answer.decode()) for answer in ACKS.answers), strict=True))


class Answering(asyncio.Protocol):
    """One client."""

    def __init__(self) -> None:
        self._buffer = b""
        self._is_upgraded = False
        self._is_entered = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the handshake."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Look up the answers to all that came."""
        if self._is_entered:
            answer = _ANSWERS.get(data)
            if answer is not None and not self._buffer:
                self._transport.write(answer)
                return
        self._buffer += data
        if not self._is_upgraded:
            self._upgrade()
            return
        frames, self._buffer = split_masked(self._buffer)
        if frames and not self._is_entered:
            self._is_entered = True
            self._transport.write(frame_message(_ENTERED))
            del frames[0]
        if frames:
            self._transport.write(b"".join([_ANSWERS[frame] for frame in frames]))

    def _upgrade(self) -> None:
        head, end, self._buffer = self._buffer.partition(b"\r\n\r\n")
        if not end:
            self._buffer = head
            return
        key = cast("re.Match[bytes]", _KEY.search(head))[1].decode()
        self._transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept_key(key).encode() + b"\r\n\r\n" + frame_message(_OPEN)
        )
        self._is_upgraded = True


async def main(port: int) -> None:
    """Serve until ended."""
    server: Any = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", port, backlog=4096)
    print("listening", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
