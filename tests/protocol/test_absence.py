"""How many clients are away between two bursts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sse_polling.protocol.absence import BUCKET_SECONDS, Absence

#: What happens one after the other: so much later a client is told to come back in so many seconds.
histories = st.lists(
    st.tuples(st.sampled_from([0, 0.1, 0.25, 1, 70]), st.sampled_from([0, 0.1, 0.25, 5, 60]))
)


def test_a_client_is_away_until_it_is_due() -> None:
    absence = Absence()
    absence.add(100.1, 5)
    absence.add(100.1, 9)
    absence.settle(105)
    assert absence.count == 2
    absence.settle(105.1 + BUCKET_SECONDS)
    assert absence.count == 1
    absence.settle(109.1 + BUCKET_SECONDS)
    assert absence.count == 0


def test_who_may_come_at_once_is_not_away_for_ever() -> None:
    """At the edge of a bucket as well, which has passed by then."""
    absence = Absence()
    for number in range(8):
        absence.add(100 + number * BUCKET_SECONDS, 0)
    absence.settle(103)
    assert absence.count == 0


@given(histories)
def test_it_counts_those_that_are_not_due_yet_to_a_quarter_of_a_second(
    history: list[tuple[float, float]],
) -> None:
    absence, now = Absence(), 100.0
    due: list[float] = []
    for later, seconds in history:
        now += later
        absence.add(now, seconds)
        due.append(now + seconds)
        at_least = sum(each > now + 1e-6 for each in due)
        at_most = sum(each > now - BUCKET_SECONDS - 1e-6 for each in due)
        assert at_least <= absence.count <= at_most
    absence.settle(now + 61)
    assert absence.count == 0


def test_what_it_remembers_is_bounded_by_the_longest_wait() -> None:
    absence = Absence()
    for number in range(20_000):
        absence.add(100 + number * 0.05, 60)
    assert len(absence._due) <= 60 / BUCKET_SECONDS + 2
