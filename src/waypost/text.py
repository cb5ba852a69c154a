"""Text that somebody else chose, made safe to show in a terminal or a log line."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str, limit: int | None = None) -> str:
    """Escape the control characters of an untrusted text, which a terminal would obey.

    Args:
        text: The text.
        limit: The longest result, in characters, from 1; ``None`` for no limit.

    Returns:
        The text. A text over the limit is cut, and ends with ``…``.
    """
    if text.isprintable() and (limit is None or len(text) <= limit):
        return text
    begun = text if limit is None else text[: limit + 1]
    parts = [one if one.isprintable() else one.encode("unicode_escape").decode() for one in begun]
    if limit is None or sum(map(len, parts)) <= limit:
        return "".join(parts)
    left = limit - 1
    for kept, part in enumerate(parts):
        left -= len(part)
        if left < 0:
            return "".join(parts[:kept]) + "…"
    return "".join(parts)
