"""The errors of `waypost.Api`: requests that a service refuses, and services that can't be reached."""

from __future__ import annotations

from waypost.errors.base import WaypostError
from waypost.errors.storage import StorageError

__all__ = ["ApiRefused", "ApiUnavailable"]


class ApiRefused(WaypostError):
    """The HTTP API of a service refused a request. Nothing was done, and the same request would be refused again.

    Attributes:
        url: The API's URL.
        operation: What was asked, in words.
        status: The HTTP status.
        code: The reason's name, such as ``"scope_missing"``; docs/http-api.md lists them. ``""`` if the answer has
            none: it is not an API of Waypost's that has answered.
        detail: What was expected, what came, and what to do.
    """

    def __init__(self, url: str, operation: str, status: int, code: str, detail: str) -> None:
        super().__init__(url, operation, status, code, detail)
        self.url = url
        self.operation = operation
        self.status = status
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        reason = f"{self.status} {self.code}".rstrip()
        return f"{self.url} refused to {self.operation} ({reason}): {self.detail}"


class ApiUnavailable(StorageError):
    """The HTTP API of a service can't be reached, or takes no request now. Nothing was done: try again later.

    Attributes:
        status: The HTTP status of the answer; ``None`` if there was none.
        code: The reason's name, such as ``"too_many_requests"``; ``""`` if there is none.
        retry_after_s: The seconds after which the service expects the next try; ``None`` if it said nothing.
    """

    def __init__(
        self,
        url: str,
        problem: str,
        *,
        status: int | None = None,
        code: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(url, problem)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s
