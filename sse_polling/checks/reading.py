"""Who may read: can the rule be asked, and is it the site's own?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core import checks
from django.utils.module_loading import import_string

from .. import access
from ..conf import get_config
from .values import is_readable

__all__ = ["check_authorize", "check_own_rule", "fault"]

Rule = str | Callable[..., Any]

_STOCK = {
    f"{each.__module__}.{each.__name__}": each.__name__ for each in (access.public, access.authenticated)
}


@checks.register
def check_authorize(**options: Any) -> list[checks.CheckMessage]:
    if not is_readable():
        return []
    found: list[checks.CheckMessage] = []
    for where, rule in _rules():
        why = fault(rule)
        if why:
            found.append(
                checks.Error(
                    f"SSE_POLLING: {where} is {rule!r}, which {why}.",
                    hint="Give it a callable(request, channel) that returns a bool, or the dotted path of "
                    "one, as 'sse_polling.access.staff'.",
                    id="sse_polling.E002",
                )
            )
    return found


@checks.register
def check_own_rule(**options: Any) -> list[checks.CheckMessage]:
    if settings.DEBUG or not is_readable():
        return []
    rules = [_stock_name(rule) for _where, rule in _rules()]
    if not all(rules):
        return []
    name = rules[0]
    whom = "Everybody" if name == "public" else "Every user who is logged in"
    return [
        checks.Warning(
            f"{whom} may read every channel: SSE_POLLING: AUTHORIZE is sse_polling.access.{name} and no rule "
            "of your own restricts any channel.",
            hint="Name a callable(request, channel) of your own in AUTHORIZE, or in CHANNELS for the "
            "channels that not everybody may read. If this is what you want, silence sse_polling.W006.",
            id="sse_polling.W006",
        )
    ]


def _rules() -> list[tuple[str, Rule]]:
    config = get_config()
    named = [
        (f"CHANNELS[{index}]['AUTHORIZE']", options["AUTHORIZE"])
        for index, (_pattern, options) in enumerate(config.channels)
        if "AUTHORIZE" in options
    ]
    return [("AUTHORIZE", config.authorize), *named]


def _stock_name(rule: Rule) -> str:
    """Return ``public`` or ``authenticated`` if *rule* is that one, else an empty text."""
    path = rule if isinstance(rule, str) else f"{rule.__module__}.{getattr(rule, '__name__', '')}"
    return _STOCK.get(path, "")


def fault(rule: Rule) -> str:
    """Return why *rule* cannot be called, to follow "which"; an empty text if it can."""
    if not isinstance(rule, str):
        return ""
    try:
        target = import_string(rule)
    except Exception as error:  # noqa: BLE001 - the module is the site's: it may raise anything
        return f"cannot be imported: {str(error).rstrip('.')}"
    return "" if callable(target) else f"is {type(target).__name__} and cannot be called"
