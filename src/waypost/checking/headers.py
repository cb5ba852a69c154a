"""The headers of a queue's message: text to text, bounded."""

from __future__ import annotations

from collections.abc import Mapping

from waypost.errors import ConfigurationError

__all__ = ["MAX_HEADER_BYTES", "check_headers"]

MAX_HEADER_BYTES = 16_384
"""The most bytes of all names and values of one message together, as UTF-8."""

_HEADERS = 'a mapping of text to text, such as {"tenant": "7"}'


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Check a message's headers.

    Args:
        headers: The headers, as the application gives them.

    Returns:
        A copy: what the application changes later has no effect.

    Raises:
        ConfigurationError: They are no mapping, a name is empty, a name or value is not text that UTF-8 can carry, or
            they take more than `MAX_HEADER_BYTES`.
    """
    if not isinstance(headers, Mapping):
        raise ConfigurationError("headers", headers, _HEADERS)
    size = 0
    for name, value in headers.items():
        if not name:
            raise ConfigurationError("headers", name, "names that are not empty")
        size += _size(f"headers[{name!r}]", name) + _size(f"headers[{name!r}]", value)
    if size > MAX_HEADER_BYTES:
        expected = f"at most {MAX_HEADER_BYTES:,} in names and values; what is larger belongs in the arguments"
        raise ConfigurationError("headers", f"{size:,} bytes", expected)
    return dict(headers)


def _size(option: str, text: object) -> int:
    if not isinstance(text, str):
        raise ConfigurationError(option, text, "text")
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise ConfigurationError(option, text, "text that UTF-8 can carry") from None
