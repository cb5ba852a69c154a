"""What the store keeps of a socket besides its rooms and its position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from waypost.server.basics.handshake import Handshake

__all__ = ["Snapshot", "rebase"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the store keeps of a socket.

    Attributes:
        data: The application's data.
        handshake: The client's handshake; ``None`` where nobody will look at it.
        stale_offset: What the client sent as its offset when this session began. Official clients never forget
            theirs and send it again as long as they have got no event; it says nothing about this session then.
    """

    data: dict[str, Any]
    handshake: Handshake | None
    stale_offset: str | None

    def encode(self) -> bytes:
        """Encode it for the store.

        Raises:
            TypeError: JSON can't carry the data.
        """
        try:
            encoded = orjson.dumps([self.data, self.handshake, self.stale_offset], option=orjson.OPT_NON_STR_KEYS)
        except orjson.JSONEncodeError as problem:
            raise TypeError(str(problem)) from None
        # A copy: what orjson gives holds on to the room it was written in, 4 KiB for 700 bytes.
        return bytes(memoryview(encoded))

    @classmethod
    def decode(cls, encoded: bytes) -> Snapshot:
        """Read what `encode` made."""
        data, handshake, stale_offset = orjson.loads(encoded)
        return cls(data, Handshake(**handshake) if handshake else None, stale_offset)


def rebase(data: dict[str, Any], earlier: dict[str, Any], latest: dict[str, Any]) -> None:
    """Bring data that was looked up earlier to its latest state, and keep what was changed in it meanwhile.

    Args:
        data: What became of the earlier state here; changed in place.
        earlier: The state that was looked up.
        latest: The state that others have made of it.
    """
    changed = {key: value for key, value in data.items() if key not in earlier or earlier[key] != value}
    removed = earlier.keys() - data.keys()
    data.clear()
    data.update({key: value for key, value in latest.items() if key not in removed}, **changed)
