"""The address of a PostgreSQL store: a URL of libpq's, with Waypost's own options among its parameters."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from waypost.errors import ConfigurationError

__all__ = ["EXPECTED_ADDRESS", "SCHEMES", "Address", "Listening", "parse_address"]

SCHEMES: Final = ("postgresql", "postgres")
"""The schemes of a URL that names a PostgreSQL store."""

EXPECTED_ADDRESS: Final = 'a URL: "postgresql://user@host:5432/database"'
"""What the text of a PostgreSQL store is, in words."""

Listening: TypeAlias = Literal["on", "poll"]
"""How a node hears of the writes of others: by LISTEN, or by asking again and again."""

_MOST_CONNECTIONS = 64
_OWN: Final = (
    "waypost_connections",
    "waypost_listen",
    "waypost_direct",
    "waypost_pooled",
    "waypost_node_address",
    "waypost_node_label",
    "waypost_lag_s",
)
_MOST_LAG_S = 3600
_LABEL: Final = re.compile("[a-z][a-z0-9-]{0,31}")
_SECRET: Final = frozenset({"password", "sslpassword", "direct"})


@dataclass(frozen=True, slots=True)
class Address:
    """Where a PostgreSQL store is, and how a node reaches it.

    Attributes:
        dsn: The URL for the driver: without Waypost's options, with the password.
        shown: The URL for people: without passwords.
        connections: The number of connections on which the node appends, from 1.
        listen: How the node hears of the writes of others.
        direct: The URL of connections that must reach the server itself, not a pooler: for LISTEN.
        pooled: Whether ``dsn`` is a pooler's that gives a connection away after each transaction.
        node_address: The ``host:port`` at which other nodes reach this one; "" lets the node choose.
        node_label: A name of the machine that session ids carry, for balancers; "" for none.
        lag_s: How many seconds the node may be behind what other nodes have written until it is not ready, and hands
            its queues' consumers to others.
    """

    dsn: str
    shown: str
    connections: int = 2
    listen: Listening = "on"
    direct: str = ""
    pooled: bool = False
    node_address: str = ""
    node_label: str = ""
    lag_s: float = 10.0

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"


def parse_address(url: str) -> Address:
    """Return the address that a URL names.

    Parameters of the URL that are Waypost's: ``waypost_connections`` (default 2), ``waypost_listen`` (``on``,
    ``poll``), ``waypost_direct`` (the URL that reaches the server itself where the other one is a pooler's in
    transaction mode), ``waypost_pooled`` (``yes``, ``no``), ``waypost_node_address``, ``waypost_node_label``
    (up to 32 small letters, digits and hyphens, the first a letter), and ``waypost_lag_s`` (default 10). All others
    are the driver's.

    Raises:
        ConfigurationError: The text is no such URL, or a parameter has a value that it does not accept.
    """
    try:
        split = urlsplit(url)
        parameters = parse_qsl(split.query, keep_blank_values=True, strict_parsing=bool(split.query))
        port = split.port
    except ValueError:
        # The text may hold a password.
        raise ConfigurationError("store", "postgresql:…", EXPECTED_ADDRESS) from None
    if split.scheme not in SCHEMES or not url.startswith(f"{split.scheme}://") or split.fragment or port == 0:
        raise ConfigurationError("store", f"{split.scheme}:…", EXPECTED_ADDRESS)
    own = {key: value for key, value in parameters if key.startswith("waypost_")}
    dsn = split._replace(query=urlencode([one for one in parameters if one[0] not in own], safe="/:"))
    listen = _one_of(own, "waypost_listen", "on", "poll")
    pooled = _one_of(own, "waypost_pooled", "no", "yes")
    address = Address(
        dsn.geturl(),
        _without_password(split, parameters),
        _number(own, "waypost_connections", 2, _MOST_CONNECTIONS),
        "poll" if listen == "poll" else "on",
        own.pop("waypost_direct", ""),
        pooled == "yes",
        own.pop("waypost_node_address", ""),
        _label(own),
        _number(own, "waypost_lag_s", 10, _MOST_LAG_S),
    )
    if own:
        name = next(iter(own))
        raise ConfigurationError("store", f"…?{name}=…", f"of Waypost's parameters only {', '.join(_OWN)}")
    return address


def _one_of(own: dict[str, str], name: str, default: str, other: str) -> str:
    value = own.pop(name, default)
    if value not in (default, other):
        raise ConfigurationError("store", f"…?{name}={value}", f"{default} or {other}")
    return value


def _label(own: dict[str, str]) -> str:
    label = own.pop("waypost_node_label", "")
    if label and not _LABEL.fullmatch(label):
        expected = "up to 32 small letters, digits and hyphens, the first a letter"
        raise ConfigurationError("store", f"…?waypost_node_label={label}", expected)
    return label


def _number(own: dict[str, str], name: str, default: int, most: int) -> int:
    value = own.pop(name, str(default))
    if not value.isascii() or not value.isdigit() or not 1 <= int(value) <= most:
        raise ConfigurationError("store", f"…?{name}={value}", f"1 to {most}")
    return int(value)


def _without_password(split: SplitResult, parameters: list[tuple[str, str]]) -> str:
    user, at, place = split.netloc.rpartition("@")
    if at:
        place = f"{quote(unquote(user.partition(':')[0]))}@{place}"
    shown = [(key, value) for key, value in parameters if key.removeprefix("waypost_") not in _SECRET]
    return split._replace(netloc=place, query=urlencode(shown, safe="/:")).geturl()
