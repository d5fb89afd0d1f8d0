"""Are the settings known, possible, and of any effect?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.conf import settings
from django.core import checks

from ..rules import NAME, RESERVED, problems

__all__ = ["check_effect", "check_values", "is_readable", "raw_settings"]


def raw_settings() -> Any:
    raw = getattr(settings, NAME, None)
    return {} if raw is None else raw


def is_readable() -> bool:
    """Tell whether the other checks can read the settings; E001 says so if not."""
    return next(problems(raw_settings()), None) is None


@checks.register
def check_values(**options: Any) -> list[checks.CheckMessage]:
    return [
        checks.Error(f"{_setting(each.where)} {each.message}.", hint=each.hint, id="sse_polling.E001")
        for each in problems(raw_settings())
    ]


@checks.register
def check_effect(**options: Any) -> list[checks.CheckMessage]:
    if not is_readable():
        return []
    return [
        checks.Info(
            f"{_setting(where)} has no effect in this version of sse_polling.",
            hint="It is checked already and will be used by a later version.",
            id="sse_polling.I001",
        )
        for where in _without_effect(raw_settings())
    ]


def _without_effect(raw: Mapping[str, Any]) -> Iterator[str]:
    yield from (name for name in RESERVED if name in raw)


def _setting(where: str) -> str:
    return f"The setting {NAME}" if where == NAME else f"{NAME}: {where}"
