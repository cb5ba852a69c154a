"""The HTTP requests of one client: headers, cookies, proxy and TLS, the same for polling and WebSockets."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Any
from urllib.request import getproxies_environment, proxy_bypass

from aiohttp import (
    ClientConnectionError,
    ClientConnectorError,
    ClientError,
    ClientHandlerType,
    ClientOSError,
    ClientRequest,
    ClientResponse,
    ClientSession,
    ClientSSLError,
    ClientTimeout,
    CookieJar,
    InvalidURL,
    ServerDisconnectedError,
    TCPConnector,
)

from waypost.client.endpoint import Endpoint
from waypost.client.options import Options
from waypost.client.transport import TransportEnded
from waypost.errors import ConnectFailed
from waypost.protocol.extension import HEADER, REVISION

__all__ = ["Http", "ended_by", "refusal"]

_IDLE_S = 4.0  # below the 5 s after which servers close an idle connection
_NO_TIMEOUT = ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)


class Http:
    """The HTTP side of one client. Cookies last as long as the client.

    Attributes:
        endpoint: The server's address.
    """

    def __init__(self, endpoint: Endpoint, options: Options) -> None:
        self.endpoint = endpoint
        self._session: ClientSession | None = None
        self._options = options
        self._cookies: CookieJar | None = None
        self._arguments: dict[str, Any] = {}

    @property
    def session(self) -> ClientSession:
        """The aiohttp session that makes the requests; call `start` first."""
        assert self._session is not None
        return self._session

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of every request."""
        return self._arguments

    async def start(self) -> None:
        """Prepare the requests of one connection, with the application's current headers.

        Raises:
            ConnectFailed: The application's function for the headers raised an exception.
        """
        if self._cookies is None:
            self._cookies = CookieJar(unsafe=True)  # unsafe: accepts cookies of servers with an IP address as name
            if self._options.cookies:
                self._cookies.update_cookies(self._options.cookies)
        self._arguments = {
            "headers": {**self._headers(), HEADER: str(REVISION)},
            "proxy": _proxy(self._options.proxy, self.endpoint),
        }
        if self._options.ssl is not None:
            self._arguments["ssl"] = self._options.ssl
        self._session = ClientSession(
            cookie_jar=self._cookies,
            timeout=_NO_TIMEOUT,
            connector=TCPConnector(keepalive_timeout=_IDLE_S),
            middlewares=(_send_once,),
        )

    def _headers(self) -> Mapping[str, str]:
        headers = self._options.headers
        try:
            return (headers() if callable(headers) else headers) or {}
        except Exception as error:
            raise ConnectFailed(self.endpoint.origin, f"getting headers raised {type(error).__name__}") from error

    async def close(self) -> None:
        """Close the aiohttp session and its connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


async def _send_once(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Keep aiohttp from repeating a poll: the lost response may have contained packets."""
    if "sid" not in request.url.query:
        return await handler(request)
    try:
        return await handler(request)
    except ClientConnectorError:
        raise
    except (ClientOSError, ServerDisconnectedError) as error:
        raise ClientConnectionError(str(error) or type(error).__name__) from error


def _proxy(option: str | None, endpoint: Endpoint) -> str | None:
    if option != "environment":
        return option
    proxies = getproxies_environment()
    host = endpoint.origin.partition("://")[2].rpartition("@")[2]
    if proxy_bypass(host):
        return None
    return proxies.get("https" if endpoint.secure else "http")


def refusal(response: ClientResponse) -> str:
    """Describe an unexpected HTTP response.

    The client follows no redirects: its credentials are for this server only, and a session stays with one server.
    """
    location = response.headers.get("Location")
    where = "" if location is None else f", a redirect to {location}, which is not followed"
    return f"HTTP {response.status}{where}"


def _reason(error: OSError) -> str:
    """Return the system's text for an error; asyncio and aiohttp wrap it in their own."""
    number = error.errno or 0
    return os.strerror(number) if number in errno.errorcode else error.strerror or str(error)


def ended_by(error: OSError | ClientError | ValueError) -> TransportEnded:
    """Return the transport error for an exception of a request.

    Args:
        error: The exception.

    Returns:
        The error to raise instead.
    """
    code = getattr(error, "status", None)
    text = str(error) or type(error).__name__
    if code:
        text = f"HTTP {code}"
    elif isinstance(error, ClientConnectorError) and not isinstance(error, ClientSSLError):
        text = f"cannot connect to {error.host}:{error.port}: {_reason(error.os_error)}"
    unreachable = isinstance(error, ClientConnectorError | InvalidURL)
    return TransportEnded("transport error", text, code or None, reachable=not unreachable)
