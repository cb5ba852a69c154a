"""Session ids that name the worker of their session, so that each worker knows whose a request is.

Where several processes are one service, an Engine.IO session lives in one of them, and its id ends in a point and a
number: ``<secret>.<number>``. It is the number of the worker of ``waypost serve --workers``; on PostgreSQL it is that
of the store's node, on whichever machine; a label of the machine may stand before it, by which a balancer can route:
``<secret>.<label>.<number>``. The point is never escaped in a URL. For clients the id stays opaque.
"""

from __future__ import annotations

import re

__all__ = ["asks_for_a_session", "name_worker", "worker_of"]

_REQUEST = re.compile(rb"(?:\r\n)*(?!OPTIONS )[A-Z]{1,16} [^ ?#]*\?([^ #]*) HTTP/1\.")
_SID = re.compile(rb"(?:\A|&)sid=[A-Za-z0-9_-]+(?:\.[a-z][a-z0-9-]{0,31})?\.([1-9][0-9]{0,9})(?:&|\Z)")
_EIO = re.compile(rb"(?:\A|&)EIO=[0-9]")


def name_worker(sid: str, worker: str) -> str:
    """Return a session id that names its worker.

    Args:
        sid: The secret part.
        worker: The number of the worker, or of the node, with its label or without; ``""`` for a server alone, whose
            ids name nobody.
    """
    return f"{sid}.{worker}" if worker else sid


def worker_of(head: bytes) -> str | None:
    """Return the number of the worker whose session a request is for.

    Args:
        head: The beginning of a request, the request line at least. It is untrusted.

    Returns:
        The number as text, of 1 to 10 digits, or ``None`` if this is no request of Engine.IO with an id that names a
        worker, or a preflight, which any worker can answer. Whether there is such a worker is not known here.
    """
    query = _query(head)
    found = None if query is None else _SID.search(query)
    return None if found is None else found[1].decode()


def asks_for_a_session(head: bytes) -> bool:
    """Return whether a request of Engine.IO has no session id, and so asks for a new session."""
    query = _query(head)
    return query is not None and b"sid=" not in query


def _query(head: bytes) -> bytes | None:
    request = _REQUEST.match(head)
    return None if request is None or _EIO.search(request[1]) is None else request[1]
