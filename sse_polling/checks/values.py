"""Are the settings known and possible?"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core import checks

from ..rules import NAME, problems

__all__ = ["check_values", "is_readable", "raw_settings"]


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


def _setting(where: str) -> str:
    return f"The setting {NAME}" if where == NAME else f"{NAME}: {where}"
