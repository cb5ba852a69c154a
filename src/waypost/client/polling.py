"""Engine.IO over HTTP long-polling: one pending GET that receives, and one POST at a time that sends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from math import inf

from aiohttp import ClientError, ClientResponse
from yarl import URL

from waypost.client.http import Http, ended_by, refusal
from waypost.client.transport import TransportEnded
from waypost.errors import LimitExceeded
from waypost.logs import get_logger
from waypost.protocol.engineio import (
    Frame,
    OpenParameters,
    PacketType,
    decode_payload,
    encode_payload,
    polled_size,
)

__all__ = ["PollingTransport"]

_CLOSE_TIMEOUT_S = 1.0
_MAX_PACKETS = 16  # python-engineio drops a whole POST with more packets
_MAX_REFUSAL_BYTES = 500
_TEXT = {"Content-Type": "text/plain;charset=UTF-8"}
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"

logger = get_logger("waypost.client")


class PollingTransport:
    """A `Transport` over HTTP. The first `receive` opens a session; `join` sets the session of the later requests.

    Args:
        http: Makes the requests.
        max_body_bytes: The largest response that is accepted, in bytes.
    """

    __slots__ = ("_http", "_max_body_bytes", "_max_post_bytes", "_parameters", "_requests", "max_packets", "name")

    def __init__(self, http: Http, max_body_bytes: int) -> None:
        self.name = "polling"
        self.max_packets = _MAX_PACKETS
        self._http = http
        self._max_body_bytes = max_body_bytes
        self._max_post_bytes = inf
        self._parameters: dict[str, str] = {}
        self._requests = 0

    def join(self, parameters: OpenParameters) -> None:
        """Take the session's id, which every later request carries, and the limit on a POST's body."""
        self._parameters["sid"] = parameters.sid
        self._max_post_bytes = parameters.max_payload_bytes or inf

    async def receive(self) -> Sequence[Frame]:
        """Await the response to one poll.

        Raises:
            TransportEnded: The request failed.
            ProtocolViolation: The response is unreadable or too large.
        """
        body = await self._request("GET", None)
        # A packet has at least two bytes: its type and a separator.
        return decode_payload(body, max_packets=self._max_body_bytes // 2 + 1)

    async def send(self, frames: Sequence[Frame]) -> None:
        """Send frames in one or more POSTs, and await the responses.

        Raises:
            TransportEnded: A request failed.
            ProtocolViolation: A response is too large.
        """
        start, size = 0, 0
        for end, frame in enumerate(frames):
            size += polled_size(frame)
            if start < end and (size > self._max_post_bytes or end - start == _MAX_PACKETS):
                await self._request("POST", encode_payload(frames[start:end]))
                start, size = end, polled_size(frame)
        await self._request("POST", encode_payload(frames[start:]))

    async def close(self, *, at_once: bool) -> None:
        """Tell the server that the session ends, unless ``at_once`` or there is no session."""
        if at_once or "sid" not in self._parameters:
            return
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._request("POST", PacketType.CLOSE.encode())
        except (TransportEnded, TimeoutError) as problem:
            logger.debug("the server was not told that polling ends: %s", str(problem) or type(problem).__name__)

    async def _request(self, method: str, data: bytes | None) -> bytes:
        arguments = self._http.arguments
        if data is not None:
            arguments = {**arguments, "headers": {**_TEXT, **arguments["headers"]}, "data": data}
        try:
            async with self._http.session.request(
                method, self._address(), allow_redirects=False, **arguments
            ) as response:
                body = await self._read(response)
        except (OSError, ClientError, ValueError) as error:
            raise ended_by(error) from error
        if response.status != 200:
            said = body[:_MAX_REFUSAL_BYTES].decode(errors="replace")
            raise TransportEnded("transport error", f"{refusal(response)} {said}".strip(), response.status)
        return body

    async def _read(self, response: ClientResponse) -> bytes:
        chunks = bytearray()
        async for chunk in response.content.iter_any():
            chunks += chunk
            if len(chunks) > self._max_body_bytes:
                raise LimitExceeded("bytes in the answer to a poll", self._max_body_bytes, len(chunks))
        return bytes(chunks)

    def _address(self) -> URL:
        self._requests += 1
        return self._http.endpoint.address("polling", t=_name(self._requests), **self._parameters)


def _name(number: int) -> str:
    """Return a text that is new in this session, so that no cache answers the request.

    It starts with a letter, as the JavaScript client's does.
    """
    text = ""
    while number:
        number, digit = divmod(number, len(_DIGITS))
        text = _DIGITS[digit] + text
    return f"w{text}"
