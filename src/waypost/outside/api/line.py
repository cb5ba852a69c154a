"""The HTTP requests of one `waypost.Api` on one event loop: sent, and sent again where that changes nothing."""

from __future__ import annotations

import asyncio
import random
from ssl import SSLContext
from types import SimpleNamespace
from typing import Any, Final

import orjson
from aiohttp import (
    ClientError,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
    TraceConfig,
)
from yarl import URL

from waypost.outside.api.answers import Failure, failure_of
from waypost.outside.api.requests import ApiRequest
from waypost.retrying import Backoff, RetryPolicy
from waypost.version import __version__

__all__ = ["Line"]

_IDLE_S: Final = 4.0  # below the 5 s after which servers close an idle connection
_NO_TIMEOUT: Final = ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)
_PAUSES: Final = RetryPolicy(first_s=0.2, longest_s=5.0, jitter=0.5)


class Line:
    """The connections to an API, and the tries of each request.

    Args:
        url: The API's URL, without a slash at its end.
        key: The bearer key.
        timeout_s: Seconds for a request, all its tries included.
        retries: How often a request is tried again.
        ssl: The TLS context; ``None`` for the system's defaults, which verify the server.
    """

    def __init__(self, url: str, key: str, *, timeout_s: float, retries: int, ssl: SSLContext | None) -> None:
        self._url = url
        self._key = key
        self._timeout_s = timeout_s
        self._retries = retries
        self._ssl = ssl
        self._session: ClientSession | None = None

    async def ask(self, request: ApiRequest) -> dict[str, Any]:
        """Make a request, and return the JSON object of the answer. May be cancelled.

        Raises:
            ApiRefused: The service refused it.
            ApiUnavailable: The service can't be reached, or takes no request now.
            StorageUncertain: It is not known whether the service has done it.
            QueueFull: The queue has reached its limits.
            StoreFull: The store's disk is full.
            ConfigurationError: An argument has an impossible value.
        """
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        pauses = Backoff(_PAUSES)
        # Once the service may have done it, no later try that fails can say that it has not.
        uncertain: Failure | None = None
        while True:
            came = await self._try(request, deadline)
            if not isinstance(came, Failure):
                return came
            if came.may_be_done:
                uncertain = came
            pause_s = max(pauses.next_s(random.random()), came.retry_after_s or 0.0)
            may_repeat = request.is_repeatable or not came.may_be_done
            is_last = pauses.failures > self._retries or not (may_repeat and came.is_passing)
            if is_last or asyncio.get_running_loop().time() + pause_s >= deadline:
                raise (uncertain or came).error(self._url, request)
            await asyncio.sleep(pause_s)

    async def close(self) -> None:
        """Close the connections. A later request opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _try(self, request: ApiRequest, deadline: float) -> dict[str, Any] | Failure:
        # Set before the first byte of the request leaves; until then, nothing can have been done.
        sent = SimpleNamespace(is_sent=False)
        try:
            async with asyncio.timeout_at(deadline):
                return await self._send(request, sent)
        except TimeoutError:
            if sent.is_sent:
                problem = f"no answer came within {self._timeout_s:g} s"
            else:
                problem = f"the service can't be reached: no connection within {self._timeout_s:g} s"
        except (ClientError, OSError, ValueError) as error:
            words = str(error) or type(error).__name__
            problem = f"the connection broke: {words}" if sent.is_sent else f"the service can't be reached: {words}"
        return Failure(problem, may_be_done=sent.is_sent)

    async def _send(self, request: ApiRequest, sent: SimpleNamespace) -> dict[str, Any] | Failure:
        content = request.content()
        headers = {"Content-Type": "application/json"} if content is not None else {}
        async with self._connected().request(
            request.method,
            URL(f"{self._url}{request.path}", encoded=True),
            data=content,
            headers=headers,
            allow_redirects=False,
            trace_request_ctx=sent,
        ) as answer:
            body = await answer.read()
            if answer.status >= 300:
                return failure_of(answer.status, answer.headers, body)
            return _read(body)

    def _connected(self) -> ClientSession:
        if self._session is None:
            tracing = TraceConfig()
            tracing.on_request_headers_sent.append(_note_sent)
            ssl = True if self._ssl is None else self._ssl
            self._session = ClientSession(
                connector=TCPConnector(keepalive_timeout=_IDLE_S, ssl=ssl),
                cookie_jar=DummyCookieJar(),
                headers={"Authorization": f"Bearer {self._key}", "User-Agent": f"waypost/{__version__}"},
                timeout=_NO_TIMEOUT,
                trace_configs=[tracing],
            )
        return self._session


async def _note_sent(session: ClientSession, context: SimpleNamespace, parameters: object) -> None:
    context.trace_request_ctx.is_sent = True


def _read(body: bytes) -> dict[str, Any] | Failure:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    if isinstance(value, dict):
        return value
    return Failure("expected the answer of an HTTP API of Waypost's: check the URL, with its path", 404)
