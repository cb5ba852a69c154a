"""The public surface: what `import waypost` offers, and that it costs nothing until it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import waypost


def test_public_names() -> None:
    assert set(waypost.__all__) == {
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
        "HandlerFailure",
        "FetchedSockets",
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
        "Parser",
        "ParentNamespace",
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
    }
    for name in waypost.__all__:
        assert getattr(waypost, name).__doc__


def test_a_name_of_0_1_warns_and_works() -> None:
    with pytest.warns(DeprecationWarning, match="EventRefused"):
        assert waypost.EventRejected is waypost.EventRefused


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Srever"):
        waypost.Srever  # noqa: B018


def test_client_does_not_load_the_server() -> None:
    script = "import sys, waypost; waypost.Client; print([m for m in sys.modules if m.startswith('waypost.server')])"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_modules_are_there_without_being_imported() -> None:
    program = "import waypost; print(waypost.sync.Client.__name__, waypost.testing.serve.__name__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "Client serve\n"
