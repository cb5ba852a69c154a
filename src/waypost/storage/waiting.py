"""Opens a store whose file another process still has: it waits for that process to end.

That happens when a supervisor starts the next process before the old one has ended, as gunicorn does at a reload. The
one that waits knocks at the file; the one that has it looks for that, and ends sooner if it is being stopped (see
`waypost.transports.succession`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from waypost.errors import StoreBusy
from waypost.logs import fields, get_logger
from waypost.owning import OwnerFile
from waypost.storage.base import Store

__all__ = ["open_when_free"]

_logger = get_logger("waypost.store")

_TRY_EVERY_S = 0.1


async def open_when_free(store: Store, wait_s: float, given_up: Callable[[], bool]) -> None:
    """Open a store; if another process has it open, wait until that one has closed it.

    Args:
        store: The store, which is closed.
        wait_s: The seconds to wait at most, from 0.
        given_up: Returns whether to wait no longer.

    Raises:
        StoreBusy: The other process has it still.
        StorageError: The store can't be opened; see `Store.open`.
    """
    loop = asyncio.get_running_loop()
    ends = loop.time() + wait_s
    tries = 0
    path: Path | None = None
    try:
        while True:
            try:
                await store.open()
            except StoreBusy as busy:
                if loop.time() >= ends or given_up():
                    raise _waited(busy, wait_s) if tries else busy from None
                path = Path(busy.store)
                if not tries:
                    _logger.warning("%s; waiting up to %g s for its end", busy, wait_s, extra=fields(seconds=wait_s))
                tries += 1
                OwnerFile.knock(path, tries)
                await asyncio.sleep(_TRY_EVERY_S)
            else:
                if tries:
                    _logger.info("%s: the other process has closed it", path, extra=fields(store=path))
                return
    finally:
        if path is not None:
            OwnerFile.knock(path, 0)


def _waited(busy: StoreBusy, wait_s: float) -> StoreBusy:
    return StoreBusy(busy.store, pid=busy.pid, since=busy.since, host=busy.host, waited_s=wait_s)
