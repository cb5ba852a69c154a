"""The client addresses of requests behind trusted proxies, and the limits for each address."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from waypost.errors import ConfigurationError
from waypost.server.basics.handshake import Handshake
from waypost.server.connections.site_counts import SiteCounts
from waypost.server.watching.hooks import ConnectionClosed, ConnectionOpened, Hooks, SocketConnected

__all__ = ["AddressLimits", "NetworkLimits", "TrustedProxies"]

_Address: TypeAlias = IPv4Address | IPv6Address
_UNIX = "unix"
"""What stands for the peers of unix sockets, which have no address."""

_REMEMBERED = 1024
"""The number of cached addresses. Each request parses its address several times, at 8 us each."""
_SITE_BITS = 64
"""The prefix of an IPv6 network that counts as one address: a provider gives each customer at least a /64."""


class TrustedProxies:
    """The proxies whose headers about a client's address and scheme are trusted.

    Args:
        trusted: Addresses or networks, such as ``"10.0.0.0/8"``; ``"unix"`` for what comes over a unix socket.

    Raises:
        ConfigurationError: An entry is none of these.
    """

    def __init__(self, trusted: Sequence[str]) -> None:
        self._trusts_unix = _UNIX in trusted
        try:
            self._networks = [ip_network(entry) for entry in trusted if entry != _UNIX]
        except ValueError as error:
            expected = 'addresses or networks like 10.0.0.0/8, or "unix"'
            raise ConfigurationError("trusted_proxies", trusted, expected) from error

    def address(self, peer: str, headers: Mapping[str, str]) -> str:
        """Return a client's address.

        Args:
            peer: The address of the TCP connection; ``""`` if the transport knows none.
            headers: The request's headers, with lower-case names.

        Returns:
            The right-most address of the forwarding chain that is not a trusted proxy. The entries left of it could
            be forged.
        """
        nearest = peer
        hops = self._way_back(peer, headers)
        if self._is_unix_proxy(peer):
            next(hops)
        for hop in hops:
            if hop is None:
                return nearest
            nearest = str(hop)
            if not self._trusts(hop):
                return nearest
        return nearest

    def trusts(self, address: str) -> bool:
        """Return whether an address is a trusted proxy's."""
        hop = _parse(address)
        return hop is not None and self._trusts(hop)

    def hides_client(self, peer: str, headers: Mapping[str, str]) -> bool:
        """Return whether a trusted proxy says where a request comes from, but not in a way that can be read."""
        nearest, *others = self._way_back(peer, headers)
        if nearest is None or not self._trusts(nearest):
            return False
        stranger = next((hop for hop in others if hop is None or not self._trusts(hop)), nearest)
        return stranger is None

    def is_secure(self, peer: str, headers: Mapping[str, str], scheme: str) -> bool:
        """Return whether a client used TLS, to this server or to a trusted proxy."""
        if not self._networks and not self._trusts_unix:
            return scheme in ("https", "wss")
        hop = _parse(peer)
        is_trusted = self._is_unix_proxy(peer) or (hop is not None and self._trusts(hop))
        if is_trusted and "x-forwarded-proto" in headers:
            return headers["x-forwarded-proto"].rpartition(",")[2].strip() in ("https", "wss")
        return scheme in ("https", "wss")

    def _is_unix_proxy(self, peer: str) -> bool:
        return self._trusts_unix and not peer

    def _way_back(self, peer: str, headers: Mapping[str, str]) -> Iterator[_Address | None]:
        yield _parse(peer)
        forwarded = headers.get("x-forwarded-for")
        if forwarded is not None:
            for entry in reversed(forwarded.split(",")):
                yield _parse(entry.strip())

    def _trusts(self, address: _Address) -> bool:
        return any(address in network for network in self._networks)


class AddressLimits:
    """Counts the connections of each address, and limits them.

    Loopback addresses are not counted: they belong to a proxy on this machine, or to its owner. A connection counts
    until nothing is left of it; one that is being closed still holds memory. Those of other servers of a cluster
    count approximately; see `SiteCounts`.

    Args:
        max_connections: The most connections of one address, from 1.
        max_handshakes: The most of them that have not joined a namespace yet, from 1.
        hooks: The hooks that report connections.

    Attributes:
        open: The connections of each address.
        half_open: Those of them that have not joined a namespace yet.
    """

    def __init__(self, max_connections: int, max_handshakes: int, hooks: Hooks) -> None:
        self._sites: dict[int, str] = {}
        self._handshaking: set[int] = set()
        self.open = SiteCounts(max_connections)
        self.half_open = SiteCounts(max_handshakes)
        hooks.connection_opened(self._count)
        hooks.connection_closed(self._count_closed)
        hooks.socket_connected(self._count_joined)

    def allows(self, handshake: Handshake) -> bool:
        """Return whether one more connection may be opened from where a handshake comes from."""
        site = counted_address(handshake)
        if site is None:
            return True
        return self.open.has_room(site) and self.half_open.has_room(site)

    def _count(self, opened: ConnectionOpened) -> None:
        site = counted_address(opened.handshake)
        if site is not None:
            self._sites[opened.connection] = site
            self._handshaking.add(opened.connection)
            self.open.add(site)
            self.half_open.add(site)

    def _count_joined(self, connected: SocketConnected) -> None:
        self._end_handshake(connected.connection)

    def _count_closed(self, closed: ConnectionClosed) -> None:
        self._end_handshake(closed.connection)

    def _end_handshake(self, connection: int) -> None:
        if connection in self._handshaking:
            self._handshaking.discard(connection)
            self.half_open.remove(self._sites[connection])

    def forget(self, connection: int) -> None:
        """Count a connection no more: nothing is left of it.

        Args:
            connection: Its number.
        """
        self._end_handshake(connection)
        site = self._sites.pop(connection, None)
        if site is not None:
            self.open.remove(site)


class NetworkLimits:
    """Counts the network connections that carry HTTP, by the address they come from, and limits them.

    Each counts, whatever is asked over it, unless it comes from loopback or a trusted proxy, who serve many clients.

    Args:
        max_connections: The most connections of one address, from 1.
        proxies: The trusted proxies.

    Attributes:
        open: The network connections of each address.
    """

    def __init__(self, max_connections: int, proxies: TrustedProxies) -> None:
        self._proxies = proxies
        self.open = SiteCounts(max_connections)

    def enter(self, address: str) -> bool:
        """Count one more connection; False if there are enough. Call `leave` for each that was counted."""
        site = self._site(address)
        if site is None:
            return True
        if not self.open.has_room(site):
            return False
        self.open.add(site)
        return True

    def leave(self, address: str) -> None:
        """Count a connection no more: it is closed, or has become a WebSocket, which counts by its session."""
        site = self._site(address)
        if site is not None:
            self.open.remove(site)

    def _site(self, address: str) -> str | None:
        return None if self._proxies.trusts(address) else _site(address)


@lru_cache(_REMEMBERED)
def _parse(text: str) -> _Address | None:
    """Parse an address from a header; a port is removed."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def counted_address(handshake: Handshake) -> str | None:
    """Return the address or IPv6 network that limits count a client for; ``None`` for an uncounted client."""
    return handshake.counted_for or _site(handshake.address)


@lru_cache(_REMEMBERED)
def _site(text: str) -> str | None:
    address = _parse(text)
    if address is None or address.is_loopback:
        return None
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, _SITE_BITS), strict=False))
    return str(address)
