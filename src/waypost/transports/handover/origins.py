"""Reads off a connection where it comes from."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl

from waypost.transports.handover.passed import Origin

__all__ = ["origin_of"]


def origin_of(transport: asyncio.Transport) -> Origin:
    """Return where a connection of this process comes from."""
    return Origin(get_remote_addr(transport), get_local_addr(transport), is_ssl(transport))
