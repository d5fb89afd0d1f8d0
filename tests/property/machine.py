"""The rules: what can happen in the world, in any order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.db import OperationalError
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from sse_polling import database
from sse_polling.conf import get_config
from sse_polling.publishing import Draft
from tests.property.world import CHANNELS, TEXTS, Client, World

__all__ = ["Promise"]

hubs = st.integers(0, 1)
few = st.integers(0, 9)
names = st.sampled_from(CHANNELS)
kinds = st.sampled_from(["short"] * 5 + [kind for kind in TEXTS if kind != "short"])
drafts = st.builds(
    Draft,
    kinds,
    st.sampled_from(["message", "message", "log"]),
    st.sampled_from([None, None, None, None, "k", "l"]),
    st.sampled_from([False, False, False, False, True]),
    names,
)
heard = st.sampled_from([(0, 1), (0, 1), (0,), (1,), (), (1, 0, 1)])
readers = st.sampled_from([(("a",), False), (("a",), False), (("a", "b"), True), (("b",), True)])
modes = st.sampled_from(["now", "earliest", "cursor"])
MOST_CLIENTS = 4


class Promise(RuleBasedStateMachine):
    """DESIGN.md section 1."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @property
    def clients(self) -> list[Client]:
        return self.world.clients

    @initialize(who=readers, mode=modes, before=st.lists(drafts, max_size=6))
    def begin(self, who: Any, mode: str, before: list[Draft]) -> None:
        if before:
            self.world.publish(before)
        self.newcomer(who, mode)

    @precondition(lambda self: len(self.clients) < MOST_CLIENTS)
    @rule(who=readers, mode=modes)
    def newcomer(self, who: Any, mode: str) -> None:
        channels, several = who
        self.clients.append(Client(self.world, channels, several=several, mode=mode))

    # Publishers

    @rule(events=st.lists(drafts, min_size=1, max_size=3), heard=heard)
    def publish(self, events: list[Draft], heard: tuple[int, ...]) -> None:
        self.world.publish(events, heard=heard)

    @rule(events=st.lists(drafts, min_size=3, max_size=8), heard=heard)
    def publish_more_than_a_tail_holds(self, events: list[Draft], heard: tuple[int, ...]) -> None:
        self.world.publish(events, heard=heard)

    @rule(
        events=st.lists(drafts, min_size=1, max_size=3),
        outcome=st.sampled_from(["rollback", "rollback", "savepoint", "commit"]),
        heard=heard,
        who=few,
    )
    def publish_while_somebody_reads(
        self, events: list[Draft], outcome: str, heard: tuple[int, ...], who: int
    ) -> None:
        reader = self.clients[who % len(self.clients)]
        reader.connect(self.world.hubs[who % 2], finite=False)
        self.world.publish(events, outcome=outcome, heard=heard, meanwhile=reader)

    @rule(name=names, events=st.lists(drafts, max_size=2), heard=heard)
    def finish(self, name: str, events: list[Draft], heard: tuple[int, ...]) -> None:
        self.world.publish(events, finish=name, heard=heard)

    # What happens to the history

    @rule(later=st.sampled_from([0, 0, 0, 10_000]), steps=st.integers(1, 6))
    def trim(self, later: float, steps: int) -> None:
        self.world.trim(later=later, steps=steps)

    @rule(name=names, steps=st.sampled_from([1, 9, 9]))
    def erase(self, name: str, steps: int) -> None:
        self.world.erase(name, steps=steps)

    @rule(name=names)
    def back_up(self, name: str) -> None:
        self.world.back_up(name)

    @precondition(lambda self: self.world.backups)
    @rule(number=few, events=st.lists(drafts, max_size=4), heard=heard)
    def restore_and_publish_on(self, number: int, events: list[Draft], heard: tuple[int, ...]) -> None:
        self.world.restore(number)
        if events:
            self.world.publish(events, heard=heard)

    @rule(
        name=names,
        lost=st.lists(drafts, min_size=1, max_size=4),
        again=st.lists(drafts, max_size=7),
        heard=heard,
        where=hubs,
    )
    def fail_over_and_lose_commits(
        self, name: str, lost: list[Draft], again: list[Draft], heard: tuple[int, ...], where: int
    ) -> None:
        world = self.world
        if world.back_up(name):
            world.publish([replace(draft, channel=name) for draft in lost], heard=(0, 1))
            for client in self.clients:
                client.connect(world.hubs[where], finite=True)
                client.read(most=5)
            world.restore(len(world.backups) - 1)
            if again:
                world.publish([replace(draft, channel=name) for draft in again], heard=heard)

    # Processes

    @precondition(lambda self: self.world.wakes)
    @rule(number=st.integers(0, 99), where=hubs)
    def an_old_wake_arrives(self, number: int, where: int) -> None:
        self.world.hear(self.world.wakes[-1 - number % len(self.world.wakes)], where)
        self.world.time.settle()

    @rule(where=hubs)
    def compare(self, where: int) -> None:
        self.world.compare(where)

    @rule(where=hubs)
    def restart(self, where: int) -> None:
        self.world.restart(where)

    @rule(seconds=st.sampled_from([0.1, 0.6, 3, 200]), where=hubs)
    def time_passes(self, seconds: float, where: int) -> None:
        self.world.time.advance(seconds)
        self.world.hubs[where].tails.tidy(now=self.world.time.time(), limits=get_config().tail)

    @rule(slow=st.booleans())
    def the_database_is_slow(self, slow: bool) -> None:
        self.world.time.slow = slow
        self.world.time.settle()

    @precondition(lambda self: self.world.time.jobs)
    @rule(number=few)
    def the_database_looks(self, number: int) -> None:
        self.world.time.look(number)

    @precondition(lambda self: self.world.time.jobs)
    @rule(number=few)
    def the_database_answers(self, number: int) -> None:
        self.world.time.arrive(number)

    @rule(away=st.sampled_from([False, False, True]))
    def the_database_goes_away(self, away: bool) -> None:
        self.world.time.fail = OperationalError("the database went away") if away else None
        database._gates.clear()

    # Clients

    @rule(who=few, where=hubs, finite=st.booleans(), most=st.integers(1, 6))
    def read(self, who: int, where: int, finite: bool, most: int) -> None:
        client = self.clients[who % len(self.clients)]
        client.connect(self.world.hubs[where], finite=finite)
        client.read(most=most)

    @rule(who=few, where=hubs, most=st.integers(1, 3), at=st.integers(0, 400))
    def read_and_be_cut_off(self, who: int, where: int, most: int, at: int) -> None:
        client = self.clients[who % len(self.clients)]
        client.connect(self.world.hubs[where], finite=True)
        client.read(most=most, cut_at=at)

    @rule(who=few)
    def cut(self, who: int) -> None:
        self.clients[who % len(self.clients)].cut()

    @rule(who=few)
    def drain(self, who: int) -> None:
        self.clients[who % len(self.clients)].drain()

    def teardown(self) -> None:
        try:
            if not self.world.broken:
                self.world.end()
        finally:
            self.world.close()
