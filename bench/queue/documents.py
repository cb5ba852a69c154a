"""What every contender carries: the same small JSON document."""

from __future__ import annotations

from typing import Any

import orjson

__all__ = ["EVENT", "PREFETCH", "THEIR_PREFETCH", "document", "encoded"]

EVENT = "parcel"
PREFETCH = 32
"""How many messages one of Waypost's sockets may have in hand; its default."""

THEIR_PREFETCH = 256
"""How many messages one consumer of the others may have in hand, or reads at once: a number that suits them."""

_TEXT = "x" * 160


def document(number: int) -> dict[str, Any]:
    """Return a document; about 200 bytes of JSON."""
    return {"number": number, "to": "Main Street 5", "text": _TEXT}


def encoded(number: int) -> bytes:
    """Return a document as the other contenders' programs would send it."""
    return orjson.dumps(document(number))
