"""The families: what a fleet's rows say, in Prometheus' words. What cannot be read is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..lifecycle import Farewell, Refusal
from ..nodes.figures import LAYER_STATES
from ..nodes.numbers import histogram, number, numbers
from ..nodes.reading import STATES, Fleet, NodeView
from ..nodes.telling import progress_of
from ..protocol.burst import Cause
from ..protocol.histogram import AGES, DELAYS

if TYPE_CHECKING:
    from prometheus_client.core import Metric

__all__ = ["PREFIX", "families"]

PREFIX = "sse_polling_"
LABELS = ("node", "server")

Read = Callable[[NodeView], float | None]
Values = Callable[[NodeView], Mapping[str, float]]


def _figure(*path: str | int) -> Read:
    return lambda node: number(node, *path)


def _by(figure: str, known: Iterable[str]) -> Values:
    """Return how to read counts by reason, each of *known* from the start."""
    zeros = {str(each): 0 for each in known}

    def read(node: NodeView) -> Mapping[str, float]:
        return zeros | numbers(node, figure) if isinstance(node.figures.get(figure), Mapping) else {}

    return read


def _one_of(states: Iterable[str], read: Callable[[NodeView], Any]) -> Values:
    """Return how to say which of *states* a node is in: 1 for that, 0 for all others."""

    def values(node: NodeView) -> Mapping[str, float]:
        state = read(node)
        found = {str(each): float(each == state) for each in states}
        return found | {state: 1.0} if isinstance(state, str) else found

    return values


def _drain(part: str) -> Read:
    def read(node: NodeView) -> float | None:
        drain = progress_of(node)
        if drain is not None:
            return float(getattr(drain, part))
        return 0.0 if node.figures.get("drain", "") is None else None

    return read


def _breaker(node: NodeView) -> float | None:
    breaker = node.figures.get("breaker")
    told = breaker.get("open") if isinstance(breaker, Mapping) else None
    return float(told) if isinstance(told, bool) else None


def _budget_wait(node: NodeView) -> float | None:
    wait = number(node, "budget", "wait_ms")
    return None if wait is None else wait / 1000


# Of every process whose row is there.
ABOUT: tuple[tuple[str, str, Read], ...] = (
    ("node_up", "Whether the process has told of itself within 15 s and has not ended", lambda n: n.is_live),
    ("node_age_seconds", "How old the process's figures are, by the database's clock", lambda n: n.age),
    ("node_start_time_seconds", "When the process began, in Unix time", lambda n: n.started.timestamp()),
)
ABOUT_BY: tuple[tuple[str, str, str, Values], ...] = (
    ("node_state", "Which state the process is in", "state", _one_of(STATES, lambda n: n.state)),
)
# Of processes that live: what a dead one held, nobody holds.
GAUGES: tuple[tuple[str, str, Read], ...] = (
    ("readers", "Clients with a stream, and those that are to come back soon", lambda n: n.readers),
    ("sockets_capacity", "Streams that the process may hold", lambda n: n.capacity),
    ("sockets_most", "Streams that were open at once, at most, since the process began", _figure("most")),
    ("descriptors_open", "Open file descriptors of the process", _figure("descriptors", 0)),
    ("descriptors_limit", "File descriptors that the process may open", _figure("descriptors", 1)),
    ("breaker_open", "Whether the circuit breaker refuses streams", _breaker),
    ("breaker_threshold_ratio", "Share of the capacity that opens it", _figure("breaker", "threshold")),
    ("budget_sockets", "BUDGET of the process, if it has one", _figure("budget", "budget")),
    ("budget_places", "Places that the budget leaves for streams", _figure("budget", "places")),
    ("budget_wait_seconds", "How long the budget keeps clients away, on average", _budget_wait),
    ("drain_streams", "Streams that were open when the drain began; 0 without one", _drain("total")),
    ("drain_left", "Sockets that the drain still waits for", _drain("left")),
    ("drain_estimate_seconds", "In about how long the drain is over", _drain("estimate")),
)
GAUGES_BY: tuple[tuple[str, str, str, Values], ...] = (
    ("sockets", "Sockets by what they do", "state", lambda n: numbers(n, "sockets")),
    (
        "layer_state",
        "How the process learns of events: by the channel layer, by the database alone, by neither",
        "state",
        _one_of(LAYER_STATES, lambda n: n.figures.get("layer")),
    ),
)
COUNTERS: tuple[tuple[str, str, Read], ...] = (
    ("admissions", "Streams taken", _figure("admitted")),
    ("reconnects", "Streams opened with a cursor", _figure("reconnects")),
    ("events_published", "Events that the process has stored", _figure("published")),
    ("events_delivered", "Events handed to sockets", _figure("delivered")),
    ("sent_bytes", "Bytes of events handed to sockets", _figure("bytes")),
    ("wakes_missed", "Wakes that the channel layer did not take", _figure("wakes_missed")),
    ("pause_seconds", "How long the event loop stood still for the collector", _figure("pause_seconds")),
)
COUNTERS_BY: tuple[tuple[str, str, str, Values], ...] = (
    ("refusals", "Streams that were not taken", "reason", _by("refused", Refusal)),
    ("bursts", "Streams that have ended, by what ended them", "cause", _by("ended", Cause)),
    ("replays", "Streams that caught up, by where from", "source", _by("replays", ("tail", "database"))),
    ("gaps", "Gaps that readers were told of: events were lost", "reason", _by("gaps", ("trimmed", "reset"))),
    ("farewells", "Streams that drains have ended, by how they went", "kind", _by("farewells", Farewell)),
    ("state_changes", "How often the process became so", "state", _by("states", STATES[:4])),
)
HISTOGRAMS: tuple[tuple[str, str, str, tuple[float, ...]], ...] = (
    ("connection_age_seconds", "Age of streams at their end", "age", AGES),
    (
        "first_event_seconds",
        "From a stream's opening to the first event it had to catch up on",
        "first",
        DELAYS,
    ),
    ("delivery_latency_seconds", "From an event's publication to its delivery", "latency", DELAYS),
)


def families(fleet: Fleet) -> Iterator[Metric]:
    """Yield the families of *fleet*, each process under its own ``node`` label."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    yield from _plain(GaugeMetricFamily, ABOUT, fleet.nodes)
    yield from _by_label(GaugeMetricFamily, ABOUT_BY, fleet.nodes)
    yield from _plain(GaugeMetricFamily, GAUGES, fleet.live)
    yield from _by_label(GaugeMetricFamily, GAUGES_BY, fleet.live)
    yield from _plain(CounterMetricFamily, COUNTERS, fleet.nodes)
    yield from _by_label(CounterMetricFamily, COUNTERS_BY, fleet.nodes)
    yield from _histograms(fleet.nodes)


