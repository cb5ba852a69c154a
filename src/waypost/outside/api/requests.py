"""One request to an HTTP API: what it asks, as JSON, and whether it may be sent twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import orjson

from waypost.errors import EncodingFailed
from waypost.protocol.codec import Codec
from waypost.protocol.records import read_json

__all__ = ["ApiRequest", "encoded_arguments", "get", "post", "queue_path"]


class ApiRequest(NamedTuple):
    """A request.

    Attributes:
        operation: What it asks, in words that follow "to".
        method: The HTTP method.
        path: The path and query below the API's URL, percent-encoded.
        body: The JSON object; ``None`` for none.
        is_repeatable: Whether the service does the same if the request comes twice as if it comes once.
        ids: The ids of the messages that it adds to a queue.
    """

    operation: str
    method: str
    path: str
    body: Mapping[str, Any] | None = None
    is_repeatable: bool = True
    ids: tuple[str, ...] = ()

    def with_id(self, id: str) -> ApiRequest:
        """Return the request with an id, so that the service does it once however often it comes."""
        return self._replace(body={**(self.body or {}), "id": id}, is_repeatable=True)

    def content(self) -> bytes | None:
        """Return the body, encoded; ``None`` for none."""
        return None if self.body is None else orjson.dumps(self.body)


def get(operation: str, path: str, **query: str | int | None) -> ApiRequest:
    """Return a request that only looks.

    Args:
        operation: What it asks, in words.
        path: The path, percent-encoded.
        query: The fields of the query; those that are ``None`` are left out.
    """
    fields = urlencode({name: value for name, value in query.items() if value is not None})
    return ApiRequest(operation, "GET", f"{path}?{fields}" if fields else path)


def post(operation: str, path: str, *, is_repeatable: bool = True, **body: Any) -> ApiRequest:
    """Return a request that changes something.

    Args:
        operation: What it asks, in words.
        path: The path, percent-encoded.
        is_repeatable: As for `ApiRequest`.
        body: The members of the JSON object.
    """
    return ApiRequest(operation, "POST", path, body, is_repeatable)


def queue_path(queue: str, *more: str) -> str:
    """Return the path of a queue, or of a part of it."""
    return "/".join(("/queues", quote(queue, safe=""), *more))


def encoded_arguments(codec: Codec, namespace: str, event: str, args: Sequence[Any]) -> list[Any]:
    """Return an event's arguments as values that JSON has, in the form that a server's emit would give them.

    Raises:
        EncodingFailed: The event's name is reserved, or JSON can't carry an argument.
    """
    json, attachments = read_json(codec.encode_event(namespace, event, args).to_record())
    if attachments:
        raise EncodingFailed(
            f"event {event!r}",
            "an HTTP API takes JSON, which has no bytes: send text, such as base64, or use waypost.Emitter",
        )
    arguments: list[Any] = orjson.loads(json)[1:]
    return arguments
