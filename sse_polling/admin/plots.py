"""Plots of the last minutes, as lines in SVG that the server draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import floor, log10

from django.utils.translation import gettext

from ..nodes.reading import Fleet, Moment
from ..nodes.telling import ago
from .amounts import NONE, delay, grouped, rate

__all__ = ["HEIGHT", "WIDTH", "Line", "Plot", "draw", "table"]

WIDTH, HEIGHT = 300, 80
BRIDGED = 1  # moments without a figure that a line goes over: a process may be late by one

_Value = float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line: *path* is SVG's, *dots* are moments alone, *last* its newest figure in words."""

    name: str
    label: str
    path: str
    last: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """Some lines over the same time. *top*: what the upper edge stands for; *words*: for who cannot see."""

    key: str
    title: str
    lines: Sequence[Line]
    top: str
    words: str

    @property
    def last(self) -> str:
        return self.lines[0].last


def draw(fleet: Fleet) -> list[Plot]:
    """Return the plots of the fleet's last five minutes."""
    moments, live = fleet.moments, fleet.live

    def told(name: str, now: float) -> list[_Value]:
        # Of the newest moment some processes may not have told yet; what they are at is known all the same.
        values = [None if each.sockets is None else getattr(each, name) for each in moments]
        return [*values[:-1], now] if live else values

    reconnects = sum(node.rate("reconnects") for node in live)
    return [
        _plot("readers", gettext("Readers"), grouped, [("readers", "", told("readers", fleet.readers))]),
        _plot("sockets", gettext("Sockets"), grouped, [("sockets", "", told("sockets", fleet.sockets))]),
        _plot(
            "reconnects",
            gettext("Reconnects per second"),
            rate,
            [("reconnects", "", told("reconnects", reconnects))],
        ),
        _plot(
            "delivery",
            gettext("Delivery latency"),
            delay,
            [
                ("median", gettext("median"), [each.delay(0.5) for each in moments]),
                ("most", gettext("95 % within"), [each.delay(0.95) for each in moments]),
            ],
            smallest=0.01,
            bridged=3,
        ),
    ]


def table(moments: Sequence[Moment]) -> list[tuple[str, ...]]:
    """Return the same as rows of text, newest first: when, readers, sockets, reconnects, median, 95 %."""
    return [
        (
            ago(each.ago),
            grouped(each.readers),
            grouped(each.sockets),
            NONE if each.sockets is None else rate(each.reconnects),
            delay(each.delay(0.5)),
            delay(each.delay(0.95)),
        )
        for each in reversed(moments)
    ]


def _plot(
    key: str,
    title: str,
    words: Callable[[float], str],
    series: Sequence[tuple[str, str, Sequence[_Value]]],
    *,
    smallest: float = 1,
    bridged: int = BRIDGED,
) -> Plot:
    known = [value for _name, _label, values in series for value in values if value is not None]
    top = _nice(max([smallest, *known]))
    lines = [
        Line(name=name, label=label, path=_path(values, top, bridged), last=_last(values, words))
        for name, label, values in series
    ]
    return Plot(
        key=key,
        title=title,
        lines=lines,
        top=words(top),
        words=" ".join(_described(label, values, words) for _name, label, values in series),
    )


def _described(label: str, values: Sequence[_Value], words: Callable[[float], str]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        told = gettext("No figures in the last 5 minutes.")
    else:
        told = gettext("At first %(first)s, now %(last)s, at most %(most)s in the last 5 minutes.") % {
            "first": words(known[0]),
            "last": words(known[-1]),
            "most": words(max(known)),
        }
    return gettext("%(label)s: %(told)s") % {"label": label, "told": told} if label else told


def _last(values: Sequence[_Value], words: Callable[[float], str]) -> str:
    """Return the newest figure. The very newest moment may be one that nobody has told of yet."""
    newest = next((value for value in reversed(values[-6:]) if value is not None), None)
    return NONE if newest is None else words(newest)


def _path(values: Sequence[_Value], top: float, bridged: int) -> str:
    """Return a line from moment to moment; where nobody told for longer than *bridged* it is broken."""
    step = WIDTH / max(1, len(values) - 1)
    parts: list[str] = []
    before = -len(values) - 1
    for index, value in enumerate(values):
        if value is None:
            continue
        x, y = index * step, HEIGHT - HEIGHT * min(1.0, max(0.0, value / top))
        if index - before <= bridged + 1:
            parts.append(f"L{x:.1f} {y:.1f}")
        else:
            parts.append(f"M{x:.1f} {y:.1f}h.1")  # so that a moment alone is a dot
        before = index
    return "".join(parts)


def _nice(most: float) -> float:
    power: float = 10.0 ** floor(log10(most))
    return next(each * power for each in (1, 2, 3, 4, 5, 6, 8, 10) if each * power >= most * 0.999)
