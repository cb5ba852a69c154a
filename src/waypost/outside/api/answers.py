"""The answers of an HTTP API: values of Waypost's types, or its errors.

Source: RFC 9457 ("Problem Details for HTTP APIs").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar, get_type_hints

import msgspec
import orjson

from waypost.errors import (
    ApiRefused,
    ApiUnavailable,
    ConfigurationError,
    EncodingFailed,
    MalformedPacket,
    QueueFull,
    StorageUncertain,
    StoreFull,
    WaypostError,
)
from waypost.outside.api.requests import ApiRequest

__all__ = ["Failure", "failure_of", "member", "read_list", "read_object"]

T = TypeVar("T")

_NOT_DONE = frozenset((408, 429, 503))
_UNCERTAIN = frozenset((500, 502, 504))
_SHOWN_CHARACTERS = 200


class Failure(NamedTuple):
    """A request that has failed.

    Attributes:
        problem: The reason, in words.
        status: The HTTP status; ``None`` without an answer.
        code: The reason's name; ``""`` if there is none.
        members: The members of the problem that the service sent.
        retry_after_s: The seconds after which the service expects the next try; ``None`` if it said nothing.
        may_be_done: Whether the service may have done what was asked.
    """

    problem: str
    status: int | None = None
    code: str = ""
    members: Mapping[str, Any] = {}
    retry_after_s: float | None = None
    may_be_done: bool = False

    @property
    def is_passing(self) -> bool:
        """Whether another try may succeed soon: not of a full queue or store, and not of a wrong request."""
        if self.status is None or self.may_be_done:
            return True
        return self.status in _NOT_DONE and self.code not in ("queue_full", "store_full")

    def error(self, url: str, request: ApiRequest) -> WaypostError:
        """Return the error to raise.

        Args:
            url: The API's URL.
            request: The request that has failed.
        """
        if self.may_be_done and request.method == "GET":
            return ApiUnavailable(url, self.problem, status=self.status, code=self.code)
        if self.may_be_done:
            return StorageUncertain(url, request.operation, self.problem, ids=request.ids)
        if self.code == "queue_full" and (full := self._queue_full(url)) is not None:
            return full
        if self.code == "store_full":
            return StoreFull(url)
        if self.status is None or self.status in _NOT_DONE:
            return ApiUnavailable(
                url, self.problem, status=self.status, code=self.code, retry_after_s=self.retry_after_s
            )
        return self._refusal(url, self.status, request)

    def _queue_full(self, url: str) -> QueueFull | None:
        names = ("queue", "messages", "bytes", "max_messages", "max_bytes")
        if not all(name in self.members for name in names):
            return None
        return QueueFull(url, *(self.members[name] for name in names))

    def _refusal(self, url: str, status: int, request: ApiRequest) -> WaypostError:
        argument, expected = self.members.get("argument"), self.members.get("expected")
        if self.code == "bad_value" and isinstance(argument, str) and isinstance(expected, str):
            return ConfigurationError(argument, (request.body or {}).get(argument), expected)
        if self.code == "not_encodable":
            return EncodingFailed(request.operation, self.problem)
        return ApiRefused(url, request.operation, status, self.code, self.problem)


def failure_of(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """Read an answer that is none of success.

    Args:
        status: The HTTP status.
        headers: The headers of the answer.
        body: The body.
    """
    members = _problem(headers, body)
    code, detail = str(members.get("code", "")), str(members.get("detail", ""))
    if not code:
        detail = _unknown(status, headers)
    retry_after = headers.get("Retry-After", "")
    return Failure(
        detail,
        status,
        code,
        members,
        float(retry_after) if retry_after.isdecimal() else None,
        may_be_done=status in _UNCERTAIN or code == "uncertain",
    )


def _problem(headers: Mapping[str, str], body: bytes) -> Mapping[str, Any]:
    if not headers.get("Content-Type", "").startswith("application/problem+json"):
        return {}
    try:
        members = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return members if isinstance(members, dict) else {}


def _unknown(status: int, headers: Mapping[str, str]) -> str:
    if 300 <= status < 400:
        where = headers.get("Location", "another address")[:_SHOWN_CHARACTERS]
        return f"a redirect to {where} came, which is not followed, as it would get the key: use that address"
    if status in _NOT_DONE or status in _UNCERTAIN:
        return f"HTTP {status} came, from a proxy or a server that is stopping"
    return f"expected the answer of an HTTP API of Waypost's, and HTTP {status} came: check the URL, with its path"


def member(answer: Mapping[str, Any], name: str) -> Any:
    """Return a member of an answer.

    Raises:
        MalformedPacket: The answer lacks it.
    """
    if name not in answer:
        raise MalformedPacket(f"an answer of this version's HTTP API, with {name}", answer)
    return answer[name]


def read_object(kind: type[T], members: Any) -> T:
    """Make a value of a class from a JSON object. Members that the class does not have are left out.

    Args:
        kind: A dataclass or a named tuple.
        members: The object.

    Raises:
        MalformedPacket: A member is missing, or does not fit.
    """
    hints = get_type_hints(kind)
    try:
        return kind(**{name: msgspec.convert(members[name], hint) for name, hint in hints.items()})
    except (msgspec.ValidationError, KeyError, TypeError) as error:
        raise MalformedPacket(f"a {kind.__name__} of this version's HTTP API ({error})", members) from error


def read_list(kind: type[T], members: Any) -> list[T]:
    """Make values of a class from a JSON list of objects; see `read_object`."""
    return [read_object(kind, one) for one in members]
