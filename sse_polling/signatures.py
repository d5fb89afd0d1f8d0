"""Signed addresses: who has one may read the channels that it names for a while, without an account."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from django.core import signing
from django.urls import reverse

from .protocol.cursor import MAX_CHANNELS
from .protocol.names import check_channel, is_own

__all__ = ["PARAMETER", "Signature", "read_signature", "signed_url"]

PARAMETER = "signature"
SALT = "sse_polling.access.signed"
MAX_CHARACTERS = 6_144  # of a signature: ten channels of 200 characters, a subject of 200 emoji, and base64
MAX_SUBJECT = 200


@dataclass(frozen=True, slots=True)
class Signature:
    """What a signed address allows. *subject*: whom it was made for, as a name to count streams by."""

    channels: tuple[str, ...]
    subject: str | None


def read_signature(text: str | None) -> Signature | None:
    """Return what *text* allows now; None if it is none of ours, was changed, or has expired.

    Keys of ``SECRET_KEY_FALLBACKS`` hold as well.
    """
    if not text or len(text) > MAX_CHARACTERS:
        return None
    try:
        channels, expires, subject = signing.loads(text, salt=SALT)
        return Signature(tuple(channels), subject) if time.time() < expires else None
    except (signing.BadSignature, ValueError, TypeError):
        return None


def signed_url(
    channel: str,
    *others: str,
    max_age: float,
    subject: str | None = None,
    since: str | None = None,
    poll: bool = False,
    now: float | None = None,
) -> str:
    """Return an address that reads these channels for *max_age* seconds, from the site's root.

    It needs ``AUTHORIZE`` to be :func:`sse_polling.access.signed` for each of them. *subject*: whom it is
    for, at most 200 characters; a subject's streams are counted together (``PER_CLIENT``). *since*: a
    cursor, or ``earliest``; from the connect on without one. *poll*: the long-poll's address. It asks for
    polite refusals, as an ``EventSource`` must.

    Whoever has it may read until it expires, an open stream until its burst is over after that: up to
    ``AUTH_CACHE_SECONDS`` and ``BURST["max_seconds"]``. Then the answer is 403, at which an ``EventSource``
    stops for good. Raises :exc:`InvalidChannel` and ``ValueError``.
    """
    names = tuple(dict.fromkeys(check_channel(name) for name in (channel, *others)))
    own = next((name for name in names if is_own(name)), None)
    if own is not None:
        raise ValueError(f"{own} is the app's own, and for staff: no address can be signed for it.")
    if len(names) > MAX_CHANNELS:
        raise ValueError(f"An address is for 1 to {MAX_CHANNELS} channels; got {len(names)}.")
    if not 0 < max_age < math.inf:
        raise ValueError(f"max_age is a number of seconds above 0; got {max_age!r}.")
    if subject is not None and not 1 <= len(subject) <= MAX_SUBJECT:
        raise ValueError(f"A subject has 1 to {MAX_SUBJECT} characters; got {len(subject)}.")
    expires = (time.time() if now is None else now) + max_age
    signature = signing.dumps([list(names), round(expires, 3), subject], salt=SALT)
    query = [("busy", "stream")] * (not poll) + [(PARAMETER, signature)]
    if since is not None:
        query.append(("last_event_id", since))
    return f"{_address(names, poll=poll)}{urlencode([*_named(names), *query])}"


def _address(names: Sequence[str], *, poll: bool) -> str:
    if len(names) == 1:
        return reverse(f"sse_polling:{'poll' if poll else 'stream'}", args=names) + "?"
    return reverse(f"sse_polling:{'polls' if poll else 'streams'}") + "?"


def _named(names: Sequence[str]) -> list[tuple[str, str]]:
    return [("channel", name) for name in names] if len(names) > 1 else []
