"""Chooses the protocols under uvicorn: our faster ones, or uvicorn's own if its internals have changed.

Our protocols override methods and read attributes of uvicorn's classes that uvicorn does not guarantee.
"""

from __future__ import annotations

import dis
from asyncio import Protocol
from importlib import import_module
from types import FunctionType
from typing import Any

import uvicorn

from waypost.logs import get_logger

__all__ = ["choose_protocols", "find_missing"]

_log = get_logger("waypost.serve")

_HTTP = "uvicorn.protocols.http.httptools_impl"
_NEEDED = {
    (_HTTP, "HttpToolsProtocol"): (
        "connection_made connection_lost data_received on_message_begin on_header on_headers_complete"
        " on_message_complete on_response_complete handle_websocket_upgrade send_400_response _start_asgi_task"
        " _should_upgrade _unset_keepalive_if_required _unsupported_upgrade_warning"
        " resume_writing app client connections cycle flow headers logger loop parser pipeline scheme server"
        " server_state tasks timeout_keep_alive_task transport ws_protocol_class"
    ),
    (_HTTP, "RequestResponseCycle"): (
        "run_asgi scope body more_body disconnected keep_alive response_started response_complete"
        " waiting_for_100_continue message_event on_response transport default_headers"
    ),
    ("uvicorn.protocols.http.flow_control", "FlowControl"): "pause_reading resume_reading write_paused",
    ("uvicorn.protocols.websockets.websockets_sansio_impl", "WebSocketsSansIOProtocol"): (
        "connection_made connection_lost data_received handle_cont handle_parser_exception"
        " receive client close_sent conn frames logger read_paused scheme server transport"
    ),
    ("websockets.server", "ServerProtocol"): "fail handshake_exc",
    ("uvicorn.server", "ServerState"): "connections tasks default_headers total_requests",
    (
        "uvicorn.config",
        "Config",
    ): "root_path ws_max_size ws_per_message_deflate asgi_version loaded_app http_protocol_class",
}
"""What our protocols use, by module and class."""


def choose_protocols() -> tuple[type[Protocol] | str, Any]:
    """Choose the protocols for HTTP and WebSocket, as `uvicorn.Config` takes them.

    If uvicorn lacks something that ours need, this logs one warning and chooses uvicorn's own. Clients notice no
    difference, but each event costs more time, and the limits on headers and fragments do not apply.
    """
    missing = find_missing()
    if not missing:
        # Not at the top: a uvicorn that has changed may lack what these modules import.
        from waypost.transports.direct_websocket import DirectWebSocket
        from waypost.transports.uvicorn_protocols import GuardedHttp

        return GuardedHttp, DirectWebSocket
    _log.warning(
        "uvicorn %s has changed inside: it lacks %s. Serving by plain ASGI, which is slower and does not limit the"
        " size of headers; install a uvicorn that this version of Waypost knows, or a newer Waypost.",
        uvicorn.__version__,
        ", ".join(missing),
    )
    return "auto", "auto"


def __getattr__(name: str) -> Any:
    """Return ``DirectWebSocket``, the value of `waypost.DirectWebSocket`, or its replacement."""
    if name != "DirectWebSocket":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    _, chosen = choose_protocols()
    return import_module("uvicorn.protocols.websockets.auto").AutoWebSocketsProtocol if chosen == "auto" else chosen


def find_missing() -> list[str]:
    """Return the names that our protocols need and the installed uvicorn lacks.

    Returns:
        Names such as ``Class.name``, or the name of a class.
    """
    missing = []
    for (module, class_name), names in _NEEDED.items():
        try:
            found = getattr(import_module(module), class_name)
        except (ImportError, AttributeError):
            missing.append(f"{module}.{class_name}")
            continue
        known = _names_of(found)
        missing += [f"{class_name}.{name}" for name in names.split() if name not in known]
    return missing


def _names_of(found: type) -> set[str]:
    """Return the attributes of a class, and the attributes that its methods assign, as most of uvicorn's are."""
    names = set(dir(found))
    for each in found.__mro__:
        for method in vars(each).values():
            if isinstance(method, FunctionType):
                names.update(step.argval for step in dis.get_instructions(method) if step.opname == "STORE_ATTR")
    return names
