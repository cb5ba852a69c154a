"""The first frames of a connection between two nodes: each side proves that it knows the engine's secret.

The node that was dialed sends a `Challenge`, the dialing one answers with a `Hello`, and the dialed one ends with a
`Welcome` or a `Refused`. A proof covers both sides' random numbers and all that its frame says, so it is of no use on
another connection. Until both are proven a side says nothing of itself, and takes only a few small frames.

The bytes after that are neither encrypted nor signed: the network between nodes must be the service's own.
"""

from __future__ import annotations

import hmac
import secrets
from typing import Final, TypeAlias

import msgspec

from waypost.storage.wire.frames import encode
from waypost.version import __version__

__all__ = [
    "CONNECTION",
    "GREETINGS",
    "GREETING_BYTES",
    "MESSAGES",
    "OVER",
    "PROTOCOL",
    "Challenge",
    "Greeting",
    "Hello",
    "Refused",
    "Strangers",
    "Welcome",
    "answer_challenge",
    "check_hello",
    "check_welcome",
    "make_challenge",
    "make_welcome",
]

PROTOCOL: Final = 1
"""The version of what nodes say to each other. Two nodes talk if theirs is the same."""

GREETING_BYTES: Final = 2048
"""The most bytes that a stranger may send."""

MESSAGES: Final = "messages"
"""As the purpose of a connection: the dialing node's messages."""

CONNECTION: Final = "connection"
"""As the purpose of a connection: one client's connection, forwarded."""

OVER: Final = -1
"""As the number of a `Welcome`: the dialing node was dead for the other one, so its stream is over."""

_NONCE_BYTES = 24


class Strangers(Exception):
    """The other side has not proven that it is the node it should be."""


class Challenge(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """Asks for a proof.

    Attributes:
        protocol: The version of what the dialed node says.
        nonce: A random number that was never used before.
    """

    protocol: int
    nonce: bytes


class Hello(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """Says who dials, and why.

    Attributes:
        protocol: The version of what the dialing node says.
        version: Its version of Waypost.
        name: Its name.
        receiver: The name of the node it means to reach: an address may be another one's by now.
        purpose: `MESSAGES` or `CONNECTION`.
        stream: The name of the stream of messages, which goes on over several connections.
        nonce: A random number that was never used before.
        proof: Proves all this.
    """

    protocol: int
    version: str
    name: str
    receiver: str
    purpose: str
    stream: str
    nonce: bytes
    proof: bytes


class Welcome(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """Ends the handshake.

    Attributes:
        received: The number of the last message of the stream that has come; 0 for none, `OVER` if no more may.
        proof: Proves that it is the node that was meant.
    """

    received: int
    proof: bytes


class Refused(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """Says to a node that is proven why it is not welcome.

    Attributes:
        problem: Why, in words.
    """

    problem: str


Greeting: TypeAlias = Challenge | Hello | Welcome | Refused

GREETINGS: Final = msgspec.msgpack.Decoder(list[Greeting])
"""Decodes a frame of the handshake."""


def make_challenge() -> Challenge:
    """Return a new challenge."""
    return Challenge(PROTOCOL, secrets.token_bytes(_NONCE_BYTES))


def answer_challenge(
    challenge: Challenge, secret: bytes, name: str, receiver: str, purpose: str, stream: str
) -> Hello:
    """Return the answer of the node that dials.

    Raises:
        Strangers: The other side is of another version, or no node.
    """
    if challenge.protocol != PROTOCOL:
        raise Strangers(f"it speaks version {challenge.protocol} of the nodes' protocol, expected {PROTOCOL}")
    _check_nonce(challenge.nonce)
    nonce = secrets.token_bytes(_NONCE_BYTES)
    hello = Hello(PROTOCOL, __version__, name, receiver, purpose, stream, nonce, b"")
    return msgspec.structs.replace(hello, proof=_proof(secret, "hello", challenge, hello))


def check_hello(hello: Hello, challenge: Challenge, secret: bytes) -> None:
    """Check the proof of a node that dials.

    Raises:
        Strangers: It does not know the secret.
    """
    _check_nonce(hello.nonce)
    unproven = msgspec.structs.replace(hello, proof=b"")
    if not hmac.compare_digest(hello.proof, _proof(secret, "hello", challenge, unproven)):
        raise Strangers("it does not know the secret of this store's nodes")


def make_welcome(hello: Hello, challenge: Challenge, secret: bytes, received: int) -> Welcome:
    """Return the end of a handshake with a node that has proven itself."""
    return Welcome(received, _proof(secret, "welcome", challenge, hello, received))


def check_welcome(welcome: Welcome, hello: Hello, challenge: Challenge, secret: bytes) -> None:
    """Check the proof of the node that was dialed.

    Raises:
        Strangers: It does not know the secret.
    """
    if not hmac.compare_digest(welcome.proof, _proof(secret, "welcome", challenge, hello, welcome.received)):
        raise Strangers("it does not know the secret of this store's nodes")


def _check_nonce(nonce: bytes) -> None:
    if len(nonce) != _NONCE_BYTES:
        raise Strangers(f"its random number has {len(nonce)} bytes, expected {_NONCE_BYTES}")


def _proof(secret: bytes, *parts: object) -> bytes:
    # The first part names the frame, so that no proof passes for one of the other side.
    return hmac.digest(secret, encode(parts), "sha256")
