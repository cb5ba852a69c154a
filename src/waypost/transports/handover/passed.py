"""The form in which a connection goes from one worker to another: its descriptor, where it comes from, what was read.

Each frame is a header and two parts. The descriptor comes with the frame's first byte.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

import msgspec

from waypost.errors import MalformedPacket

__all__ = [
    "HEADER_BYTES",
    "MAX_DATA_BYTES",
    "Kind",
    "Origin",
    "Passed",
    "pack",
    "pack_answer",
    "pack_node",
    "unpack",
]

_HEADER = struct.Struct("!BBHI")
HEADER_BYTES = _HEADER.size
_VERSION = 1
MAX_DATA_BYTES = 1 << 20
"""The most bytes of a connection that are read before it is handed over. One read of the network gives a quarter."""


class Kind(IntEnum):
    """The kind of a frame."""

    CONNECTION = 1
    TAKEN = 2
    NOT_TAKEN = 3
    NODE = 4


_KINDS = frozenset(Kind)


class Origin(msgspec.Struct, frozen=True, array_like=True):
    """Where a connection comes from whose bytes are forwarded; otherwise its socket says so itself.

    Attributes:
        client: The client's address and port, or ``None``.
        server: The address and port that the client has reached, or ``None``.
        secure: Whether the client came over TLS.
    """

    client: tuple[str, int] | None
    server: tuple[str, int | None] | None
    secure: bool


@dataclass(frozen=True, slots=True)
class Passed:
    """A connection at the beginning of a request.

    Attributes:
        data: What was read of the request, and of those after it.
        origin: Where the connection comes from, if its bytes are forwarded.
        is_final: Whether the first request is answered by the process that gets this, for any node.
    """

    data: bytes
    origin: Origin | None = None
    is_final: bool = True


def pack(passed: Passed) -> bytes:
    """Return a connection's frame, to be sent with its descriptor."""
    origin = b"" if passed.origin is None else msgspec.msgpack.encode(passed.origin)
    return _HEADER.pack(_VERSION, Kind.CONNECTION, len(origin), len(passed.data)) + origin + passed.data


def pack_answer(*, taken: bool) -> bytes:
    """Return the frame that answers a connection's; answers come in the order of the connections."""
    return _HEADER.pack(_VERSION, Kind.TAKEN if taken else Kind.NOT_TAKEN, 0, 0)


def pack_node(number: str) -> bytes:
    """Return the frame that says which node of the store the worker is."""
    data = number.encode()
    return _HEADER.pack(_VERSION, Kind.NODE, 0, len(data)) + data


def unpack(buffer: bytearray) -> tuple[Kind, Passed] | None:
    """Take the first frame out of what was received; ``None`` if it is not complete.

    Raises:
        MalformedPacket: The frame is no frame, or one of another version.
    """
    if len(buffer) < HEADER_BYTES:
        return None
    version, kind, origin_bytes, data_bytes = _HEADER.unpack_from(buffer)
    if version != _VERSION or data_bytes > MAX_DATA_BYTES or kind not in _KINDS:
        raise MalformedPacket(f"a frame of version {_VERSION} between workers", bytes(buffer[:HEADER_BYTES]))
    end = HEADER_BYTES + origin_bytes + data_bytes
    if len(buffer) < end:
        return None
    origin, data = bytes(buffer[HEADER_BYTES : end - data_bytes]), bytes(buffer[end - data_bytes : end])
    del buffer[:end]
    try:
        come_from = msgspec.msgpack.decode(origin, type=Origin) if origin else None
    except msgspec.MsgspecError as error:
        raise MalformedPacket("the origin of a connection", origin) from error
    return Kind(kind), Passed(data, come_from)
