"""The options of namespaces and their clients."""

from __future__ import annotations

from dataclasses import dataclass

from waypost.server.recovery.options import Recovery

__all__ = ["NamespaceSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceSettings:
    """The options of namespaces and their clients; `waypost.Options` describes each.

    Attributes:
        recovery: The recovery options; ``None`` with recovery off.
        ack_timeout_s: Seconds that a client has to acknowledge an event.
        connect_timeout_s: Seconds that a connection may stay without a namespace.
        concurrent_handlers: The most concurrent handlers of one socket that run at the same time.
        handler_grace_s: Seconds for which handlers of an ended socket are waited for.
        max_attachments: The most binary attachments of one event.
        max_auth_bytes: The most bytes of a client's auth for one namespace, as decoded.
        max_buffered_bytes: The most bytes that may wait for one client.
        max_child_namespaces: The most child namespaces that clients may create.
        max_child_namespaces_per_address: The most child namespaces that clients of one address may have created.
        max_messages_per_s: The most messages per second of one client; ``None`` for no limit.
        max_namespaces: The most namespaces of one connection.
        max_payload_bytes: The largest message, and the largest attachment, in bytes.
        max_pending_bytes: The most bytes, as decoded, of one connection's events that wait or are being handled.
        max_pending_events: The most events of one socket that may wait for their handlers.
        cleanup_empty_child_namespaces: Whether idle child namespaces are removed.
    """

    recovery: Recovery | None
    ack_timeout_s: float
    connect_timeout_s: float
    concurrent_handlers: int
    handler_grace_s: float
    max_attachments: int
    max_auth_bytes: int
    max_buffered_bytes: int
    max_child_namespaces: int
    max_child_namespaces_per_address: int
    max_messages_per_s: float | None
    max_namespaces: int
    max_payload_bytes: int
    max_pending_bytes: int
    max_pending_events: int
    cleanup_empty_child_namespaces: bool
