"""Sockets: those that processes list, filtered, searched, sorted, a page at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..nodes.listing import SocketView
from ..nodes.reading import Fleet, NodeView

__all__ = ["COLUMNS", "DOORS", "STATES", "SocketPage", "Wishes", "door_label", "select", "socket_state"]

PAGE = 100
MOST_TYPED = 200  # characters of a filter
MOST_USERS = 100  # whose names match a search
MOST_SUGGESTED = 50

STATES: Mapping[str, Any] = {
    "open": _("open"),
    "leaving": _("asked to leave"),
    "asked": _("its goodbye is waited for"),
    "flushing": _("over, not yet read to its end"),
}
DOORS: Mapping[str, Any] = {"view": _("view"), "mount": _("mount"), "websocket": _("WebSocket")}

Listed = tuple[NodeView, SocketView]
# By its name in the address: the heading, and what it sorts by.
COLUMNS: Mapping[str, tuple[Any, Callable[[Listed], Any]]] = {
    "behind": (_("Behind"), lambda row: row[1].behind),
    "channel": (_("Channel"), lambda row: row[1].channels),
    "node": (_("Node"), lambda row: row[0].name),
    "age": (_("Open for"), lambda row: row[1].age),
    "events": (_("Events"), lambda row: row[1].events),
    "bytes": (_("Bytes"), lambda row: row[1].bytes),
    "bursts": (_("Bursts"), lambda row: row[1].bursts if isinstance(row[1].bursts, int) else -1),
}
DEFAULT_ORDER = "-behind"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the address asks for. *order*: a column, with a minus for the largest first."""

    node: int | None = None
    channel: str = ""
    state: str = ""
    door: str = ""
    search: str = ""
    order: str = DEFAULT_ORDER
    page: int = 1

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Wishes:
        """Return what can be understood of a query string; the rest is as if it were not there."""

        def text(name: str) -> str:
            return query.get(name, "").strip()[:MOST_TYPED].replace("\0", "")

        order = text("o")
        return cls(
            node=_whole(text("node")),
            channel=text("channel"),
            state=text("state"),
            door=text("door"),
            search=text("q"),
            order=order if order.removeprefix("-") in COLUMNS else DEFAULT_ORDER,
            page=_whole(text("p")) or 1,
        )

    def query(self, **changes: Any) -> str:
        """Return the query string for these wishes with *changes*; another page only if it is one of them."""
        new = replace(self, **{"page": 1, **changes})
        pairs = {
            "node": new.node,
            "channel": new.channel,
            "state": new.state,
            "door": new.door,
            "q": new.search,
            "o": new.order if new.order != DEFAULT_ORDER else "",
            "p": new.page if new.page > 1 else "",
        }
        return "?" + urlencode({name: value for name, value in pairs.items() if value})

    @property
    def filters(self) -> bool:
        return bool(self.node or self.channel or self.state or self.door or self.search)


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketPage:
    """A page of them. *found* match of *listed*, of *total* that there are; *silent*: how many of
    those found are of nodes that have fallen silent; *age*: of the oldest list."""

    rows: Sequence[Listed]
    found: int
    listed: int
    total: int
    silent: int
    age: float | None
    page: int
    pages: int
    users: Mapping[str, str]
    channels: Sequence[str]
    doors: Sequence[str]

    def user(self, socket: SocketView) -> str:
        """Return the name of a socket's user, or the key of one who is not there any more."""
        key = str(socket.user)
        return self.users.get(key) or gettext("user %(key)s") % {"key": key}


def select(fleet: Fleet, wishes: Wishes) -> SocketPage:
    """Return the page that *wishes* ask for. A query if they search, and one for the names of users."""
    known = [(node, socket) for node in fleet.nodes if node.state != "stopped" for socket in node.listed]
    chosen = _filtered(known, wishes)
    column = wishes.order.removeprefix("-")
    chosen.sort(key=COLUMNS[column][1], reverse=wishes.order.startswith("-"))
    pages = max(1, -(-len(chosen) // PAGE))
    page = min(wishes.page, pages)
    rows = chosen[PAGE * (page - 1) : PAGE * page]
    used: Counter[str] = Counter(name for _node, socket in known for name in socket.channels)
    return SocketPage(
        rows=rows,
        found=len(chosen),
        listed=len(known),
        total=sum(
            max(node.listed_total, len(node.listed)) for node in fleet.nodes if node.state != "stopped"
        ),
        silent=sum(not node.is_live for node, _socket in chosen),
        age=max((node.listed_age for node in fleet.live if node.listed_age is not None), default=None),
        page=page,
        pages=pages,
        users=_names(socket.user for _node, socket in rows),
        channels=[name for name, _count in used.most_common(MOST_SUGGESTED)],
        doors=sorted({socket.door for _node, socket in known}),
    )


def _filtered(known: Iterable[Listed], wishes: Wishes) -> list[Listed]:
    tests: list[Callable[[Listed], bool]] = []
    if wishes.node is not None:
        tests.append(lambda row: row[0].pk == wishes.node)
    if wishes.channel:
        tests.append(lambda row: wishes.channel in row[1].channels)
    if wishes.state:
        tests.append(lambda row: row[1].state == wishes.state)
    if wishes.door:
        tests.append(lambda row: row[1].door == wishes.door)
    if wishes.search:
        term = wishes.search.lower()
        users = _users_like(wishes.search)
        tests.append(lambda row: _matches(row[1], term, users))
    return [row for row in known if all(test(row) for test in tests)]


def _matches(socket: SocketView, term: str, users: frozenset[str]) -> bool:
    if socket.user is not None and (str(socket.user) in users or str(socket.user).lower() == term):
        return True
    texts = (*socket.channels, socket.client, socket.address, socket.cursor)
    # All of a client's name is looked for, and only its beginning is told.
    beginning = socket.client is not None and len(str(socket.client)) >= 8
    return any(each is not None and term in str(each).lower() for each in texts) or (
        beginning and term.startswith(str(socket.client).lower())
    )


def _users_like(search: str) -> frozenset[str]:
    users = get_user_model()
    named = {f"{users.USERNAME_FIELD}__icontains": search}
    found = users._default_manager.filter(**named).values_list("pk", flat=True)[:MOST_USERS]
    return frozenset(map(str, found))


def _names(keys: Iterable[str | None]) -> dict[str, str]:
    users = get_user_model()
    field = users._meta.pk
    wanted = set()
    for key in {str(each) for each in keys if each is not None}:
        try:
            wanted.add(field.to_python(key))
        except (ValidationError, ValueError, TypeError):
            continue  # a key of another site's users
    if not wanted:
        return {}
    rows = users._default_manager.filter(pk__in=wanted).values_list("pk", users.USERNAME_FIELD)
    return {str(key): str(name) for key, name in rows}


def socket_state(state: str) -> str:
    """Return words for a socket's state."""
    return str(STATES.get(state, state))


def door_label(door: str) -> str:
    """Return a word for a way in."""
    return str(DOORS.get(door, door))


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None
