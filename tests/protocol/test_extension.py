"""What Waypost's own client and server tell each other beyond Socket.IO."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from waypost.protocol.extension import (
    DeliveryMark,
    OutboxMark,
    client_revision,
    split_auth,
    split_mark,
    split_outbox_mark,
)
from waypost.protocol.rejections import Rejection, read_rejection

MARK = DeliveryMark(queue="q", consumer="c", id="m", epoch="g.1", position=7, cursor=5, attempt=2)


@pytest.mark.parametrize(
    ("header", "revision"),
    [(None, 0), ("", 0), ("1", 1), ("2", 2), ("7", 2), ("0", 0), ("-1", 0), ("x", 0), ("\u0661", 0), ("9" * 5000, 0)],
)
def test_only_our_own_client_has_a_revision(header: str | None, revision: int) -> None:
    assert client_revision({} if header is None else {"waypost-client": header}) == revision


def test_a_mark_is_the_last_argument() -> None:
    assert split_mark(["job", {"n": 1}, MARK.argument()]) == (["job", {"n": 1}], MARK)
    assert split_mark([MARK.argument()]) == ([], MARK)


@pytest.mark.parametrize("last", [None, 5, "x", {}, {"_waypost": 1, "more": 2}, {"other": {}}, [MARK.argument()]])
def test_other_last_arguments_are_the_applications(last: Any) -> None:
    assert split_mark(["job", last]) == (["job", last], None)
    assert split_mark([]) == ([], None)


@pytest.mark.parametrize("changed", [{"position": True}, {"queue": None}, {"epoch": 5}])
def test_a_mark_that_names_no_message_is_taken_off(changed: dict[str, Any]) -> None:
    fields = {**MARK.argument()["_waypost"], **changed}
    assert split_mark(["job", {"_waypost": fields}]) == (["job"], None)
    assert split_mark(["job", {"_waypost": "odd"}]) == (["job"], None)


def test_a_later_servers_fields_are_ignored() -> None:
    fields = {**MARK.argument()["_waypost"], "later": 1}
    assert split_mark(["job", {"_waypost": fields}]) == (["job"], MARK)


OUTBOX = OutboxMark(client="a-secret-of-20-chars", message="m", sequence=7, settled=6)


def test_headers_and_time_come_with_the_mark_if_they_are_sound() -> None:
    mark = replace(MARK, enqueued_at=1_700_000_000.5, headers={"tenant": "7"})
    assert split_mark(["job", mark.argument()]) == (["job"], mark)
    fields = mark.argument()["_waypost"]
    time: Any
    for time in (True, "x", -1, 1e300, None):
        assert split_mark(["job", {"_waypost": {**fields, "enqueued_at": time}}])[1] == replace(
            mark, enqueued_at=None
        )
    odd: Any
    for odd in ({"a": 1}, ["a"], "a", None):
        assert split_mark(["job", {"_waypost": {**fields, "headers": odd}}])[1] == replace(mark, headers=None)
    for time in (0, 0.5, 253402300799):
        with_time = split_mark(["job", {"_waypost": {**fields, "enqueued_at": time}}])[1]
        assert with_time == replace(mark, enqueued_at=float(time))


@pytest.mark.parametrize(
    ("said", "revision"),
    [({"revision": 1}, 1), ({"revision": 2}, 2), ({"revision": 99}, 2)]
    + [(odd, 0) for odd in ({"revision": 0}, {"revision": True}, {"revision": "2"}, {}, "2", None)],
)
def test_a_browsers_client_names_its_revision_in_its_connect(said: Any, revision: int) -> None:
    assert split_auth({"token": "t", "_waypost": said}) == ({"token": "t"}, revision)
    assert split_auth({"token": "t"}) == ({"token": "t"}, 0)


def test_an_event_of_an_outbox_has_its_mark() -> None:
    assert split_outbox_mark(["order", 1, OUTBOX.argument()]) == (["order", 1], OUTBOX)
    assert split_outbox_mark(["order", 1]) == (["order", 1], None)
    assert split_outbox_mark(["order", MARK.argument()]) == (["order"], None)


@pytest.mark.parametrize(
    "changed", [{"client": "short"}, {"client": "x" * 129}, {"message": ""}, {"sequence": 6}, {"settled": -1}]
)
def test_a_mark_of_an_outbox_that_can_t_be_right_is_taken_off(changed: dict[str, Any]) -> None:
    fields = {**OUTBOX.argument()["_waypost"], **changed}
    assert split_outbox_mark(["order", {"_waypost": fields}]) == (["order"], None)


def test_a_rejection_is_all_of_an_acknowledgement() -> None:
    rejection = Rejection(reason="no", is_final=True, data=[1], retry_in_s=0.5)
    assert read_rejection([rejection.argument()]) == rejection
    assert read_rejection([1, rejection.argument()]) is None
    assert read_rejection([{"reason": "no", "is_final": True}]) is None
    assert read_rejection([]) is None
    assert read_rejection([{"_waypost": {"reason": "no"}}]) is None


@pytest.mark.parametrize("retry_in_s", ["5", -1, 1e12, float("nan"), [], None])
def test_a_time_that_can_t_be_waited_is_none(retry_in_s: Any) -> None:
    values = [{"_waypost": {"reason": "no", "is_final": False, "retry_in_s": retry_in_s}}]
    assert read_rejection(values) == Rejection(reason="no")
