"""The model: what was committed in each channel, and what a client may be told about it.

Knows nothing of hubs, tails and streams. Every event has a parent, so that a channel's history is
a path from its head back to its first event; a restored backup makes a fork.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import NamedTuple

from sse_polling.protocol.names import channel_hash

__all__ = ["NOWHERE", "ChannelModel", "Ledger", "Node", "Place", "places_of"]

UNKNOWN = "-"


class Place(NamedTuple):
    """A position as the wire tells it."""

    life: str
    sequence: int
    tag: str


NOWHERE = Place(UNKNOWN, 0, UNKNOWN)


@dataclass(frozen=True, eq=False)
class Node:
    """One committed event."""

    place: Place
    event: str
    data: str
    parent: Node | None

    def at(self, sequence: int) -> Node | None:
        """Return the event at *sequence* on the path to this one."""
        node: Node | None = self
        while node is not None and node.place.sequence > sequence:
            node = node.parent
        return node


@dataclass(frozen=True)
class Version:
    """The channel after one change: its head (None: no row) and its first retained sequence."""

    head: Node | None
    first: int | None

    def has(self, place: Place) -> bool:
        """Tell whether *place* lies on this history."""
        if place == NOWHERE:
            return True
        if (
            self.head is None
            or self.head.place.life != place.life
            or place.sequence > self.head.place.sequence
        ):
            return False
        node = self.head.at(place.sequence)
        return place.tag == UNKNOWN or (node is not None and node.place == place)

    @property
    def start(self) -> Place:
        """Return the place just before the first retained event."""
        if self.head is None:
            return NOWHERE
        if self.first is None:
            return self.head.place
        return Place(self.head.place.life, self.first - 1, UNKNOWN)


@dataclass
class ChannelModel:
    """Everything that ever was in one channel."""

    name: str
    nodes: dict[Place, Node] = field(default_factory=dict)
    removed: set[Node] = field(default_factory=set)  # trimmed or erased, at some time
    versions: list[Version] = field(default_factory=lambda: [Version(None, None)])

    forked: bool = False  # a backup was restored

    @property
    def now(self) -> Version:
        return self.versions[-1]

    def commit(self, place: Place, event: str, data: str) -> None:
        head = self.now.head
        if place.sequence == 1:
            parent, first = None, 1
            assert head is None, f"{self.name}: sequence 1 again, after {head}"
        else:
            assert head is not None, f"{self.name} begins with {place}"
            assert (place.life, place.sequence - 1) == head.place[:2], (
                f"{self.name}: {place} after {head.place}"
            )
            assert head.event != "end", f"{self.name}: {place} after its end"
            parent, first = head, self.now.first if self.now.first is not None else place.sequence
        assert place not in self.nodes, f"{self.name}: {place} was given twice"
        node = self.nodes[place] = Node(place, event, data, parent)
        self.versions.append(Version(node, first))

    def lost(self, first: int | None) -> None:
        """The rows before *first* were trimmed; None: all of them."""
        head = self.now.head
        assert head is not None
        node: Node | None = head if first is None else head.at(first - 1)
        while node is not None:
            self.removed.add(node)
            node = node.parent
        self.versions.append(Version(head, first))

    def erased(self) -> None:
        if self.now.head is not None:
            self.lost(None)
            self.versions.append(Version(None, None))

    def restored(self, version: Version) -> None:
        self.forked = True
        self.versions.append(version)


class Ledger:
    """One client's standing on each of its channels, moved by what it is told, refusing what is wrong."""

    def __init__(self, models: dict[str, ChannelModel], channels: tuple[str, ...], *, several: bool) -> None:
        self.models = {name: models[name] for name in channels}
        self.several = several
        self.places: dict[str, Place] = {}
        self.anchors: dict[str, Node] = {}  # the last event it got, while nothing has cut the thread
        self.since = dict.fromkeys(channels, 0)  # how old a version a judgement of this stream may rest on
        self.got: list[str] = []

    def connects(self) -> None:
        self.since = {name: len(model.versions) - 1 for name, model in self.models.items()}

    def opening(self, identifier: str, mode: str) -> None:
        """Take the id of the first block: where the client stands before the first event."""
        assert identifier, "the opening block has no id: a client cut off now has no cursor"
        for name, place in places_of(identifier, tuple(self.models), several=self.several).items():
            model = self.models[name]
            if name in self.places:
                known = self.places[name]
                assert place == known or (known == NOWHERE and place.sequence == 0), (
                    f"the opening moves the client on {name} from {known} to {place} without sending anything"
                )
            elif mode == "earliest":
                # A process that missed a wake may know an older history, which is judged at the first look.
                starts = [version.start for version in model.versions]
                assert any(_not_after(place, start) for start in starts), (
                    f"earliest of {name} is {place}: {starts}"
                )
            else:
                heads = [each for version in model.versions for each in _heads(version)]
                assert place in heads, f"{place} was never {name}'s now"
            self.places[name] = place

    def message(self, kind: str, data: str, identifier: str) -> None:
        """Take one dispatched message."""
        self.got.append(f"{kind} {identifier} {data[:40]!r}")
        places = places_of(identifier, tuple(self.models), several=self.several)
        name = next(iter(self.models))
        if kind == "gap":
            said = json.loads(data)
            assert list(said) == ["channel", "from", "to", "reason"], said
            name = said["channel"]
            self._gap(name, said, places[name])
        elif kind == "close":
            assert data == "pool_draining"
        else:
            if self.several:
                wrapped = json.loads(data)
                assert list(wrapped) == ["channel", "id", "event", "data"], wrapped
                name, data = wrapped["channel"], wrapped["data"]
                assert wrapped["event"] == kind
                assert wrapped["id"] == ".".join(map(str, places[name])), "the envelope's id is another"
            self._event(name, kind, data, places[name])
        for other, place in places.items():
            if (other != name or kind == "close") and place != self.places[other]:
                assert self.places[other] == NOWHERE, (
                    f"{other} moves from {self.places[other]} to {place} in silence"
                )
                assert place.sequence == 0, f"{other} moves from nowhere to {place} in silence"
                self.places[other] = place

    def _event(self, name: str, kind: str, data: str, place: Place) -> None:
        model, before = self.models[name], self.places[name]
        node = model.nodes.get(place)
        assert node is not None, f"{name}: {place} was never committed"
        text = node.data if self.several else re.sub("\r\n|\r", "\n", node.data)
        assert (kind, data) == (node.event, text), (
            f"{name}: {place} is {node.event} {text!r}, not {kind} {data!r}"
        )
        assert before == NOWHERE or before.life == place.life, (
            f"{name}: from {before} to {place} without a gap"
        )
        assert place.sequence == before.sequence + 1, (
            f"{name}: from {before} to {place}: lost, repeated or reordered"
        )
        for known in (model.nodes.get(before), self.anchors.get(name)):
            # Another history is noticed as long as the row at that position is retained.
            other = node.at(known.place.sequence) if known is not None else None
            assert other is known or other in model.removed, (
                f"{name}: {place} is not of the history of {known.place}"
            )
        self.places[name], self.anchors[name] = place, node

    def _gap(self, name: str, said: dict[str, object], after: Place) -> None:
        model, before = self.models[name], self.places[name]
        assert said["from"] == before.sequence + 1, (
            f"{name}: a gap from {said['from']} for a client at {before}"
        )
        if said["reason"] == "trimmed":
            self._trimmed(model, before, said["to"], after)
        else:
            assert said["reason"] == "reset", said
            assert said["to"] is None, said
            assert before != NOWHERE, f"{name}: a reset for a client that was nowhere"
            recent = model.versions[self.since[name] :]
            assert not all(version.has(before) for version in recent), (
                f"{name}: a reset for {before}, which was there all the time"
            )
            starts = [version.start for version in recent]
            assert any(_not_after(after, start) for start in starts), (
                f"{name}: after a reset the client stands at {after}, behind what was retained: {starts}"
            )
            self.anchors.pop(name, None)
        self.places[name] = after

    def _trimmed(self, model: ChannelModel, before: Place, last: object, after: Place) -> None:
        assert isinstance(last, int), f"{model.name}: a trimmed gap to {last!r}"
        assert last == after.sequence >= before.sequence + 1, (
            f"{model.name}: a gap {before} to {last}, then {after}"
        )
        assert before == NOWHERE or before.life == after.life, (
            f"{model.name}: a trimmed gap from {before} to {after}"
        )
        heads = [v.head for v in model.versions if v.head is not None and v.head.place.life == after.life]
        for head in heads:
            # Another history is noticed as long as the row at that position is retained.
            same = Version(head, None).has(before._replace(life=after.life))
            if head.place.sequence < last or not (same or head.at(before.sequence) in model.removed):
                continue
            node, missing = head.at(last), []
            while node is not None and node.place.sequence > before.sequence:
                missing.append(node in model.removed)
                node = node.parent
            if all(missing):
                return
        raise AssertionError(f"{model.name}: a gap from {before} to {last}, but not all of that was trimmed")

    def may_stop(self) -> bool:
        """Tell whether 204 is right: the client has got ``end`` on every channel."""
        nodes = [model.nodes.get(self.places.get(name, NOWHERE)) for name, model in self.models.items()]
        return all(node is not None and node.event == "end" for node in nodes)

    def caught_up(self) -> list[str]:
        """Return the channels where the client does not stand at the head."""
        behind = []
        for name, model in self.models.items():
            head = model.now.head
            place = self.places[name]
            at_end = (node := model.nodes.get(place)) is not None and node.event == "end"
            good = place == head.place if head is not None else place == NOWHERE or at_end
            # A client that starts now stands at a head it has not got; its tag may be unknown.
            good = good or (head is not None and place == head.place._replace(tag=UNKNOWN))
            if not good:
                behind.append(f"{name}: {place} and not {head and head.place}")
        return behind


def places_of(identifier: str, channels: tuple[str, ...], *, several: bool) -> dict[str, Place]:
    """Read an id with string methods alone."""
    if not several:
        life, sequence, tag = identifier.split(".")
        return {channels[0]: Place(life, int(sequence), tag)}
    names = {channel_hash(name): name for name in channels}
    found = {}
    for part in identifier.split("_"):
        digest, life, sequence, tag = part.split(".")
        found[names.pop(digest)] = Place(life, int(sequence), tag)
    assert not names, f"{identifier} does not name {sorted(names.values())}"
    return found


def _not_after(place: Place, start: Place) -> bool:
    """Tell whether a client at *place* will get everything after *start*."""
    return place.life == start.life and place.sequence <= start.sequence


def _heads(version: Version) -> list[Place]:
    head = version.head
    if head is None:
        return [NOWHERE]
    if head.event != "end":
        return [head.place]
    before = Place(head.place.life, head.place.sequence - 1, UNKNOWN)
    return [before] if head.parent is None else [before, head.parent.place]
