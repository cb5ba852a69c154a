"""Which store tests use that work with any: `WAYPOST_TEST_STORE=postgresql` lets them use PostgreSQL."""

from __future__ import annotations

import os

from tests.support.nodes import Nodes
from tests.support.postgres_nodes import PostgresEngine

__all__ = ["is_postgresql", "make_nodes"]

_VARIABLE = "WAYPOST_TEST_STORE"


def is_postgresql() -> bool:
    """Tell whether tests are to use PostgreSQL instead of a store of the process's own.

    Raises:
        ValueError: The variable has another value.
    """
    value = os.environ.get(_VARIABLE, "")
    if value not in ("", "postgresql"):
        raise ValueError(f"{_VARIABLE}: expected postgresql or nothing, came {value}")
    return bool(value)


def make_nodes() -> Nodes | PostgresEngine:
    """Make what several stores of one process are nodes of."""
    return PostgresEngine() if is_postgresql() else Nodes()
