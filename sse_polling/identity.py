"""Who a client is, where each may hold only so many sockets: a name to count its streams by.

The site's own proxies are believed, and nothing that a client says of itself.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

__all__ = ["UNIX", "Bursts", "Proxies", "client_key"]

UNIX = "unix:"  # a peer at the other end of a Unix socket has no address; nginx writes it so, too
GROUP_BITS = 64  # what one IPv6 customer has at the least (RFC 6177): each may take another address of it
MAX_HOPS = 32  # a longer chain is no chain of proxies

_Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Proxies:
    """The peers whose ``X-Forwarded-For`` is believed. *unix*: those at a Unix socket as well."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    unix: bool = False

    @classmethod
    def parse(cls, given: Iterable[str]) -> Proxies:
        """Return the proxies that *given* names: addresses, networks, ``unix:``. Raises ``ValueError``."""
        named = tuple(given)
        return cls(tuple(_network(each) for each in named if each != UNIX), UNIX in named)

    def __bool__(self) -> bool:
        return self.unix or bool(self.networks)

    def client_address(self, peer: str | None, forwarded: str | None) -> str | None:
        """Return the address of the client behind *peer*, None if there is none.

        *forwarded* is ``X-Forwarded-For``, to which each proxy appends whom it serves: it is read from
        its right end on, for as long as the one who wrote is trusted. What cannot be read ends the walk
        at the last address that could. ``Forwarded`` (RFC 7239) is not read: a proxy that does not know
        it passes a client's own on.
        """
        if not self:
            return peer
        hop = _read(peer or UNIX)
        known = peer if hop is None else _text(hop)
        for entry in reversed((forwarded or "").split(",")[-MAX_HOPS:]):
            if hop is None or not self._trusts(hop):
                break
            hop = _read(entry.strip())
            known = _text(hop) or known
        return known

    def _trusts(self, hop: _Address | str) -> bool:
        if isinstance(hop, str):
            return self.unix
        return any(hop in network for network in self.networks)


def client_key(*, user: str | None, subject: str | None, address: str | None) -> str | None:
    """Return the name that a client's streams are counted by, None if nothing tells it from others.

    *address* is given only where it is known to be the client's own. IPv6 addresses count as their /64.
    """
    if user is not None:
        return f"user:{user}"
    if subject is not None:
        return f"subject:{subject}"
    found = _read(address or UNIX)
    if isinstance(found, IPv6Address):
        return f"address:{IPv6Network((int(found), GROUP_BITS), strict=False)}"
    return None if found is None or isinstance(found, str) else f"address:{found}"


def _network(text: object) -> IPv4Network | IPv6Network:
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is no text")  # ip_network(5) is a network
    network = ip_network(text)
    if isinstance(network, IPv6Network) and (mapped := network.network_address.ipv4_mapped) is not None:
        return IPv4Network((int(mapped), max(0, network.prefixlen - 96)))
    return network


def _read(text: str) -> _Address | str | None:
    """Return an address, :data:`UNIX`, or None for what is neither. Some proxies add the port."""
    if text.startswith(UNIX):
        return UNIX
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _text(hop: _Address | str | None) -> str | None:
    return None if hop is None or isinstance(hop, str) else str(hop)


class Bursts:
    """How many bursts each of the last *most* clients has had, by the name that it gave itself."""

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._counts: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def next(self, client: str) -> int:
        """Return the how manieth burst of *client* begins now."""
        with self._lock:
            count = self._counts[client] = self._counts.pop(client, 0) + 1
            if len(self._counts) > self._most:
                self._counts.popitem(last=False)
        return count
