"""The stored state of a socket, besides its rooms and its position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from waypost.errors import MalformedPacket
from waypost.protocol.misfits import place_of_misfit
from waypost.server.basics.handshake import Handshake

__all__ = ["Snapshot", "rebase"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The stored state of a socket, besides its rooms and its position.

    Attributes:
        data: The application's data.
        handshake: The client's handshake; ``None`` if the option ``may_resume`` is not used.
        stale_offset: The offset that the client sent when this session began. Official clients keep their old offset
            and send it again until they get a new event; such an offset has no meaning in this session.
    """

    data: dict[str, Any]
    handshake: Handshake | None
    stale_offset: str | None

    def encode(self) -> bytes:
        """Encode the snapshot for the store.

        Raises:
            TypeError: JSON can't carry the data; it names the place.
        """
        try:
            handshake = self.handshake.storable() if self.handshake else None
            encoded = orjson.dumps([self.data, handshake, self.stale_offset], option=orjson.OPT_NON_STR_KEYS)
        except orjson.JSONEncodeError as problem:
            place = place_of_misfit(self.data, "socket.data", _is_json)
            raise TypeError(f"{place}: {problem}") from None
        # A copy: orjson's result keeps the whole buffer that it was written in, 4 KiB for 700 bytes.
        return bytes(memoryview(encoded))

    @classmethod
    def decode(cls, encoded: bytes) -> Snapshot:
        """Decode a snapshot of `encode`.

        Raises:
            MalformedPacket: The bytes are not a snapshot.
        """
        try:
            data, handshake, stale_offset = orjson.loads(encoded)
            return cls({**data}, Handshake(**handshake) if handshake else None, stale_offset)
        except (ValueError, TypeError) as error:
            raise MalformedPacket("the stored state of a socket", encoded) from error


def _is_json(value: object) -> bool:
    try:
        orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError:
        return False
    return True


def rebase(data: dict[str, Any], earlier: dict[str, Any], latest: dict[str, Any]) -> None:
    """Bring data from an earlier state to the latest state, and keep the changes made here.

    Args:
        data: The earlier state with the changes made here; changed in place.
        earlier: The earlier state.
        latest: The latest state, with the changes made elsewhere.
    """
    changed = {key: value for key, value in data.items() if key not in earlier or earlier[key] != value}
    removed = earlier.keys() - data.keys()
    data.clear()
    data.update({key: value for key, value in latest.items() if key not in removed}, **changed)
