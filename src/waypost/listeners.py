"""Tells on which addresses this process listens, and which other processes listen there too. Linux only, from /proc.

Servers with several workers give all workers one listening socket, or one each with the same address. Only the
system knows of both.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["can_tell", "listens", "neighbours"]

_PROC = Path("/proc")
_TCP_LISTEN = "0A"
_UNIX_ACCEPTS = 0x10000
"""The flag ``__SO_ACCEPTCON`` of the kernel."""


def can_tell() -> bool:
    """Return whether the system tells who listens where."""
    return sys.platform == "linux" and (_PROC / "self/net/tcp").exists()


def listens() -> bool:
    """Return whether this process listens on any address; False where `can_tell` is False."""
    return can_tell() and any(map(_accepts, os.listdir(_PROC / "self/fd")))


def neighbours() -> list[int]:
    """Return the processes that have the same parent, and listen on an address on which this process listens.

    Returns:
        Their ids, sorted; an empty list where `can_tell` is False.
    """
    if not can_tell():
        return []
    listening = _listening()
    own = _addresses_of("self", listening)
    if not own:
        return []
    siblings = (pid for pid in _siblings() if pid != os.getpid())
    return sorted(pid for pid in siblings if own & _addresses_of(str(pid), listening))


def _accepts(descriptor: str) -> bool:
    try:
        held = os.dup(int(descriptor))  # another thread may close it meanwhile
    except OSError:
        return False
    try:
        probe = socket.socket(fileno=held)
    except OSError:  # no socket
        os.close(held)
        return False
    with probe:
        return bool(probe.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _listening() -> dict[str, str]:
    """Return the addresses of all listening sockets by inode."""
    found = {}
    for table in ("tcp", "tcp6"):
        for fields in _rows(table):
            if fields[3] == _TCP_LISTEN:
                found[fields[9]] = fields[1]
    for fields in _rows("unix"):
        if int(fields[3], 16) & _UNIX_ACCEPTS and len(fields) > 7:
            found[fields[6]] = fields[7]
    return found


def _rows(table: str) -> Iterator[list[str]]:
    try:
        lines = (_PROC / "self/net" / table).read_text().splitlines()
    except OSError:  # a kernel without IPv6, or a sandbox
        return
    yield from (line.split() for line in lines[1:])


def _addresses_of(process: str, listening: dict[str, str]) -> set[str]:
    found = set()
    # It may end meanwhile, or belong to another user.
    with suppress(OSError):
        for descriptor in os.scandir(_PROC / process / "fd"):
            with suppress(OSError):
                kind, _, inode = os.readlink(descriptor.path).partition(":")
                if kind == "socket" and (address := listening.get(inode.strip("[]"))) is not None:
                    found.add(address)
    return found


def _siblings() -> Iterator[int]:
    parent = str(os.getppid())
    for entry in os.scandir(_PROC):
        if entry.name.isdecimal():
            with suppress(OSError):
                # The name before it may hold anything, a bracket too.
                if Path(entry.path, "stat").read_text().rpartition(")")[2].split()[1] == parent:
                    yield int(entry.name)
