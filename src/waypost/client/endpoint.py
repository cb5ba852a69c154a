"""Where a server is: its URL taken apart, and put together for each request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlencode, urlsplit

from yarl import URL

from waypost.errors import ConfigurationError

__all__ = ["Endpoint", "parse_url"]

_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_EXPECTED = "a URL such as https://example.com, or https://example.com/admin for the namespace /admin"
_QUERY_SAFE = "-_.!~*'()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A server's Engine.IO endpoint.

    Attributes:
        origin: Scheme (``http`` or ``https``) and host, with the port where the URL has one.
        path: The path that the server serves.
        query: The application's query, encoded; empty if there is none.
    """

    origin: str
    path: str
    query: str

    @property
    def secure(self) -> bool:
        """Whether it is reached over TLS."""
        return self.origin.startswith("https:")

    def address(self, transport: str, **parameters: str) -> URL:
        """Give the URL of a request.

        Args:
            transport: The transport's name.
            **parameters: What else the query has, such as ``sid``.

        Returns:
            The URL, as aiohttp takes it for HTTP and for WebSocket.
        """
        own = urlencode({"EIO": 4, "transport": transport, **parameters})
        query = f"{self.query}&{own}" if self.query else own
        return URL(f"{self.origin}{self.path}?{query}", encoded=True)


def parse_url(url: str, *, path: str, query: Mapping[str, str] | None) -> tuple[Endpoint, str]:
    """Take a server's URL apart, as the JavaScript client does: its path is the namespace.

    Args:
        url: The server's URL; a query in it is sent along.
        path: The path that the server serves.
        query: More for the query.

    Returns:
        The endpoint, and the namespace; ``/`` if the URL has no path.

    Raises:
        ConfigurationError: The URL is none.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in _SCHEMES and parts.hostname and parts.port != 0 and not parts.fragment
    except ValueError as error:
        raise ConfigurationError("url", url, _EXPECTED) from error
    if not usable:
        raise ConfigurationError("url", url, _EXPECTED)
    more = urlencode(dict(query or {}), safe=_QUERY_SAFE, quote_via=quote)
    endpoint = Endpoint(
        origin=f"{_SCHEMES[parts.scheme]}://{parts.netloc}",
        path=quote(path, safe="/%:@"),
        query="&".join(filter(None, (parts.query, more))),
    )
    return endpoint, unquote(parts.path).rstrip("/") or "/"
