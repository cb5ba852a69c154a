"""The messages between a parent and its workers."""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from waypost.serving.sides import Part

__all__ = [
    "BEAT_EVERY_S",
    "ORDERS",
    "REPORTS",
    "Abandon",
    "Adopt",
    "Beat",
    "Drain",
    "End",
    "Hello",
    "Listen",
    "Listening",
    "OpenLink",
    "Order",
    "Peer",
    "PeerGone",
    "PeerLeaving",
    "Report",
    "Started",
    "Visit",
]

BEAT_EVERY_S = 1.0
"""How often a worker tells that its event loop runs, in seconds."""


class Hello(msgspec.Struct, frozen=True, tag=True):
    """From a worker, first of all: its Waypost is of this version."""

    version: str


class OpenLink(msgspec.Struct, frozen=True, tag=True):
    """From a worker, with one end of a link to the store."""


class Started(msgspec.Struct, frozen=True, tag=True):
    """From a worker: its store is open. It waits for `Listen`."""


class Listening(msgspec.Struct, frozen=True, tag=True):
    """From a worker: it accepts clients.

    Attributes:
        address: The first address, as ``http://host:port``.
        store: A description of the store, in words.
    """

    address: str
    store: str


class Beat(msgspec.Struct, frozen=True, tag=True):
    """From a worker, each `BEAT_EVERY_S`: its event loop runs.

    Attributes:
        is_ready: Whether its server is ready; see `Readiness`.
    """

    is_ready: bool


class Listen(msgspec.Struct, frozen=True, tag=True):
    """To a worker that has started: all others know it now, so it may accept clients."""


class Adopt(msgspec.Struct, frozen=True, tag=True):
    """To a worker, with the listening socket of one that is not there: accept its clients too, until `Abandon`."""

    slot: int


class Abandon(msgspec.Struct, frozen=True, tag=True):
    """To a worker: accept no more clients on the sockets of another one."""

    slot: int


class Peer(msgspec.Struct, frozen=True, tag=True):
    """To a worker, with a socket to another worker."""

    number: int


class PeerLeaving(msgspec.Struct, frozen=True, tag=True):
    """To a worker: another one accepts no more clients."""

    number: int


class PeerGone(msgspec.Struct, frozen=True, tag=True):
    """To a worker: the process of another one has ended."""

    number: int


class Visit(msgspec.Struct, frozen=True, tag=True):
    """To a worker, with a connection to an address beside the service: answer what is asked there.

    Attributes:
        parts: What is answered on that address.
        data: What was read of the connection.
    """

    parts: tuple[Part, ...]
    data: bytes


class Drain(msgspec.Struct, frozen=True, tag=True):
    """To a worker: stop accepting, say goodbye to the clients, and end."""


class End(msgspec.Struct, frozen=True, tag=True):
    """To a worker: end without waiting, with this exit code."""

    code: int


Report: TypeAlias = Hello | OpenLink | Started | Listening | Beat
Order: TypeAlias = Listen | Adopt | Abandon | Peer | PeerLeaving | PeerGone | Visit | Drain | End

REPORTS: Final[msgspec.json.Decoder[Report]] = msgspec.json.Decoder(Report)
ORDERS: Final[msgspec.json.Decoder[Order]] = msgspec.json.Decoder(Order)
