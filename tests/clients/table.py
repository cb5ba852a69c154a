"""The rows of the table of clients in docs/compatibility.md, made from what the tests do with each client."""

from __future__ import annotations

from tests.clients.browsers import BROWSERS
from tests.clients.programs import CLIENTS, Kind
from tests.clients.recorded import CLIENTS as RECORDED
from tests.clients.recorded_wire import transports_of

__all__ = ["HEAD", "table"]

HEAD = "| client | runtime | transports | acks | binary | namespaces | after a kill of the server | queues | test |"

_PLAYED = "`clients/test_clients.py::test_a_client_does_what_it_can_and_comes_back_after_a_kill`"
_BROWSED = "`clients/test_clients.py::test_a_browser_does_the_same`"
_RECORDED = "`clients/test_recorded.py::test_events_and_acks_go_both_ways`"
_TRANSPORTS = {"polling": "polling", "websocket": "WebSocket", "upgrade": "upgrade"}


def table() -> list[str]:
    """Return all rows, without the head."""
    rows = [_row(kind, kind.runtime, _PLAYED) for kind in CLIENTS]
    rows[1:1] = [_row(CLIENTS[0], browser, _BROWSED) for browser in BROWSERS]
    for client in RECORDED:
        rows.append(
            _line(
                client.name, "from its sources", transports_of(client), "both ways", "yes", "yes", "—", "—", _RECORDED
            )
        )
    return rows


def _row(kind: Kind, runtime: str, test: str) -> str:
    """Return a client's row; a step that its program does not play is a thing that it can't do."""
    return _line(
        kind.client,
        runtime,
        kind.transports,
        "both ways" if kind.acknowledges else "of its own events",
        "yes" if "asked" in kind.steps else "one value, no other argument",
        "yes" if "namespace" in kind.steps else "one a connection",
        "recovers" if kind.recovers else "connects anew",
        "yes" if kind.acknowledges else "no",
        test,
    )


def _line(client: str, runtime: str, transports: tuple[str, ...], *cells: str) -> str:
    return f"| {' | '.join((client, runtime, ', '.join(_TRANSPORTS[one] for one in transports), *cells))} |"
