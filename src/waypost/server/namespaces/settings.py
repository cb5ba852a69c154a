"""The options that namespaces and their clients are run by."""

from __future__ import annotations

from dataclasses import dataclass

from waypost.server.recovery.options import Recovery

__all__ = ["NamespaceSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceSettings:
    """The options that namespaces and their clients are run by; see `waypost.Options` for each.

    Attributes:
        recovery: How long sessions and events are kept; ``None`` with recovery off.
        ack_timeout_s: Seconds in which a client has to acknowledge what it is called with.
        connect_timeout_s: Seconds a connection may stay without a namespace.
        concurrent_handlers: How many concurrent handlers of one socket may run at the same time.
        max_attachments: The most binary attachments of one event.
        max_buffered_bytes: How many bytes may wait for one client.
        max_child_namespaces: How many namespaces clients may make.
        max_messages_per_s: How many messages a client may send a second; ``None`` for no limit.
        max_namespaces: How many namespaces one connection may be in.
        max_payload_bytes: The largest message taken, and the largest attachment.
        max_pending_events: How many events of one socket may wait for their handlers.
        cleanup_empty_child_namespaces: Whether child namespaces that nobody needs are forgotten.
    """

    recovery: Recovery | None
    ack_timeout_s: float
    connect_timeout_s: float
    concurrent_handlers: int
    max_attachments: int
    max_buffered_bytes: int
    max_child_namespaces: int
    max_messages_per_s: float | None
    max_namespaces: int
    max_payload_bytes: int
    max_pending_events: int
    cleanup_empty_child_namespaces: bool
