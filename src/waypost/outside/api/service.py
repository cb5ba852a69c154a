"""A service that an API reaches: what the API's handles on clients, queues and consumers share."""

from __future__ import annotations

from typing import Any

from waypost.outside.api.line import Line
from waypost.outside.api.requests import ApiRequest
from waypost.outside.reach import Reach
from waypost.protocol.codec import Codec

__all__ = ["ApiService"]


class ApiService:
    """A service.

    Args:
        lines: The connections of each process and event loop.
        codec: Encodes arguments of events.

    Attributes:
        codec: As given.
        without_ids: The namespaces that take no ids of events, as the service has said.
    """

    def __init__(self, lines: Reach[Line], codec: Codec) -> None:
        self.codec = codec
        self.without_ids: set[str] = set()
        self._lines = lines

    async def ask(self, action: str, request: ApiRequest) -> dict[str, Any]:
        """Make a request, and return the JSON object of the answer; see `Line.ask` for errors. May be cancelled.

        Args:
            action: The method that was called, for an error.
            request: The request.

        Raises:
            WrongEventLoop: The API is in use on another event loop.
        """
        return await self._lines.way(action).ask(request)

    async def close(self) -> None:
        """Close the connections. A later request opens new ones."""
        await self._lines.close()
