"""A Socket.IO server and client in which no client misses an event."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any
from warnings import warn

from waypost.version import __version__ as __version__

if TYPE_CHECKING:
    from waypost import sync as sync
    from waypost import testing as testing
    from waypost.application import MountedServer, Server
    from waypost.client.client import Client, VolatileEmitter
    from waypost.client.client_outbox import ClientOutbox, PendingEvent
    from waypost.client.engine import DisconnectDetails
    from waypost.client.lifecycle import ConnectionEvents
    from waypost.client.messages import ReceivedMessage
    from waypost.client.options import ClientOptions
    from waypost.client.streams import EventStream, ReceivedEvent
    from waypost.errors import (
        AckTimeout,
        AnswerMismatch,
        ApiRefused,
        ApiUnavailable,
        ArgumentMismatch,
        ConfigurationError,
        ConnectFailed,
        ConnectionRefused,
        EncodingFailed,
        EventRefused,
        LimitExceeded,
        MalformedPacket,
        NotConnected,
        OutboxFull,
        PositionGone,
        ProtocolViolation,
        QueueFull,
        Reject,
        StorageError,
        StorageUncertain,
        StoreBusy,
        StoreClosed,
        StoreDamaged,
        StoreFull,
        StoreLost,
        WaypostError,
        WrongEventLoop,
    )
    from waypost.operations.health import Health
    from waypost.operations.http.api_keys import ApiKey
    from waypost.operations.metrics.page import MetricsPage
    from waypost.outside.api.api import Api, ApiTarget
    from waypost.outside.api.queues import ApiConsumer, ApiQueue
    from waypost.outside.api.states import ApiJournal, ApiSocket, ApiSocketsPage, ApiState
    from waypost.outside.emitter import Emitter, EmitterQueue, EmitterTarget
    from waypost.outside.emitting import emit
    from waypost.protocol.custom_parser import Parser, ParserDecoder
    from waypost.protocol.packet import Packet, PacketType
    from waypost.server.basics.environment import Environment
    from waypost.server.basics.handshake import Handshake
    from waypost.server.cluster.server_side import ServerAnswers
    from waypost.server.connections.cookie import Cookie
    from waypost.server.emitting.broadcast import BroadcastAnswers, BroadcastCall
    from waypost.server.emitting.operator import Operator, OperatorFromThread
    from waypost.server.emitting.remote_socket import FetchedSockets, RemoteSocket, RemoteSocketFromThread
    from waypost.server.emitting.socket_operator import SocketOperator, SocketOperatorFromThread
    from waypost.server.namespaces.namespace import Namespace, ParentNamespace
    from waypost.server.namespaces.socket import Socket, SocketFromThread
    from waypost.server.options import Options, ServerOptions
    from waypost.server.queues.consumer import Consumer, ConsumerFromThread, ConsumerInfo
    from waypost.server.queues.message import DeadLetter, Message, NewMessage, QueuedMessage, Receipt
    from waypost.server.queues.options import QueueOptions, QueueSettings
    from waypost.server.queues.publishing import publish
    from waypost.server.queues.queue import Queue, QueueFromThread
    from waypost.server.queues.queue_info import QueueInfo
    from waypost.server.recovery.live_session import EndedSession
    from waypost.server.recovery.options import Recovery
    from waypost.server.recovery.recovery import RecoveryOutcome, RecoveryReason
    from waypost.server.watching.counters import Counters, JournalState, ServerNumbers, ServerState
    from waypost.server.watching.hooks import (
        ConnectionClosed,
        ConnectionOpened,
        EventUndeliverable,
        HandlerFailure,
        Hook,
        Hooks,
        PacketReceived,
        PacketSent,
        RequestRefused,
        SocketConnected,
        SocketDisconnected,
    )
    from waypost.server.watching.queue_counters import QueueCounters, QueueLoad
    from waypost.server.watching.queue_events import ConsumerExpired, MessageDied, MessagesLost
    from waypost.server.watching.readiness import Readiness
    from waypost.storage.engine_state import EngineState, Lag
    from waypost.storage.foreign import HasAsyncExecute, HasCursor, HasExecute, HasFetchval
    from waypost.storage.queue_records import DeadLetterFilter, HistoryItem
    from waypost.storage.store_numbers import StoreCounts
    from waypost.storage.trouble import Trouble
    from waypost.transports.direct_websocket import DirectWebSocket

__all__ = [
    "AckTimeout",
    "AnswerMismatch",
    "Api",
    "ApiConsumer",
    "ApiJournal",
    "ApiKey",
    "ApiQueue",
    "ApiRefused",
    "ApiSocket",
    "ApiSocketsPage",
    "ApiState",
    "ApiTarget",
    "ApiUnavailable",
    "ArgumentMismatch",
    "BroadcastAnswers",
    "BroadcastCall",
    "Client",
    "ClientOptions",
    "ClientOutbox",
    "ConfigurationError",
    "ConnectFailed",
    "ConnectionClosed",
    "ConnectionEvents",
    "ConnectionOpened",
    "ConnectionRefused",
    "Consumer",
    "ConsumerExpired",
    "ConsumerFromThread",
    "ConsumerInfo",
    "Cookie",
    "Counters",
    "DeadLetter",
    "DeadLetterFilter",
    "DirectWebSocket",
    "DisconnectDetails",
    "Emitter",
    "EmitterQueue",
    "EmitterTarget",
    "EncodingFailed",
    "EndedSession",
    "EngineState",
    "Environment",
    "EventRefused",
    "EventStream",
    "EventUndeliverable",
    "FetchedSockets",
    "HandlerFailure",
    "Handshake",
    "HasAsyncExecute",
    "HasCursor",
    "HasExecute",
    "HasFetchval",
    "Health",
    "HistoryItem",
    "Hook",
    "Hooks",
    "JournalState",
    "Lag",
    "LimitExceeded",
    "MalformedPacket",
    "Message",
    "MessageDied",
    "MessagesLost",
    "MetricsPage",
    "MountedServer",
    "Namespace",
    "NewMessage",
    "NotConnected",
    "Operator",
    "OperatorFromThread",
    "Options",
    "OutboxFull",
    "Packet",
    "PacketReceived",
    "PacketSent",
    "PacketType",
    "ParentNamespace",
    "Parser",
    "ParserDecoder",
    "PendingEvent",
    "PositionGone",
    "ProtocolViolation",
    "Queue",
    "QueueCounters",
    "QueueFromThread",
    "QueueFull",
    "QueueInfo",
    "QueueLoad",
    "QueueOptions",
    "QueueSettings",
    "QueuedMessage",
    "Readiness",
    "Receipt",
    "ReceivedEvent",
    "ReceivedMessage",
    "Recovery",
    "RecoveryOutcome",
    "RecoveryReason",
    "Reject",
    "RemoteSocket",
    "RemoteSocketFromThread",
    "RequestRefused",
    "Server",
    "ServerAnswers",
    "ServerNumbers",
    "ServerOptions",
    "ServerState",
    "Socket",
    "SocketConnected",
    "SocketDisconnected",
    "SocketFromThread",
    "SocketOperator",
    "SocketOperatorFromThread",
    "StorageError",
    "StorageUncertain",
    "StoreBusy",
    "StoreClosed",
    "StoreCounts",
    "StoreDamaged",
    "StoreFull",
    "StoreLost",
    "Trouble",
    "VolatileEmitter",
    "WaypostError",
    "WrongEventLoop",
    "emit",
    "publish",
]

_HOMES = {
    "Health": "waypost.operations.health",
    "ApiKey": "waypost.operations.http.api_keys",
    "MetricsPage": "waypost.operations.metrics.page",
    "MountedServer": "waypost.application",
    "Server": "waypost.application",
    "Client": "waypost.client.client",
    "VolatileEmitter": "waypost.client.client",
    "ClientOutbox": "waypost.client.client_outbox",
    "PendingEvent": "waypost.client.client_outbox",
    "DisconnectDetails": "waypost.client.engine",
    "ConnectionEvents": "waypost.client.lifecycle",
    "ReceivedMessage": "waypost.client.messages",
    "ClientOptions": "waypost.client.options",
    "EventStream": "waypost.client.streams",
    "ReceivedEvent": "waypost.client.streams",
    "Api": "waypost.outside.api.api",
    "ApiTarget": "waypost.outside.api.api",
    "ApiConsumer": "waypost.outside.api.queues",
    "ApiQueue": "waypost.outside.api.queues",
    "ApiJournal": "waypost.outside.api.states",
    "ApiSocket": "waypost.outside.api.states",
    "ApiSocketsPage": "waypost.outside.api.states",
    "ApiState": "waypost.outside.api.states",
    "emit": "waypost.outside.emitting",
    "Emitter": "waypost.outside.emitter",
    "EmitterQueue": "waypost.outside.emitter",
    "EmitterTarget": "waypost.outside.emitter",
    "Parser": "waypost.protocol.custom_parser",
    "ParserDecoder": "waypost.protocol.custom_parser",
    "Packet": "waypost.protocol.packet",
    "PacketType": "waypost.protocol.packet",
    "Environment": "waypost.server.basics.environment",
    "Handshake": "waypost.server.basics.handshake",
    "ServerAnswers": "waypost.server.cluster.server_side",
    "Cookie": "waypost.server.connections.cookie",
    "BroadcastAnswers": "waypost.server.emitting.broadcast",
    "BroadcastCall": "waypost.server.emitting.broadcast",
    "Operator": "waypost.server.emitting.operator",
    "OperatorFromThread": "waypost.server.emitting.operator",
    "FetchedSockets": "waypost.server.emitting.remote_socket",
    "RemoteSocket": "waypost.server.emitting.remote_socket",
    "RemoteSocketFromThread": "waypost.server.emitting.remote_socket",
    "SocketOperator": "waypost.server.emitting.socket_operator",
    "SocketOperatorFromThread": "waypost.server.emitting.socket_operator",
    "Namespace": "waypost.server.namespaces.namespace",
    "ParentNamespace": "waypost.server.namespaces.namespace",
    "Socket": "waypost.server.namespaces.socket",
    "SocketFromThread": "waypost.server.namespaces.socket",
    "Options": "waypost.server.options",
    "ServerOptions": "waypost.server.options",
    "Consumer": "waypost.server.queues.consumer",
    "ConsumerFromThread": "waypost.server.queues.consumer",
    "ConsumerInfo": "waypost.server.queues.consumer",
    "DeadLetter": "waypost.server.queues.message",
    "Message": "waypost.server.queues.message",
    "NewMessage": "waypost.server.queues.message",
    "QueuedMessage": "waypost.server.queues.message",
    "Receipt": "waypost.server.queues.message",
    "QueueOptions": "waypost.server.queues.options",
    "QueueSettings": "waypost.server.queues.options",
    "publish": "waypost.server.queues.publishing",
    "Queue": "waypost.server.queues.queue",
    "QueueFromThread": "waypost.server.queues.queue",
    "QueueInfo": "waypost.server.queues.queue_info",
    "EndedSession": "waypost.server.recovery.live_session",
    "Recovery": "waypost.server.recovery.options",
    "RecoveryOutcome": "waypost.server.recovery.recovery",
    "RecoveryReason": "waypost.server.recovery.recovery",
    "Counters": "waypost.server.watching.counters",
    "JournalState": "waypost.server.watching.counters",
    "ServerNumbers": "waypost.server.watching.counters",
    "ServerState": "waypost.server.watching.counters",
    "Readiness": "waypost.server.watching.readiness",
    "EngineState": "waypost.storage.engine_state",
    "Lag": "waypost.storage.engine_state",
    "StoreCounts": "waypost.storage.store_numbers",
    "Trouble": "waypost.storage.trouble",
    "HasAsyncExecute": "waypost.storage.foreign",
    "HasCursor": "waypost.storage.foreign",
    "HasExecute": "waypost.storage.foreign",
    "HasFetchval": "waypost.storage.foreign",
    "ConnectionClosed": "waypost.server.watching.hooks",
    "ConnectionOpened": "waypost.server.watching.hooks",
    "EventUndeliverable": "waypost.server.watching.hooks",
    "HandlerFailure": "waypost.server.watching.hooks",
    "Hook": "waypost.server.watching.hooks",
    "Hooks": "waypost.server.watching.hooks",
    "PacketReceived": "waypost.server.watching.hooks",
    "PacketSent": "waypost.server.watching.hooks",
    "RequestRefused": "waypost.server.watching.hooks",
    "SocketConnected": "waypost.server.watching.hooks",
    "SocketDisconnected": "waypost.server.watching.hooks",
    "QueueCounters": "waypost.server.watching.queue_counters",
    "QueueLoad": "waypost.server.watching.queue_counters",
    "ConsumerExpired": "waypost.server.watching.queue_events",
    "MessageDied": "waypost.server.watching.queue_events",
    "MessagesLost": "waypost.server.watching.queue_events",
    "DeadLetterFilter": "waypost.storage.queue_records",
    "HistoryItem": "waypost.storage.queue_records",
    "DirectWebSocket": "waypost.transports.uvicorn_inside",
}
"""Where each name is defined; those that are not in it, in `waypost.errors`."""

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


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted([*__all__, *_DOORS, *(name for name in globals() if name.startswith("__"))])
