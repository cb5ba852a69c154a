"""The address of a server: splits its URL, and builds the URL of each request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlencode, urlsplit

from yarl import URL

from waypost.checking.arguments import TEXT, check
from waypost.errors import ConfigurationError

__all__ = ["Endpoint", "parse_url"]

_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_EXPECTED = "a URL such as https://example.com, or https://example.com/admin for the namespace /admin"
_QUERY_SAFE = "-_.!~*'()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A server's Engine.IO endpoint.

    Attributes:
        origin: Scheme (``http`` or ``https``) and host, with the port if the URL has one.
        path: The server's path.
        query: The application's encoded query; empty without one.
    """

    origin: str
    path: str
    query: str

    @property
    def secure(self) -> bool:
        """Whether requests use TLS."""
        return self.origin.startswith("https:")

    def address(self, transport: str, **parameters: str) -> URL:
        """Return the URL of a request.

        Args:
            transport: The transport's name.
            **parameters: Further parameters of the query, such as ``sid``.

        Returns:
            The URL; aiohttp accepts it for HTTP and for WebSockets.
        """
        own = urlencode({"EIO": 4, "transport": transport, **parameters})
        query = f"{self.query}&{own}" if self.query else own
        return URL(f"{self.origin}{self.path}?{query}", encoded=True)


def parse_url(url: str, *, path: str, query: Mapping[str, str] | None) -> tuple[Endpoint, str]:
    """Split a server's URL as the JavaScript client does: its path is the namespace.

    Args:
        url: The server's URL; its query becomes part of every request.
        path: The server's path.
        query: Further parameters for the query.

    Returns:
        The endpoint, and the namespace, which is ``/`` for a URL without a path.

    Raises:
        ConfigurationError: The text is no URL of a server.
    """
    check("url", url, TEXT)
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
