"""Origins of pages: which are valid, which are the server's own, and why one was refused.

Browsers send the origin of a page with its requests. Waypost compares it with the request's ``Host`` header, or with
the rules of the application (`waypost.protocol.allowed_origins`). Nothing is taken off an origin before the
comparison: a text with a tab, a path or an empty query is not the listed origin. Only the case and the scheme's
default port do not matter.

Sources: RFC 6454 ("The Web Origin Concept"), section 6; the Fetch standard ("`Origin` header").
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeAlias

from waypost.text import printable

__all__ = ["Origin", "explain_refusal", "is_same_origin", "parse_origin"]

Origin: TypeAlias = tuple[str, str, int | None]
"""Scheme and host in lower case, and the port; ``None`` if there is none and the scheme has no default."""

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_PAGE_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
"""The scheme of a page by the scheme of its origin. No page has the others: the Swift client names its own URL."""
_MAX_PORT = 65535
_SHOWN = 200
"""The most characters of a header that a sentence shows."""
_ORIGIN = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+;=%-]+)"
    r"(?::(?P<port>[0-9]{1,5}))?"
)


def parse_origin(text: str) -> Origin | None:
    """Split an origin into its parts.

    Args:
        text: Any text.

    Returns:
        The parts, or ``None`` for a text that is not an origin with a host, such as ``null``.
    """
    match = _ORIGIN.fullmatch(text)
    if match is None:
        return None
    scheme = match["scheme"].lower()
    port = int(match["port"]) if match["port"] else _DEFAULT_PORTS.get(scheme)
    if port is not None and port > _MAX_PORT:
        return None
    return scheme, match["host"].lower(), port


def is_same_origin(text: str, host: str, *, secure: bool) -> bool:
    """Return whether an origin is the server's own.

    Args:
        text: The request's ``Origin`` header.
        host: The request's ``Host`` header.
        secure: Whether the request came over TLS, as far as this server knows.
    """
    origin = parse_origin(text)
    if origin is None or origin[0] not in _PAGE_SCHEMES:
        return False
    # A proxy in front may end TLS. Without TLS here, an https page may therefore be of this origin.
    if secure and _PAGE_SCHEMES[origin[0]] != "https":
        return False
    return parse_origin(f"{origin[0]}://{host}") == origin


def explain_refusal(headers: Mapping[str, str], *, secure: bool) -> str:
    """Return the reason why a page was refused, and the option to set if it should be allowed.

    Args:
        headers: The request's headers, with lower-case names; one of them is ``origin``.
        secure: Whether the request came over TLS, as far as this server knows.

    Returns:
        A sentence with the origin, the host and the option to set; only printable characters.
    """
    text, host = headers.get("origin", ""), headers.get("host", "")
    shown = printable(text, _SHOWN)
    told = f"its origin is {shown}, its Host header says {printable(host, _SHOWN) or 'nothing'}"
    origin = parse_origin(text)
    if origin is None:
        return f'{told}; this is no origin of a site, only cors_allowed_origins="*" admits it'
    scheme, name, port = origin
    asked = parse_origin(f"{scheme}://{host}")
    if asked == origin:
        return f"{told}; the request came over TLS, so the page must come over https, too"
    listing = f'cors_allowed_origins=["{shown}"] admits it'
    if asked is not None and asked[1] == name and host.lower() == name:
        return (
            f"{told}, without port {port}: if a proxy took the port off, let it pass Host on whole "
            f"(nginx: $http_host instead of $host); otherwise {listing}"
        )
    if secure or any(header.startswith("x-forwarded-") for header in headers):
        return f"{told}; if a proxy changed Host, let it pass Host on (nginx: $http_host); otherwise {listing}"
    return f"{told}; {listing}"
