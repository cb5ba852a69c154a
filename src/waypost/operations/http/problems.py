"""Errors as clients of an HTTP application get them.

Source: RFC 9457 ("Problem Details for HTTP APIs").
"""

from __future__ import annotations

from typing import Any

import msgspec

from waypost.transports.http_answer import Headers

__all__ = ["Problem", "internal_problem"]


class Problem(Exception):
    """An error that ends a request: a status, a stable code, and a sentence.

    Args:
        status: The HTTP status.
        code: The stable name of the error, in snake_case.
        detail: What was expected, what came, and what to do. It shows no secret.
        retry_after_s: Whole seconds after which to try again; ``None`` if a retry does not help.
        headers: Further headers of the answer.
        members: Further members of the document.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        retry_after_s: int | None = None,
        headers: Headers | None = None,
        **members: Any,
    ) -> None:
        super().__init__(status, code, detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.members = members
        self._headers = headers or []

    def __str__(self) -> str:
        return f"{self.status} {self.code}: {self.detail}"

    @property
    def headers(self) -> Headers:
        """The headers of the answer."""
        headers = [("Content-Type", "application/problem+json"), ("Cache-Control", "no-store"), *self._headers]
        if self.retry_after_s is not None:
            headers.append(("Retry-After", str(self.retry_after_s)))
        return headers

    def document(self) -> dict[str, Any]:
        """Return the problem as a JSON object."""
        return {
            "type": f"urn:waypost:problem:{self.code}",
            "title": self.code.replace("_", " "),
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            **({} if self.retry_after_s is None else {"retry_after_s": self.retry_after_s}),
            **self.members,
        }

    def body(self) -> bytes:
        """Return the document, encoded."""
        return msgspec.json.encode(self.document())


def internal_problem() -> Problem:
    """Return the problem of a defect, which shows nothing of it."""
    return Problem(500, "internal_error", "the server has failed; its log says why")
