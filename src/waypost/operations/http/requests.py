"""A request as the handlers of an HTTP application get it, and what they answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

import msgspec

from waypost.operations.http.problems import Problem
from waypost.transports.http_answer import Receive, Scope
from waypost.transports.request_body import read_body

__all__ = ["Answer", "Request", "json_answer"]

_MAX_FIELDS = 32
_KEYS = frozenset(("key", "api_key", "apikey", "token", "access_token"))
_BODY_S = 10.0
_LONGEST_S = 60.0


class Answer(NamedTuple):
    """The answer of a handler.

    Attributes:
        status: The HTTP status.
        body: The body.
        content_type: The body's type.
    """

    status: int
    body: bytes
    content_type: str


def json_answer(value: Any, status: int = 200) -> Answer:
    """Return an answer whose body is a value as JSON."""
    return Answer(status, msgspec.json.encode(value), "application/json")


class Request:
    """A request.

    Args:
        scope: ASGI's scope.
        receive: ASGI's receive.

    Attributes:
        method: The method; ``GET`` for ``HEAD``.
        is_head: Whether the method was ``HEAD``.
        segments: The parts of the path below the application's root, decoded.
        headers: The headers by lower-case name; a repeated one is joined with a comma.
        repeated: The names of headers that came more than once.
        has_unread_body: Whether there is a body, and it was not read.

    Raises:
        Problem: The path is not UTF-8.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.is_head = scope["method"] == "HEAD"
        self.method: str = "GET" if self.is_head else scope["method"]
        self.headers: dict[str, str] = {}
        self.repeated: set[str] = set()
        for name, value in scope["headers"]:
            text, given = name.decode("latin-1").lower(), value.decode("latin-1")
            if text in self.headers:
                self.repeated.add(text)
                given = f"{self.headers[text]}, {given}"
            self.headers[text] = given
        self.has_unread_body = self.headers.get("content-length", "0") != "0" or "transfer-encoding" in self.headers
        self.segments = _segments(scope)
        self._query: bytes = scope.get("query_string", b"")
        self._receive = receive

    def query(self) -> dict[str, str]:
        """Return the query's fields.

        Raises:
            Problem: It is not UTF-8, repeats a field, has too many of them, or has a key in it.
        """
        try:
            pairs = parse_qsl(
                self._query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS
            )
        except ValueError as error:
            raise Problem(400, "bad_query", f"expected at most {_MAX_FIELDS} fields in UTF-8: {error}") from error
        fields = dict(pairs)
        if _KEYS & {name.lower() for name in fields}:
            raise Problem(
                400,
                "key_in_query",
                "a key in the address ends up in logs: send it as `Authorization: Bearer KEY`, and make a new one",
            )
        if len(fields) < len(pairs):
            raise Problem(400, "bad_query", "expected each field of the query once, one came again; leave one out")
        return fields

    async def body(self, limit_bytes: int) -> bytes:
        """Read the body. May be cancelled.

        Args:
            limit_bytes: The largest body that is accepted.

        Raises:
            Problem: It is too large, too slow, or was cut off.
        """
        body = await read_body(
            self._receive, self.headers, limit_bytes=limit_bytes, timeout_s=_BODY_S, longest_s=_LONGEST_S
        )
        if body == 413:
            detail = f"expected a body of at most {limit_bytes:,} bytes; send less at a time"
            raise Problem(413, "body_too_large", detail)
        if isinstance(body, int):
            raise Problem(body, "body_incomplete", "expected the whole body in time; send it again")
        self.has_unread_body = False
        return body


def _segments(scope: Mapping[str, Any]) -> Sequence[str]:
    # A `%2F` in a name is no separator: `path` has lost the difference, `raw_path` has not.
    raw = scope.get("raw_path")
    try:
        if raw is None:
            segments: list[str] = scope["path"].split("/")
        else:
            segments = [unquote(one, errors="strict") for one in raw.decode("ascii").split("/")]
    except UnicodeError as error:
        raise Problem(400, "bad_path", "expected a path in UTF-8, percent-encoded") from error
    root = scope.get("root_path", "").rstrip("/").split("/")
    return segments[len(root) :] if segments[: len(root)] == root else segments[1:]