def _plain(kind: Any, table: Iterable[tuple[str, str, Read]], nodes: Sequence[NodeView]) -> Iterator[Metric]:
    for name, words, read in table:
        family = kind(PREFIX + name, words, labels=LABELS)
        for node in nodes:
            if (value := read(node)) is not None:
                family.add_metric(_labels(node), float(value))
        yield family


def _by_label(
    kind: Any, table: Iterable[tuple[str, str, str, Values]], nodes: Sequence[NodeView]
) -> Iterator[Metric]:
    for name, words, label, read in table:
        family = kind(PREFIX + name, words, labels=(*LABELS, label))
        for node in nodes:
            for key, value in read(node).items():
                family.add_metric((*_labels(node), key), float(value))
        yield family


def _histograms(nodes: Sequence[NodeView]) -> Iterator[Metric]:
    from prometheus_client.core import HistogramMetricFamily

    for name, words, figure, bounds in HISTOGRAMS:
        family = HistogramMetricFamily(PREFIX + name, words, labels=LABELS)
        for node in nodes:
            if (told := histogram(node, figure, bounds)) is not None:
                family.add_metric(_labels(node), _buckets(bounds, told[0]), told[1])
        yield family


def _labels(node: NodeView) -> tuple[str, str]:
    return node.name, node.server


def _buckets(bounds: Iterable[float], counts: Iterable[int]) -> list[tuple[str, float]]:
    """Return the counts as Prometheus wants them: of all up to each bound."""
    found, below = [], 0
    for bound, count in zip((*map(float, bounds), "+Inf"), counts, strict=True):
        below += count
        found.append((str(bound), float(below)))
    return found
