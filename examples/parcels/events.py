"""What drivers and the service send each other."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import msgspec


class Status(StrEnum):
    """Where a parcel is on its way."""

    WAITING = "waiting"
    ON_THE_ROAD = "on the road"
    DELIVERED = "delivered"


@dataclass(frozen=True)
class Credentials:
    """What a driver shows when it connects."""

    driver: str
    token: str


class Parcel(msgspec.Struct, frozen=True):
    """A parcel; a `msgspec.Struct` checks faster than a dataclass, and means the same."""

    id: int
    to: str
    grams: int
    status: Status = Status.WAITING


@dataclass(frozen=True)
class Delivery:
    """A driver's report that a parcel has arrived."""

    parcel: int
    signature: bytes
    note: str | None = None


@dataclass(frozen=True)
class Receipt:
    """The service's answer to a report."""

    parcel: int
    status: Status
    left: int
