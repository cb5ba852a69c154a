"""The errors of the store for what the driver raises."""

from __future__ import annotations

from typing import Final

from waypost.errors import StorageError, StoreFull
from waypost.storage.postgres.driver import EngineGone, Refusal, Warned

__all__ = ["problem_of"]

_REMEDIES: Final = {
    "25006": "it is read-only: a standby, or set so; give the address of the primary",
    "28000": "it refuses this user; check the address and pg_hba.conf",
    "28P01": "it refuses this password; check the address",
    "3D000": "there is no such database; make it: createdb --owner ROLE DATABASE",
    "42501": "the role may not do this; servers and commands need the schema's owner, who needs GRANT CREATE ON "
    "DATABASE to make it; a program that only emits: waypost db migrate --grant ROLE, run as the owner",
    "53200": "the server is out of memory; it works again once there is some",
    "53300": "the server has no free connection; raise max_connections, or lower the number of nodes or "
    "waypost_connections",
    "53400": "a limit of the server's configuration is reached",
    "57014": "the server gave the call up; check statement_timeout and lock_timeout of the role",
    "55P03": "the server gave the call up; check lock_timeout of the role",
    "XX001": "a page of a table is damaged; restore a copy",
    "XX002": "an index is damaged; REINDEX it",
}
# What pgbouncer says of a parameter that a connection through it can't set.
_POOLER: Final = "unsupported startup parameter"


def problem_of(store: str, error: EngineGone | Refusal | Warned) -> StorageError:
    """Return the error that a caller of the store gets. It says whether what was asked for may have been done.

    Args:
        store: The store, as errors name it.
        error: What the driver raised.
    """
    if isinstance(error, Warned):
        return StorageError(store, f"PostgreSQL warned: {error}; what was asked may have been done")
    if isinstance(error, EngineGone) and error.was_sent:
        return StorageError(store, f"PostgreSQL went away: {error.problem}; what was asked may have been done")
    if isinstance(error, EngineGone):
        told = f"PostgreSQL can't be reached: {error.problem}; nothing was stored"
        if _POOLER in error.problem:
            told += "; the address is a pooler's: add ?waypost_pooled=yes to it, and waypost_direct"
        return StorageError(store, told)
    if error.sqlstate == "53100":
        return StoreFull(store)
    remedy = _REMEDIES.get(error.sqlstate)
    return StorageError(store, f"PostgreSQL: {error}" + (f"; {remedy}" if remedy else ""))
