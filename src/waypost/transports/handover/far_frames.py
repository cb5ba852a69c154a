"""The frames in which a client's connection is forwarded to a node on another machine, and given back by it.

The node that has accepted the connection stays between the client and the node that serves it. When a request for
a third node comes on it, the serving one gives the connection back, at the request's beginning. So there is never
more than one node between.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from waypost.storage.wire.frames import FrameReader, FrameWriter
from waypost.transports.handover.passed import Origin

__all__ = ["AskBack", "Back", "Begin", "Data", "FarFrame", "Last", "frame", "reader"]

_MOST_BYTES: Final = 16 << 20


class Begin(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """The first frame: the connection at the beginning of a request.

    Attributes:
        origin: Where the connection comes from.
        data: What was read of it.
    """

    origin: Origin
    data: bytes


class Data(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=2):
    """Bytes of the client, or for it.

    Attributes:
        data: The bytes.
    """

    data: bytes


class AskBack(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """The serving node wants to give the connection back: send no more of the client's bytes, and then `Last`."""


class Last(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """No more bytes of the client follow."""


class Back(msgspec.Struct, array_like=True, frozen=True, tag=5):
    """The last frame of a connection that is given back.

    Attributes:
        data: The client's bytes from the beginning of the next request on.
    """

    data: bytes


FarFrame: TypeAlias = Begin | Data | AskBack | Last | Back

_FRAMES: Final = msgspec.msgpack.Decoder(list[FarFrame])


def frame(message: FarFrame) -> bytes:
    """Return a frame."""
    writer = FrameWriter()
    writer.add(message)
    return writer.take()


def reader() -> FrameReader[FarFrame]:
    """Return a new reader of frames."""
    return FrameReader(_FRAMES, _MOST_BYTES)
