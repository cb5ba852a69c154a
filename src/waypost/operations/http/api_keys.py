"""Bearer keys: what each may do, and how a request's key is found."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from secrets import token_urlsafe
from typing import Annotated, Literal, Protocol, TypeAlias

from waypost.checking.constraints import Count, Matching
from waypost.checking.options import checked
from waypost.errors import shorten
from waypost.operations.http.problems import Problem
from waypost.operations.http.requests import Request

__all__ = [
    "ApiKey",
    "HasKeys",
    "Scope",
    "check_name",
    "check_prefix",
    "check_scope",
    "digest_of",
    "find_key",
    "may_use",
    "new_secret",
]

Scope: TypeAlias = Literal[
    "emit",
    "queues:read",
    "queues:write",
    "queues:manage",
    "sockets:read",
    "sockets:manage",
    "state:read",
]
"""What a key may do."""

_Kind: TypeAlias = Literal["queue", "room", "namespace"]
_Digest: TypeAlias = Annotated[
    str, Matching("the SHA-256 of a key, as 64 hexadecimal digits", re.compile("[0-9a-f]{64}").fullmatch)
]


@checked("waypost.ApiKey")
@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A bearer key of the HTTP API, without the key itself.

    Attributes:
        name: The key's name, for logs and errors.
        sha256: The SHA-256 of the key, in hexadecimal digits. `waypost api-key new` makes a key and its line.
        scopes: What the key may do.
        queues: Patterns of the queues that it may use; ``*`` stands for any characters.
        rooms: Patterns of the rooms that it may address. Only the pattern ``*`` addresses all clients.
        namespaces: Patterns of the namespaces that it may use.
        requests_per_s: The most requests per second, in each process, from 1; more are refused.
    """

    name: str
    sha256: _Digest
    scopes: Sequence[Scope]
    queues: Sequence[str] = ("*",)
    rooms: Sequence[str] = ("*",)
    namespaces: Sequence[str] = ("*",)
    requests_per_s: Count = 1000


class HasKeys(Protocol):
    """A source of keys, which may change."""

    def keys(self) -> Sequence[ApiKey]:
        """Return the keys that are valid now."""
        ...


def new_secret() -> str:
    """Return a new key: 32 random bytes as text."""
    return token_urlsafe(32)


def digest_of(secret: str) -> str:
    """Return the SHA-256 of a key, as `ApiKey` keeps it."""
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def find_key(request: Request, keys: Sequence[ApiKey]) -> ApiKey:
    """Return the key of a request, by its `Authorization` header.

    Raises:
        Problem: It has none, or none that is known.
    """
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not secret:
        raise _unknown("key_missing", "expected `Authorization: Bearer KEY`, and no such header came")
    digest = digest_of(secret.strip())
    found: ApiKey | None = None
    # All are compared, each in constant time.
    for key in keys:
        if compare_digest(key.sha256, digest):
            found = key
    if found is None:
        raise _unknown("key_unknown", "expected a key that this service knows; `waypost api-key new` makes one")
    return found


def _unknown(code: str, detail: str) -> Problem:
    return Problem(401, code, detail, headers=[("WWW-Authenticate", "Bearer")])


def check_scope(key: ApiKey, scope: Scope) -> None:
    """Check that a key may do something.

    Raises:
        Problem: It may not.
    """
    if scope not in key.scopes:
        detail = f"expected a key with the scope {scope}; key {key.name} has {', '.join(key.scopes)}"
        raise Problem(403, "scope_missing", detail, scope=scope)


def may_use(key: ApiKey, kind: _Kind, name: str | None) -> bool:
    """Return whether a key may use a name; ``None`` stands for all names of that kind."""
    patterns = _patterns(key, kind)
    return "*" in patterns or (name is not None and any(_fits(name, one) for one in patterns))


def check_prefix(key: ApiKey, prefix: str) -> None:
    """Check that a key may use each queue whose name begins with a prefix.

    Raises:
        Problem: It may not.
    """
    stems = [one[:-1] for one in key.queues if one.endswith("*") and "*" not in one[:-1]]
    if not any(prefix.startswith(stem) for stem in stems):
        what = f"every queue with the prefix {shorten(prefix)}"
        detail = f"key {key.name} may not use {what}; it may use {', '.join(key.queues)}"
        raise Problem(403, "name_not_allowed", detail, kind="queue")


def check_name(key: ApiKey, kind: _Kind, name: str | None) -> None:
    """Check that a key may use a name.

    Args:
        key: The key.
        kind: What has the name.
        name: The name; ``None`` for all of that kind.

    Raises:
        Problem: It may not.
    """
    if may_use(key, kind, name):
        return
    patterns = _patterns(key, kind)
    what = f"every {kind}" if name is None else f"the {kind} {shorten(name)}"
    detail = f"key {key.name} may not use {what}; it may use {', '.join(patterns) or 'none'}"
    raise Problem(403, "name_not_allowed", detail, kind=kind)


def _patterns(key: ApiKey, kind: _Kind) -> Sequence[str]:
    return {"queue": key.queues, "room": key.rooms, "namespace": key.namespaces}[kind]


def _fits(name: str, pattern: str) -> bool:
    parts = pattern.split("*")
    if len(parts) == 1:
        return name == pattern
    first, *middle, last = parts
    if len(name) < len(first) + len(last) or not name.startswith(first) or not name.endswith(last):
        return False
    at, end = len(first), len(name) - len(last)
    for part in middle:
        found = name.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
