"""Sessions of the pure engine: homes, claims, rooms, what clients have proven, and ends."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

__all__ = ["Done", "Session", "end_all", "expire", "of_dead", "renew", "row_of", "without_left", "write"]


class Session(NamedTuple):
    """A session's row.

    Attributes:
        rooms: The position of the join, by room.
        left: The rooms that it was in: room, and from after which position up to which.
        proven: The highest position that was noted, and what was noted with it.
    """

    sid: str
    start: int
    data: bytes
    home: int | None
    last_home: int | None
    home_attached: bool = True
    is_orphan: bool = False
    expires_at: float | None = None
    home_expires_at: float | None = None
    handed: bytes | None = None
    is_asked: bool = False
    claimer: int | None = None
    stuck_at: int = 0
    stuck_times: int = 0
    rooms: Mapping[str, int] = {}
    left: tuple[tuple[str, int, int], ...] = ()
    proven: tuple[int, int] | None = None

    def is_over(self, now: float) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and self.expires_at < now


class Done(NamedTuple):
    """What a write returned: its result, its data, and the kind and head of the row that it left."""

    result: Any
    data: bytes | None = None
    row: tuple[int, Any] | None = None


Sessions = dict[bytes, Session]


def row_of(one: Session, now: float) -> dict[str, Any]:
    """Return a session as a statement returns it, without what is null; its rooms are sorted."""
    at, last = one.proven or (-1, 0)
    rooms = [[room, since, None] for room, since in one.rooms.items()] + [[*left] for left in one.left]
    row: dict[str, Any] = {"sid": one.sid, "start": one.start, "proven": max(at, one.start)}
    row |= {"last": last if at > one.start else one.start, "expired": one.is_over(now), "damaged": False}
    row |= {"stuck_at": one.stuck_at, "stuck_times": one.stuck_times, "rooms": sorted(rooms, key=repr)}
    return row if one.expires_at is None else row | {"expires_at": one.expires_at}


def without_left(row: dict[str, Any], before: int) -> dict[str, Any]:
    """Return a session without the rooms that it had left before a position: these are forgotten at some time."""
    if "rooms" not in row:
        return row
    return row | {"rooms": [one for one in row["rooms"] if one[2] is None or one[2] >= before]}


def write(
    sessions: Sessions, node: int, kind: int, key: bytes, record: bytes, arguments: Any, top: int, now: float
) -> Done:
    """Do one write of a node, at a position and a time."""
    match kind:
        case 10:
            if key in sessions:
                return Done({"error": "WP003"})
            sessions[key] = Session(arguments["sid"], top, record, node, node)
            return Done({})
        case 18 | 19 | 20:
            return _write_matching(sessions, node, kind, arguments, top, now)
        case 23:
            _prove(sessions, node, arguments["notes"])
            return Done({})
    if key not in sessions:
        return Done({})
    return _write_one(sessions, node, kind, key, record, arguments, top, now)


def _write_one(
    sessions: Sessions, node: int, kind: int, key: bytes, record: bytes, arguments: Any, top: int, now: float
) -> Done:
    one = sessions[key]
    may_write = one.home in (None, node)
    match kind:
        case 11:
            return _attach(sessions, key, one, node, now)
        case 12:
            sessions[key] = _detached(one, node, now + arguments["after"])
        case 13 if may_write:
            del sessions[key]
            if one.claimer is not None:
                return Done({}, row=(6, _released(key, one.handed)))
        case 14 if may_write:
            sessions[key] = one._replace(data=record)
        case 15 if may_write:
            sessions[key] = one._replace(stuck_at=arguments["at"], stuck_times=arguments["times"])
        case 16 if may_write:
            sessions[key] = _joined(one, arguments["rooms"], top)
        case 17 if may_write:
            sessions[key] = _left(one, arguments["rooms"], top)
        case 21:
            return _claim(sessions, key, one, node, now)
        case 22 if one.home == node and one.is_asked:
            sessions[key] = one._replace(handed=record)
            if one.claimer is not None:
                return Done({}, row=(6, _released(key, record)))
        case 13 | 14 | 15 | 16 | 17 | 22:
            pass
        case _:
            raise AssertionError(f"the pure engine has no write of kind {kind}")
    return Done({})


def _released(key: bytes, handed: bytes | None) -> dict[str, Any]:
    return {"released": [[key.hex(), (handed or b"").hex()]]}


def _attach(sessions: Sessions, key: bytes, one: Session, node: int, now: float) -> Done:
    if one.claimer != node and (one.claimer is not None or one.home not in (None, node)):
        return Done({"error": "WP002"}, one.data)
    alone = one._replace(
        home_expires_at=None, handed=None, is_asked=False, is_orphan=False, claimer=None
    )  # fmt: skip
    if one.is_over(now):
        sessions[key] = alone._replace(home=None, home_attached=False)
        return Done({}, one.data)
    attached = alone._replace(home=node, last_home=node, home_attached=True, expires_at=None)
    sessions[key] = attached
    return Done(row_of(attached, now), one.data)


def _detached(one: Session, node: int, ends_at: float) -> Session:
    is_home, gives_up = one.home == node, one.claimer == node
    if not is_home and not gives_up and (one.home is not None or one.claimer is not None):
        return one
    still_attached = one.home_attached and not is_home and one.home is not None
    gives_up_alone = gives_up and one.home is None
    stays = still_attached if gives_up else one.claimer is not None
    return one._replace(
        home_attached=still_attached,
        home_expires_at=ends_at if is_home else (None if gives_up_alone else one.home_expires_at),
        claimer=None if gives_up else one.claimer,
        handed=None if gives_up_alone else one.handed,
        is_asked=one.is_asked and not gives_up_alone,
        is_orphan=False,
        expires_at=one.expires_at if stays else ends_at,
    )


def _claim(sessions: Sessions, key: bytes, one: Session, node: int, now: float) -> Done:
    waits = one.home is not None and one.home != node and one.handed is None
    asked = None
    if waits and not one.is_asked:
        asked = one.home
    elif one.is_orphan and one.last_home != node:
        asked = one.last_home
    sessions[key] = one._replace(
        claimer=node,
        is_asked=waits or (one.is_asked and one.home != node),
        is_orphan=False,
        expires_at=one.expires_at if one.home_attached or one.is_over(now) else None,
    )
    result = {"waits": waits, "handed": (one.handed or b"").hex()}
    if asked is None and one.claimer in (None, node):
        return Done(result)
    return Done(result, row=(5, {"key": key.hex(), "claimer": node, "asked": asked}))


# -- rooms --------------------------------------------------------------------------------------------------------


def _joined(one: Session, rooms: Collection[str], top: int) -> Session:
    return one._replace(rooms={**dict.fromkeys(rooms, top), **one.rooms})


def _left(one: Session, rooms: Collection[str], top: int) -> Session:
    gone = {room: since for room, since in one.rooms.items() if room in rooms}
    stay = {room: since for room, since in one.rooms.items() if room not in rooms}
    return one._replace(
        rooms=stay, left=(*one.left, *((room, since, top) for room, since in gone.items() if since < top))
    )


def _prove(sessions: Sessions, node: int, notes: Collection[tuple[str, int, int]]) -> None:
    for key, at, last in notes:
        one = sessions.get(bytes.fromhex(key))
        if one is not None and one.home in (None, node) and at > one.start:
            known = one.proven
            sessions[bytes.fromhex(key)] = one._replace(
                proven=(at, last) if known is None or at > known[0] else known
            )


def _matching(
    sessions: Sessions, rooms: Collection[str] | None, without: Collection[str] | None, now: float
) -> list[bytes]:
    def is_in(one: Session, names: Collection[str]) -> bool:
        return one.sid in names or not one.rooms.keys().isdisjoint(names)

    return [
        key
        for key, one in sessions.items()
        if not one.is_over(now) and (rooms is None or is_in(one, rooms)) and not (without and is_in(one, without))
    ]


def _write_matching(sessions: Sessions, node: int, kind: int, arguments: Any, top: int, now: float) -> Done:
    keys = _matching(sessions, arguments["rooms"], arguments["except"], now)
    if kind == 20:
        return _end_matching(sessions, node, keys, arguments)
    for key in keys:
        moved = {*arguments["moved"]} - {sessions[key].sid}
        move = _joined if kind == 18 else _left
        sessions[key] = move(sessions[key], moved, top)
    return Done({}, row=(2 if kind == 18 else 3, arguments))


def _end_matching(sessions: Sessions, node: int, keys: Collection[bytes], arguments: Any) -> Done:
    homes: dict[str, list[list[str]]] = {}
    claimed: list[str] = []
    lost: list[list[Any]] = []
    for key in keys:
        one = sessions.pop(key)
        homes.setdefault(str(node if one.home is None else one.home), []).append([one.sid, one.data.hex()])
        if one.claimer is not None:
            claimed.append(key.hex())
        if one.is_orphan:
            lost.append([key.hex(), one.last_home])
    result = {"ended": homes.pop(str(node), []), "claimed": claimed}
    return Done(result, row=(4, arguments | {"homes": homes, "claimed": claimed, "lost": lost or None}))


# -- ends ---------------------------------------------------------------------------------------------------------


def of_dead(sessions: Sessions, node: int, ends_at: float) -> list[list[str]]:
    """Detach the sessions of a node that is gone; returns those whose claims of other nodes go on."""
    released: list[list[str]] = []
    for key, one in [*sessions.items()]:
        if one.home == node and one.claimer not in (None, node):
            released.append([key.hex(), (one.handed or b"").hex()])
            sessions[key] = one._replace(home=None, home_attached=False)
        elif one.home == node:
            ends = one.home_attached or one.claimer == node
            sessions[key] = one._replace(
                expires_at=_first(one.home_expires_at, ends_at) if ends else one.expires_at,
                is_orphan=one.home_attached and one.claimer is None,
                home=None,
                home_attached=False,
                home_expires_at=None,
                handed=None,
                is_asked=False,
                claimer=None,
            )
        elif one.claimer == node:
            has_home = one.home is not None
            stays = one.home_attached or one.expires_at is not None
            sessions[key] = one._replace(
                claimer=None,
                expires_at=one.expires_at if stays else _first(one.home_expires_at, ends_at),
                home_expires_at=one.home_expires_at if has_home else None,
                handed=one.handed if has_home else None,
                is_asked=one.is_asked and has_home,
            )
    return released


def _first(one: float | None, other: float) -> float:
    return other if one is None else one


def renew(sessions: Sessions, node: int, now: float) -> None:
    """Let a node that was dead for others be the home again of those that nobody has claimed since."""
    for key, one in sessions.items():
        if one.last_home == node and one.is_orphan and not one.is_over(now):
            sessions[key] = one._replace(home=node, home_attached=True, is_orphan=False, expires_at=None)


def expire(sessions: Sessions, now: float) -> tuple[list[tuple[bytes, Session]], Any]:
    """Remove the sessions whose time is over; returns them, and the head of the row that tells of them."""
    over = [(key, one) for key, one in sessions.items() if one.is_over(now)]
    for key, _ in over:
        del sessions[key]
    released = [[key.hex(), (one.handed or b"").hex()] for key, one in over if one.claimer is not None]
    lost = [[key.hex(), one.last_home] for key, one in over if one.is_orphan]
    return over, {"released": released or None, "lost": lost or None} if released or lost else None


def end_all(sessions: Sessions) -> Any:
    """Remove all sessions, as the history was lost; returns the head of the row that tells of them."""
    released = [[key.hex(), ""] for key, one in sessions.items() if one.claimer is not None]
    lost = [[key.hex(), one.last_home] for key, one in sessions.items() if one.home_attached or one.is_orphan]
    sessions.clear()
    return {"released": released or None, "lost": lost or None} if released or lost else None
