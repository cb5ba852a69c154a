"""A Socket.IO server and client in which no client misses an event."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any
from warnings import warn

if TYPE_CHECKING:
    from waypost import sync as sync
    from waypost import testing as testing
    from waypost.application import Server
    from waypost.client import Client
    from waypost.errors import (
        AckTimeout,
        AnswerMismatch,
        ConfigurationError,
        ConnectFailed,
        ConnectionRefused,
        EncodingFailed,
        EventRefused,
        NotConnected,
        OutboxFull,
        QueueFull,
        Reject,
        StorageError,
        WaypostError,
    )
    from waypost.protocol.custom_parser import Parser, ParserDecoder
    from waypost.protocol.packet import Packet, PacketType
    from waypost.server.basics.handshake import Handshake
    from waypost.server.cluster.server_side import ServerAnswers
    from waypost.server.connections.cookie import Cookie
    from waypost.server.emitting.broadcast import BroadcastAnswers, BroadcastCall
    from waypost.server.emitting.operator import Operator
    from waypost.server.emitting.remote_socket import FetchedSockets, RemoteSocket
    from waypost.server.emitting.socket_operator import SocketOperator
    from waypost.server.namespaces.namespace import Namespace
    from waypost.server.namespaces.parent_namespace import ParentNamespace
    from waypost.server.namespaces.socket import Socket
    from waypost.server.options import Options
    from waypost.server.queues.consumer import Consumer, ConsumerInfo
    from waypost.server.queues.message import DeadLetter, Message, NewMessage, QueuedMessage, Receipt
    from waypost.server.queues.options import QueueOptions
    from waypost.server.queues.publishing import publish
    from waypost.server.queues.queue import Queue, QueueInfo
    from waypost.server.recovery.live_session import EndedSession
    from waypost.server.recovery.options import Recovery
    from waypost.server.watching.hooks import HandlerFailure, Hooks
    from waypost.storage.queue_records import DeadLetterFilter
    from waypost.transports.direct_websocket import DirectWebSocket

__version__ = "0.1.0"

__all__ = [
    "AckTimeout",
    "AnswerMismatch",
    "BroadcastAnswers",
    "BroadcastCall",
    "Client",
    "ConfigurationError",
    "ConnectFailed",
    "ConnectionRefused",
    "Consumer",
    "ConsumerInfo",
    "Cookie",
    "DeadLetter",
    "DeadLetterFilter",
    "DirectWebSocket",
    "EncodingFailed",
    "EndedSession",
    "EventRefused",
    "FetchedSockets",
    "HandlerFailure",
    "Handshake",
    "Hooks",
    "Message",
    "Namespace",
    "NewMessage",
    "NotConnected",
    "Operator",
    "Options",
    "OutboxFull",
    "Packet",
    "PacketType",
    "ParentNamespace",
    "Parser",
    "ParserDecoder",
    "Queue",
    "QueueFull",
    "QueueInfo",
    "QueueOptions",
    "QueuedMessage",
    "Receipt",
    "Recovery",
    "Reject",
    "RemoteSocket",
    "Server",
    "ServerAnswers",
    "Socket",
    "SocketOperator",
    "StorageError",
    "WaypostError",
    "publish",
]

_HOMES = {
    "BroadcastAnswers": "waypost.server.emitting.broadcast",
    "BroadcastCall": "waypost.server.emitting.broadcast",
    "Client": "waypost.client",
    "Consumer": "waypost.server.queues.consumer",
    "ConsumerInfo": "waypost.server.queues.consumer",
    "Cookie": "waypost.server.connections.cookie",
    "DeadLetter": "waypost.server.queues.message",
    "DeadLetterFilter": "waypost.storage.queue_records",
    "DirectWebSocket": "waypost.transports.direct_websocket",
    "EndedSession": "waypost.server.recovery.live_session",
    "HandlerFailure": "waypost.server.watching.hooks",
    "FetchedSockets": "waypost.server.emitting.remote_socket",
    "Handshake": "waypost.server.basics.handshake",
    "Hooks": "waypost.server.watching.hooks",
    "Message": "waypost.server.queues.message",
    "Namespace": "waypost.server.namespaces.namespace",
    "NewMessage": "waypost.server.queues.message",
    "Operator": "waypost.server.emitting.operator",
    "Options": "waypost.server.options",
    "Packet": "waypost.protocol.packet",
    "PacketType": "waypost.protocol.packet",
    "Parser": "waypost.protocol.custom_parser",
    "ParserDecoder": "waypost.protocol.custom_parser",
    "ParentNamespace": "waypost.server.namespaces.parent_namespace",
    "Queue": "waypost.server.queues.queue",
    "QueueInfo": "waypost.server.queues.queue",
    "QueueOptions": "waypost.server.queues.options",
    "QueuedMessage": "waypost.server.queues.message",
    "Receipt": "waypost.server.queues.message",
    "Recovery": "waypost.server.options",
    "RemoteSocket": "waypost.server.emitting.remote_socket",
    "ServerAnswers": "waypost.server.cluster.server_side",
    "Server": "waypost.application",
    "Socket": "waypost.server.namespaces.socket",
    "SocketOperator": "waypost.server.emitting.socket_operator",
    "publish": "waypost.server.queues.publishing",
}


_DOORS = ("sync", "testing")


def __getattr__(name: str) -> Any:
    """Import a public name at its first use; a client then does not load the server, nor a server the client."""
    if name in _DOORS:
        return import_module(f"waypost.{name}")
    if name == "EventRejected":
        warn("EventRejected is EventRefused now, with `message` for `reason`", DeprecationWarning, stacklevel=2)
        name = "EventRefused"
    if name not in __all__:
        raise AttributeError(f"module 'waypost' has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "waypost.errors")), name)
    globals()[name] = value
    return value
