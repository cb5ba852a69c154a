"""Debug logs of connections, requests and packets.

There are two loggers, ``waypost.connections`` and ``waypost.packets``, and both use level DEBUG only. Their levels
are read when the server starts; a server that does not log this pays nothing for it. Data is shortened, and secrets
are hidden (session ids, auth, cookies, members named like tokens). An event's plain arguments are not hidden.
"""

from __future__ import annotations

import logging

from waypost.errors import shorten
from waypost.logs import fields, get_logger
from waypost.masking import mask, mask_headers, mask_text, mask_url
from waypost.protocol.engineio import Frame
from waypost.protocol.packet import PacketType
from waypost.server.watching.hooks import (
    ConnectionClosed,
    ConnectionOpened,
    Hooks,
    PacketReceived,
    PacketSent,
    RequestRefused,
    SocketConnected,
    SocketDisconnected,
)

__all__ = ["attach_debug_log"]

connections = get_logger("waypost.connections")
packets = get_logger("waypost.packets")

_SHOWN_CHARACTERS = 120
_LOOKED_AT_CHARACTERS = 1_000


def attach_debug_log(hooks: Hooks) -> None:
    """Register the log's observers, as far as the loggers' levels ask for them now."""
    if connections.isEnabledFor(logging.DEBUG):
        hooks.connection_opened(_log_opened)
        hooks.connection_closed(_log_closed)
        hooks.request_refused(_log_refused)
        hooks.socket_connected(_log_connected)
        hooks.socket_disconnected(_log_disconnected)
    if packets.isEnabledFor(logging.DEBUG):
        hooks.packet_received(_log_received)
        hooks.packet_sent(_log_sent)


def _log_opened(opened: ConnectionOpened) -> None:
    handshake = opened.handshake
    connections.debug(
        "#%d opened by %s over %s: %s %s",
        opened.connection,
        handshake.address or "?",
        opened.transport,
        mask_url(handshake.url),
        mask_headers(handshake.headers),
        extra=fields(connection=opened.connection, address=handshake.address),
    )


def _log_closed(closed: ConnectionClosed) -> None:
    connections.debug(
        "#%d closed after %.3f s over %s: %s",
        closed.connection,
        closed.duration_s,
        closed.transport,
        closed.reason,
        extra=fields(connection=closed.connection, seconds=closed.duration_s),
    )


def _log_refused(refused: RequestRefused) -> None:
    handshake = refused.handshake
    connections.debug(
        "refused %s: code %d, %s (%s): %s %s",
        handshake.address or "?",
        refused.code,
        refused.message,
        refused.context,
        mask_url(handshake.url),
        mask_headers(handshake.headers),
        extra=fields(address=handshake.address, code=refused.context),
    )


def _log_connected(connected: SocketConnected) -> None:
    how = "recovered" if connected.recovered else "new"
    connections.debug(
        "#%d is socket %s (%s) in %s",
        connected.connection,
        connected.socket_id,
        how,
        connected.namespace,
        extra=fields(connection=connected.connection, sid=connected.socket_id, namespace=connected.namespace),
    )


def _log_disconnected(gone: SocketDisconnected) -> None:
    connections.debug(
        "#%d is socket %s no more in %s: %s",
        gone.connection,
        gone.socket_id,
        gone.namespace,
        gone.reason,
        extra=fields(connection=gone.connection, sid=gone.socket_id, namespace=gone.namespace),
    )


def _log_received(received: PacketReceived) -> None:
    packet = received.packet
    number = "" if packet.ack_id is None else f" {packet.ack_id}"
    # The payload of CONNECT is the client's auth: hide all its members, whatever their names.
    is_auth = packet.type is PacketType.CONNECT and isinstance(packet.data, dict)
    data = dict.fromkeys(packet.data, "***") if is_auth else mask(packet.data)
    packets.debug(
        "#%d → %s %s%s %s",
        received.connection,
        packet.type.name,
        packet.namespace,
        number,
        shorten(data, _SHOWN_CHARACTERS),
        extra=fields(connection=received.connection, namespace=packet.namespace),
    )


def _log_sent(sent: PacketSent) -> None:
    packets.debug(
        "#%d ← %s", sent.connection, " ".join(map(_show, sent.frames)), extra=fields(connection=sent.connection)
    )


def _show(frame: Frame) -> str:
    if isinstance(frame, bytes):
        return f"<{len(frame)} bytes>"
    text = mask_text(frame[:_LOOKED_AT_CHARACTERS])
    if len(frame) > _LOOKED_AT_CHARACTERS or len(text) > _SHOWN_CHARACTERS:
        return f"{text[:_SHOWN_CHARACTERS]}… ({len(frame)} in all)"
    return text
