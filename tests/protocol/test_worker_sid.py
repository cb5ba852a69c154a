"""Whose a request is, by its first line alone."""

from __future__ import annotations

import pytest

from waypost.protocol.worker_sid import asks_for_a_session, name_worker, worker_of

_ID = "abcdefghij-_KLMNOPQR"


@pytest.mark.parametrize(
    ("line", "worker"),
    [
        (f"GET /socket.io/?EIO=4&transport=polling&sid={_ID}.7", "7"),
        (f"POST /socket.io/?sid={_ID}.123456789&EIO=4", "123456789"),
        (f"DELETE /a/b?EIO=3&sid={_ID}.7&t=x", "7"),
        (f"\r\n\r\nGET /?EIO=4&sid={_ID}.7", "7"),
        (f"OPTIONS /socket.io/?EIO=4&sid={_ID}.7", None),
        (f"GET /socket.io/?EIO=4&sid={_ID}", None),
        (f"GET /socket.io/?EIO=4&sid={_ID}.0", None),
        (f"GET /socket.io/?EIO=4&sid={_ID}.2147483647", "2147483647"),
        (f"GET /socket.io/?EIO=4&sid={_ID}.12345678901", None),
        (f"GET /socket.io/?EIO=4&sid={_ID}.a.7", "7"),
        (f"GET /socket.io/?EIO=4&sid={_ID}.rack-2.7&t=x", "7"),
        (f"GET /socket.io/?EIO=4&sid={_ID}.1.7", None),
        (f"GET /socket.io/?EIO=4&sid={_ID}.A.7", None),
        (f"GET /socket.io/?EIO=4&sid={_ID}.a.b.7", None),
        (f"GET /socket.io/?EIO=4&sid={_ID}.{'a' * 33}.7", None),
        (f"GET /socket.io/?EIO=4&sid={_ID}.../../7", None),
        (f"GET /socket.io/?EIO=4&sid={_ID}.7%20", None),
        (f"GET /socket.io/?EIO=4&xsid={_ID}.7", None),
        (f"GET /socket.io/?sid={_ID}.7", None),
        (f"GET /socket.io/EIO=4&sid={_ID}.7", None),
        (f"GET /socket.io/?EIO=4#&sid={_ID}.7", None),
    ],
)
def test_a_worker_is_named_in_one_way_only(line: str, worker: str | None) -> None:
    head = f"{line} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    assert worker_of(head) == worker


def test_a_request_without_an_id_asks_for_a_session() -> None:
    assert asks_for_a_session(b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\n")
    assert not asks_for_a_session(b"GET /socket.io/?EIO=4&sid=x HTTP/1.1\r\n")
    assert not asks_for_a_session(b"GET /shop?page=4 HTTP/1.1\r\n")


def test_a_server_without_workers_names_nobody() -> None:
    assert name_worker(_ID, "") == _ID
    assert worker_of(f"GET /?EIO=4&sid={name_worker(_ID, '7')} HTTP/1.1\r\n".encode()) == "7"
