"""Makes untrusted text safe to show in a terminal or a log line."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str, limit: int | None = None) -> str:
    r"""Replace each unprintable character of a text with its escape sequence.

    Unprintable are all characters for which `str.isprintable` is false: line ends, ESC and the other control
    characters of C0 and C1, marks for the direction of writing, other invisible characters, and lone surrogates.
    ``"a\n"`` becomes ``"a\\n"``.

    Args:
        text: Any text.
        limit: The longest result, in characters, from 1; ``None`` for no limit.

    Returns:
        The text. A text over the limit is cut between two of its characters, and ends with ``…``.
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
