"""Channel names: what is one, and who may publish to it."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

from ..exceptions import InvalidChannel

__all__ = ["OWN_PREFIX", "RESERVED_NAMES", "channel_hash", "check_channel", "is_own"]

MAX_LENGTH = 200
RESERVED_NAMES = frozenset({"ack", "metrics", "poll", "ready", "ws"})
OWN_PREFIX = "sse_polling."
_NAME = re.compile(rf"[A-Za-z0-9_.:~-]{{1,{MAX_LENGTH}}}")


def check_channel(name: object) -> str:
    """Return *name* if it is a channel name.

    1 to 200 ASCII letters, digits and ``_ . : ~ -``, not only dots, and none of the
    words that addresses use. Raises :exc:`InvalidChannel`.
    """
    if not isinstance(name, str):
        raise InvalidChannel(f"A channel name is a str; got {type(name).__name__}.")
    if not _NAME.fullmatch(name) or not name.strip("."):
        raise InvalidChannel(
            f"Not a channel name: {_short(name)}. Expected 1 to {MAX_LENGTH} ASCII letters, digits "
            "or _ . : ~ - and not only dots."
        )
    if name in RESERVED_NAMES:
        raise InvalidChannel(f"The channel name {name!r} is taken by an address of the app; choose another.")
    return name


def is_own(name: str) -> bool:
    """Tell whether *name* is one of the app's own channels (``sse_polling.*``)."""
    return name.startswith(OWN_PREFIX)


@lru_cache(maxsize=4096)
def channel_hash(name: str) -> str:
    """Return 12 hex digits that stand for *name* in cursors and group names."""
    return hashlib.blake2b(name.encode(), digest_size=6).hexdigest()


def _short(text: str) -> str:
    return ascii(text if len(text) <= 60 else text[:60] + "…")
