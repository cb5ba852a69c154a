"""The headers of a queue's message as the text that stores keep."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

__all__ = ["pack_headers", "read_headers"]


def pack_headers(headers: Mapping[str, str] | None) -> str | None:
    """Return headers as text; ``None`` for none."""
    return orjson.dumps(headers).decode() if headers else None


def read_headers(packed: str | None) -> dict[str, str]:
    """Return the headers of a text. A damaged text has none: it must not hide the message."""
    if packed is None:
        return {}
    try:
        headers = orjson.loads(packed)
    except orjson.JSONDecodeError:
        return {}
    return headers if isinstance(headers, dict) else {}
