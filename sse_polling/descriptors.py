"""The kernel's part of a socket: its options, what its peer has had, and which descriptor it is."""

from __future__ import annotations

import fcntl
import math
import os
import socket
import stat
import struct
import time
from contextlib import suppress
from typing import Any

__all__ = ["RESET", "Descriptors", "acked", "descriptors", "probe", "set_option"]

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with an RST, and keep nothing in the kernel

_ACKED = slice(120, 128)  # tcpi_bytes_acked in Linux's struct tcp_info
_UNSENT = 0x5411  # SIOCOUTQ
_SCAN_SECONDS = 1.0


class Descriptors:
    """The process's TCP sockets by their two ends. Looked through again at most once a second."""

    def __init__(self) -> None:
        self._found: dict[tuple[Any, Any], int] = {}
        self._seen: dict[int, int] = {}  # by number, the socket's inode
        self._due = 0.0

    def find(self, ends: tuple[Any, Any]) -> socket.socket | None:
        """Return a duplicate of the socket between *ends*; the caller closes it."""
        found = self._open(ends)
        if found is None and time.monotonic() >= self._due:
            self._scan()
            found = self._open(ends)
        return found

    def _open(self, ends: tuple[Any, Any]) -> socket.socket | None:
        number = self._found.get(ends)
        found = None if number is None else _duplicate(number)
        if found is not None and _ends(found) != ends:  # the number is another's by now
            found.close()
            found = None
        return found

    def _scan(self) -> None:
        self._due = time.monotonic() + _SCAN_SECONDS
        seen, found = {}, {}
        by_number = {number: ends for ends, number in self._found.items()}
        with suppress(OSError):  # no /proc
            for number in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 - names only
                try:
                    status = os.fstat(number)
                except OSError:
                    continue  # closed since it was listed
                if not stat.S_ISSOCK(status.st_mode):
                    continue
                ends = by_number.get(number) if self._seen.get(number) == status.st_ino else None
                if ends is None and (raw := _duplicate(number)) is not None:
                    with raw:
                        ends = _ends(raw)
                seen[number] = status.st_ino
                if ends is not None:
                    found[ends] = number
        self._seen, self._found = seen, found


descriptors = Descriptors()


def _duplicate(number: int) -> socket.socket | None:
    try:
        own = os.dup(number)
    except OSError:
        return None
    try:
        return socket.socket(fileno=own)
    except OSError:
        os.close(own)
        return None


def _ends(raw: socket.socket) -> tuple[Any, Any] | None:
    try:
        return tuple(raw.getpeername()[:2]), tuple(raw.getsockname()[:2])
    except OSError:
        return None


def acked(raw: Any) -> int | None:
    with suppress(OSError, AttributeError, struct.error):  # no TCP, closed, another system
        if struct.unpack("i", fcntl.ioctl(raw.fileno(), _UNSENT, bytes(4)))[0]:
            info = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKED.stop)
            return int(struct.unpack("Q", info[_ACKED])[0])
    return None


def probe(raw: Any, seconds: float) -> None:
    whole = max(1, round(seconds))
    set_option(raw, socket.SOL_SOCKET, "SO_KEEPALIVE", 1)
    set_option(raw, socket.IPPROTO_TCP, "TCP_KEEPIDLE", whole)
    set_option(raw, socket.IPPROTO_TCP, "TCP_KEEPINTVL", max(1, whole // 3))
    set_option(raw, socket.IPPROTO_TCP, "TCP_KEEPCNT", 3)
    # Milliseconds, for bytes that are not acknowledged and for a window that stays shut.
    set_option(raw, socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", max(1000, math.ceil(seconds * 1000)))


def set_option(raw: Any, level: int, name: str, value: int | bytes) -> None:
    option = getattr(socket, name, None)
    if option is not None:
        with suppress(OSError, AttributeError):  # no TCP, closed, another system
            raw.setsockopt(level, option, value)
