"""The line on stdout with which ``waypost serve`` says that it listens, in the form of its log."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from waypost import __version__

__all__ = ["announce"]


def announce(
    form: Literal["text", "json"],
    address: str,
    about: str,
    pids: Sequence[int] = (),
    sides: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Print that the server listens.

    Args:
        form: A line for people, or an object of JSON with the members of the log's lines.
        address: The URL.
        about: The store, in words.
        pids: The processes of the workers, if there are several.
        sides: The URLs beside the service, by what is answered there: ``health``, ``metrics``, ``api``.
    """
    told = f"Waypost {__version__} listening on {address}  {about}"
    if pids:
        told += f"  workers: {len(pids)} (pids {', '.join(map(str, pids))})"
    told += "".join(f"  {part}: {url}" for part, url in sides.items())
    if form == "text":
        print(told, flush=True)
        return
    from waypost.json_logs import JsonFormatter  # takes orjson, which most commands don't need

    record = logging.LogRecord("waypost.serve", logging.INFO, "", 0, told, None, None)
    record.address = address
    if pids:
        record.pids = list(pids)
    for part, url in sides.items():
        setattr(record, part, url)
    print(JsonFormatter().format(record), flush=True)
