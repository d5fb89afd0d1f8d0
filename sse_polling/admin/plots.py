"""Plots of the last minutes, as lines in SVG that the server draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import floor, log10

from django.utils.translation import gettext

from ..nodes.reading import Fleet
from ..nodes.telling import ago
from .amounts import NONE, delay, grouped, rate

__all__ = ["HEIGHT", "WIDTH", "Line", "Plot", "draw", "table"]

WIDTH, HEIGHT = 300, 80
DOT = 3
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
    values = _values(fleet)
    return [
        _plot("readers", gettext("Readers"), grouped, [("readers", "", values["readers"])]),
        _plot("sockets", gettext("Sockets"), grouped, [("sockets", "", values["sockets"])]),
        _plot(
            "reconnects", gettext("Reconnects per second"), rate, [("reconnects", "", values["reconnects"])]
        ),
        _plot(
            "delivery",
            gettext("Delivery latency"),
            delay,
            [
                ("median", gettext("median"), values["median"]),
                ("most", gettext("95 % within"), values["most"]),
            ],
            smallest=0.01,
            bridged=3,
        ),
    ]


def table(fleet: Fleet) -> list[tuple[str, ...]]:
    """Return the same as rows of text, newest first: when, readers, sockets, reconnects, median, 95 %."""
    words = (grouped, grouped, _rate, delay, delay)
    rows = zip(fleet.moments, *_values(fleet).values(), strict=True)
    return [
        (ago(moment.ago), *(word(value) for word, value in zip(words, values, strict=True)))
        for moment, *values in reversed(list(rows))
    ]


def _rate(value: _Value) -> str:
    return NONE if value is None else rate(value)


def _values(fleet: Fleet) -> dict[str, list[_Value]]:
    moments, live = fleet.moments, fleet.live

    def told(name: str, now: float) -> list[_Value]:
        # Of the newest moment some processes may not have told yet; what they are at is known all the same.
        values = [None if each.sockets is None else getattr(each, name) for each in moments]
        return [*values[:-1], now] if live else values

    return {
        "readers": told("readers", fleet.readers),
        "sockets": told("sockets", fleet.sockets),
        "reconnects": told("reconnects", sum(node.rate("reconnects") for node in live)),
        "median": [each.delay(0.5) for each in moments],
        "most": [each.delay(0.95) for each in moments],
    }


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
            alone = index + 1 == len(values) or values[index + 1] is None
            start = max(0.0, x - DOT) if alone else x
            parts.append(f"M{start:.1f} {y:.1f}" + (f"h{DOT}" if alone else ""))  # else there is no line
        before = index
    return "".join(parts)


def _nice(most: float) -> float:
    power: float = 10.0 ** floor(log10(most))
    steps = (1, 1.5 if power >= 10 else 2, 2, 3, 4, 5, 6, 8, 10)  # of readers there are no halves
    return next(each * power for each in steps if each * power >= most * 0.999)
