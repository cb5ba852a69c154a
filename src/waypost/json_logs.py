"""Log records as lines of JSON, for programs that collect logs."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import orjson

from waypost.log_floods import BY_CLIENT
from waypost.logs import FIELDS, plain
from waypost.masking import mask
from waypost.text import escape_json

__all__ = ["JsonFormatter"]

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {
    "message", "asctime", "taskName", "color_message", BY_CLIENT,
}  # fmt: skip
"""The attributes of each record. All others came by the ``extra`` of a log call."""

_LONGEST = 200


class JsonFormatter(logging.Formatter):
    """Formats each record as one line: a JSON object.

    Its members are ``time`` (ISO 8601, UTC), ``level``, ``logger``, ``message``, ``process``; ``worker`` in a worker
    of ``waypost serve``; the fields that the log call gave by ``extra``; ``error``, the type of the exception that
    the line tells of; ``exception``, the traceback as text. Members of an application's own fields that are named
    like secrets are hidden.

    As a formatter in a configuration of `logging.config`: ``{"()": "waypost.json_logs.JsonFormatter"}``.

    Args:
        worker: The number of this worker, for each line; ``None`` if it is none.
    """

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as a line, without a line break.

        Args:
            record: The record.
        """
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        if self._worker is not None:
            line["worker"] = self._worker
        for name, value in vars(record).items():
            if name not in _OWN and name not in line:
                line[name] = _cut(value) if name in FIELDS else mask({name: value})[name]
        line |= self._trouble(record)
        return escape_json(orjson.dumps(_encodable(line), default=repr, option=orjson.OPT_NON_STR_KEYS).decode())

    def _trouble(self, record: logging.LogRecord) -> dict[str, str]:
        told: dict[str, str] = {}
        raised = record.exc_info[1] if record.exc_info else None
        arguments = record.args if isinstance(record.args, tuple) else ()
        error = raised or next((one for one in map(plain, arguments) if isinstance(one, BaseException)), None)
        if error is not None:
            told["error"] = type(error).__name__
        if record.exc_text or raised is not None:
            # `logs` has made the text printable already where it had to be.
            told["exception"] = record.exc_text or self.formatException(record.exc_info or (None, None, None))
        return told


def _cut(value: object) -> object:
    """Cut what a client chose, as the sentence beside it does."""
    return value[:_LONGEST] + "…" if isinstance(value, str) and len(value) > _LONGEST else value


def _encodable(value: Any) -> Any:
    """Copy a value, with what is no Unicode in its texts escaped: lone surrogates are in no JSON."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_encodable(name): _encodable(one) for name, one in value.items()}
    if isinstance(value, int):
        return value if value.bit_length() < 64 else str(value)
    return [_encodable(one) for one in value] if isinstance(value, list | tuple) else value
