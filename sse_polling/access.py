"""Who may read a channel."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from asgiref.sync import iscoroutinefunction
from channels.db import database_sync_to_async
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.utils.module_loading import import_string

from .conf import Config, Effective
from .database import ANSWER_SECONDS
from .identity import client_key
from .protocol.names import is_own
from .signatures import PARAMETER, read_signature, signed_url
from .users import Nobody

__all__ = [
    "AccessRequest",
    "Visitor",
    "authenticated",
    "authorize",
    "public",
    "signed",
    "signed_url",
    "staff",
]

CACHE_SIZE = 10_000
# What a client changes from one poll to the next without becoming another.
VOLATILE_HEADERS = frozenset({"last-event-id", "sec-websocket-key"})
VOLATILE_PARAMETERS = frozenset({"last_event_id", "channel"})  # the channels are told with their rules


class AccessRequest(Protocol):
    """What an ``AUTHORIZE`` callable is given, at every door.

    *address* is the client's own, behind ``TRUSTED_PROXIES``; None if there is none.
    """

    user: Any
    GET: Any
    scope: Mapping[str, Any]

    @property
    def headers(self) -> Mapping[str, str]:
        """Ignores the case of names."""

    address: str | None


async def public(request: AccessRequest, channel: str) -> bool:
    """Let everybody read every channel."""
    return True


async def authenticated(request: AccessRequest, channel: str) -> bool:
    """Let every logged-in user read every channel: any customer reads any other's."""
    return bool(request.user.is_authenticated and request.user.is_active)


async def staff(request: AccessRequest, channel: str) -> bool:
    """Let staff read every channel."""
    return bool(request.user.is_active and request.user.is_staff)


async def signed(request: AccessRequest, channel: str) -> bool:
    """Let whoever has a signed address (:func:`signed_url`) read the channels that it names for its time.

    No user is loaded and no query made for it.
    """
    signature = read_signature(request.GET.get(PARAMETER))
    return signature is not None and channel in signature.channels


signed.needs_user = False  # type: ignore[attr-defined]  # a mark for _ask


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks, as far as the app needs to know.

    *user* is the primary key as text, None for nobody; *key* the name that the client's streams are
    counted by, None if they are not.
    """

    user: str | None
    key: str | None = None


class _Cache:
    """Answers that were yes, for a few seconds, at most 10,000."""

    def __init__(self) -> None:
        self._answers: OrderedDict[bytes, tuple[float, Visitor]] = OrderedDict()

    def get(self, key: bytes, now: float) -> Visitor | None:
        found = self._answers.get(key)
        if found is None or found[0] <= now:
            self._answers.pop(key, None)
            return None
        return found[1]

    def put(self, key: bytes, until: float, visitor: Visitor) -> None:
        self._answers[key] = (until, visitor)
        self._answers.move_to_end(key)
        while len(self._answers) > CACHE_SIZE:
            self._answers.popitem(last=False)

    def clear(self) -> None:
        self._answers.clear()


cache = _Cache()


async def authorize(
    request: AccessRequest,
    channels: Iterable[str],
    *,
    address: str | None,
    door: str,
    headers: Mapping[str, str],
    effective: Callable[[str], Effective],
    config: Config,
    load_user: Callable[[], Awaitable[Any]],
    asking: AbstractContextManager[Any],
) -> Visitor | None:
    """Return the visitor if they may read each of *channels*, else None.

    A yes is remembered for ``AUTH_CACHE_SECONDS`` for requests at the same door that are alike in
    every header and parameter, in scheme and address, but for the cursor. Then neither the user nor
    ``AUTHORIZE`` is asked, nor who the client is. *address* is the client's own, *headers* the request's
    by their names in lower case. *asking* is entered while somebody is asked. Raises ``TimeoutError`` when
    whoever is asked does not answer.
    """
    asked = [(name, effective(name).authorize) for name in channels]
    lasting = config.auth_cache_seconds
    key = _fingerprint(request, address, door, headers, asked, config) if lasting else b""
    now = time.monotonic()
    if lasting and (known := cache.get(key, now)) is not None:
        return known
    with asking:
        async with asyncio.timeout(ANSWER_SECONDS):
            visitor = await _ask(request, asked, address=address, config=config, load_user=load_user)
    if visitor is not None and lasting:
        cache.put(key, now + lasting, visitor)
    return visitor


async def _ask(
    request: AccessRequest,
    asked: Iterable[tuple[str, str | Callable[..., Any]]],
    *,
    address: str | None,
    config: Config,
    load_user: Callable[[], Awaitable[Any]],
) -> Visitor | None:
    asked = list(asked)
    # A signed address says itself who asks.
    named = any(is_own(name) or _needs_user(rule) for name, rule in asked)
    user = await load_user() if named else Nobody()
    request.user = user
    who = str(user.pk) if user.is_authenticated else None
    try:
        for name, rule in asked:
            if is_own(name):
                allowed = user.is_active and user.is_staff  # whatever the rule says
            else:
                allowed = await _call(rule, request, name)
            if not allowed:
                return None
        return Visitor(who, key=await _key(who, request, address, config))
    except (PermissionDenied, Http404):
        return None  # as a view would say it


async def _key(user: str | None, request: AccessRequest, address: str | None, config: Config) -> str | None:
    """Return the name that the client's streams are counted by, None if they are not."""
    rule = config.per_client.key
    if rule is not None:
        named = await _call(rule, request)
        return None if named is None else str(named)
    signature = read_signature(request.GET.get(PARAMETER))
    subject = signature.subject if signature is not None else None
    # Without proxies to trust, the address may be that of one, and so everybody's.
    return client_key(user=user, subject=subject, address=address if config.trusted_proxies else None)


async def _call(rule: str | Callable[..., Any], *arguments: Any) -> Any:
    """Call what a setting names, in a thread with a database connection unless it is a coroutine function."""
    function = _imported(rule) if isinstance(rule, str) else rule
    if iscoroutinefunction(function) or iscoroutinefunction(type(function).__call__):
        return await function(*arguments)
    answer = await database_sync_to_async(function)(*arguments)
    return await answer if inspect.isawaitable(answer) else answer


@lru_cache(maxsize=256)
def _imported(path: str) -> Callable[..., Any]:
    return import_string(path)  # type: ignore[no-any-return]


def _needs_user(rule: str | Callable[..., Any]) -> bool:
    return getattr(_imported(rule) if isinstance(rule, str) else rule, "needs_user", True)


def _fingerprint(
    request: AccessRequest,
    address: str | None,
    door: str,
    headers: Mapping[str, str],
    asked: Iterable[tuple[str, str | Callable[..., Any]]],
    config: Config,
) -> bytes:
    scope = request.scope
    rules = [*asked, ("", config.per_client.key)]
    told = (
        address,
        door,
        scope.get("scheme"),
        scope.get("root_path"),
        [(name, rule if isinstance(rule, str) else id(rule)) for name, rule in rules],
        sorted(header for header in headers.items() if header[0] not in VOLATILE_HEADERS),
        sorted(given for given in request.GET.lists() if given[0] not in VOLATILE_PARAMETERS),
    )
    # Every text in it is quoted and escaped: what differs is written differently.
    return hashlib.blake2b(repr(told).encode(), digest_size=16).digest()
