"""Publishing: append in the caller's transaction, wake on commit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connections, transaction
from django.utils import timezone

from . import history
from .conf import get_config
from .database import alias
from .exceptions import InvalidChannel, InvalidEvent
from .history import ChannelState, NewEvent
from .measures import measures
from .protocol.cursor import format_cursor
from .protocol.event import END, StoredEvent, check_data, check_event, check_key
from .protocol.names import check_channel, is_own
from .wake import wake

__all__ = [
    "Draft",
    "acursor",
    "afinish",
    "apublish",
    "apublish_many",
    "cursor",
    "finish",
    "prepare",
    "publish",
    "publish_many",
    "store",
]


@dataclass(frozen=True, slots=True)
class Draft:
    """An event to publish with :func:`publish_many`; *channel* None is the call's own."""

    data: Any
    event: str = "message"
    key: str | None = None
    ends_burst: bool = False
    channel: str | None = None


def publish(
    channel: str, data: Any, *, event: str = "message", key: str | None = None, ends_burst: bool = False
) -> StoredEvent:
    """Store an event in the caller's transaction and wake its readers after the commit.

    *data*: a str as it is, anything else as compact JSON. *key*: published once on this channel; a
    second call returns the first event. *ends_burst*: streams that send it close right after it.
    Until the commit the returned id is provisional. The channel's row is locked until then: other
    publishers to it wait, so publish late, and several channels with :func:`publish_many` or in one
    fixed order of names.

    Raises :exc:`InvalidChannel`, :exc:`InvalidEvent`, :exc:`EventTooLarge` and
    :exc:`ChannelFinished`, each before anything is stored, and the database's own errors as Django
    raises them (a deadlock, a timeout, a lost connection): then nothing of the call is stored, but
    for a commit that was not answered, which may have been done. With a *key* it is safe to retry.
    """
    return publish_many(channel, [Draft(data, event=event, key=key, ends_burst=ends_burst)])[0]


def publish_many(channel: str, items: Iterable[Any]) -> list[StoredEvent]:
    """Store several events, all or none, in one transaction; return them in the order given.

    Each item is data or a :class:`Draft`, which may name another channel. Channels are locked in
    the order of their names, so calls on the same channels cannot deadlock each other. Several calls
    in one transaction can, like several of :func:`publish`. Raises as that does.
    """
    return store([prepare(channel, item) for item in items])


def finish(channel: str, data: Any = None) -> StoredEvent:
    """End the channel: store ``end`` as its last event. A second call returns the first's event.

    Readers get ``end`` with *data* (``{}`` if None) and then 204, which stops an EventSource.
    """
    return store([prepare_end(channel, data)])[0]


def cursor(channel: str, *others: str) -> str:
    """Return the id of "now": a stream that starts from it misses nothing published after this call.

    With several channels, the cursor of one stream of all of them. A finished channel's is just before
    its ``end``, so that a page that is rendered late is told as well.
    """
    names = list(dict.fromkeys(check_channel(name) for name in (channel, *others)))
    positions = [(name, history.head(name).from_now) for name in names]
    return format_cursor(positions) if others else str(positions[0][1])


apublish = sync_to_async(publish)
apublish_many = sync_to_async(publish_many)
afinish = sync_to_async(finish)
acursor = sync_to_async(cursor)


def prepare(channel: str, item: Any) -> NewEvent:
    """Return *item* checked and encoded, or raise what is wrong with it. Stores nothing."""
    draft = item if isinstance(item, Draft) else Draft(item)
    name = check_channel(draft.channel if draft.channel is not None else channel)
    if is_own(name):
        raise InvalidChannel(f"Channels named sse_polling.* are the app's own; got {name!r}.")
    return NewEvent(
        channel=name,
        event=check_event(draft.event),
        data=_text(draft.data),
        key=check_key(draft.key),
        ends_burst=bool(draft.ends_burst),
    )


def prepare_end(channel: str, data: Any = None) -> NewEvent:
    """Return the ``end`` of *channel*, checked and encoded."""
    checked = prepare(channel, {} if data is None else data)
    return NewEvent(channel=checked.channel, event=END, data=checked.data)


def store(events: list[NewEvent]) -> list[StoredEvent]:
    """Append *events* in the caller's transaction and wake on its commit."""
    if not events:
        return []
    using = alias()
    if not (connections[using].in_atomic_block or connections[using].get_autocommit()):
        # Django has no hook on such a commit, and says so only once the events are stored.
        raise transaction.TransactionManagementError("Publish in autocommit mode or inside atomic().")
    began = timezone.now()
    stored, grown = history.append(events, using=using)
    if grown:
        # A key that was known already has brought an event of an earlier call.
        fresh = {(each.channel, each.sequence) for each in stored if each.created and each.created >= began}
        transaction.on_commit(partial(_committed, grown, len(fresh)), using=using)
    return stored


def _committed(grown: Sequence[ChannelState], count: int) -> None:
    measures.published += count
    wake(grown)


def _text(data: Any) -> str:
    if isinstance(data, str):
        text = data
    else:
        try:
            text = json.dumps(
                data, cls=DjangoJSONEncoder, ensure_ascii=False, separators=(",", ":"), allow_nan=False
            )
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidEvent(
                f"An event's data is a str or JSON-serialisable; {type(data).__name__} is not: {error}"
            ) from None
    return check_data(text, max_bytes=get_config().max_event_bytes)
