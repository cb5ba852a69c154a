"""Keeps session ids out of uvicorn's logs.

Each request after the handshake has the id of its session in the query, and uvicorn logs paths with their queries.
The id gives access to the session until it ends.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

from waypost.logs import get_logger

__all__ = ["hide_session_ids"]

_LOGGERS = ("uvicorn.access", "uvicorn.error")
_SESSION_ID = re.compile(r"([?&]sid=)[^&\s\"']+", re.IGNORECASE)


def hide_session_ids() -> None:
    """Hide session ids in what uvicorn logs of requests; make the rest printable. May be called again."""
    for name in _LOGGERS:
        get_logger(name).addFilter(_WITHOUT_SESSION_ID)


class _WithoutSessionId(logging.Filter):
    """Hides session ids in the arguments of a record. Drops no record."""

    def filter(self, record: logging.LogRecord) -> bool:
        # uvicorn's formatter takes the arguments apart: they stay as many, and of the same types.
        if record.args and not isinstance(record.args, Mapping):
            record.args = tuple(_hidden(value) for value in record.args)
        return True


_WITHOUT_SESSION_ID = _WithoutSessionId()


def _hidden(value: object) -> object:
    return _SESSION_ID.sub(r"\1***", value) if isinstance(value, str) else value
