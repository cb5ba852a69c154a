"""The data of a socket that changes on two nodes: what each has changed is kept."""

from __future__ import annotations

from waypost.server.recovery.snapshot import rebase


def test_what_was_changed_here_is_kept_and_all_else_is_the_latest() -> None:
    earlier = {"same": 1, "changed here": 1, "changed there": 1, "removed here": 1, "removed there": 1}
    data = {"same": 1, "changed here": 2, "changed there": 1, "removed there": 1, "added here": 2}
    latest = {"same": 1, "changed here": 3, "changed there": 3, "removed here": 1, "added there": 3}
    rebase(data, earlier, latest)
    assert data == {"same": 1, "changed here": 2, "changed there": 3, "added here": 2, "added there": 3}
