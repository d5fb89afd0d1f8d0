"""The server: does daphne serve the streams through the mount?"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.handlers.asgi import ASGIHandler
from django.utils.module_loading import import_string

__all__ = ["Mounted", "check_mount", "find_mount"]

_DEEP = 8  # applications around each other; beyond it nobody can tell


class Mounted(enum.Enum):
    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@checks.register
def check_mount(**options: Any) -> list[checks.CheckMessage]:
    path = getattr(settings, "ASGI_APPLICATION", None)
    if "daphne" not in settings.INSTALLED_APPS or not path:
        return []
    try:
        application = import_string(path)
    except Exception:  # noqa: BLE001 - asgi.py is the site's; daphne itself says what is wrong with it
        return []
    if find_mount(application) is not Mounted.NO:
        return []
    return [
        checks.Warning(
            f"daphne serves ASGI_APPLICATION = {path!r}, which has no SSEPolling: streams pass through "
            "Django's handler, and daphne does not close their sockets, so each keeps a descriptor a minute.",
            hint="In asgi.py: from sse_polling.asgi import SSEPolling, and "
            "application = SSEPolling(get_asgi_application()).",
            id="sse_polling.W007",
        )
    ]


def find_mount(application: Any) -> Mounted:
    """Look for ``SSEPolling`` in *application* and in what it wraps, as far as that can be seen."""
    from ..asgi import SSEPolling

    for _ in range(_DEEP):
        if isinstance(application, SSEPolling):
            return Mounted.YES
        inner = _inner(application)
        if inner is None:
            return Mounted.NO if isinstance(application, ASGIHandler) else Mounted.UNKNOWN
        application = inner
    return Mounted.UNKNOWN


def _inner(application: Any) -> Any:
    """Return what *application* hands HTTP requests to, None if that cannot be seen."""
    routes = getattr(application, "application_mapping", None)  # channels' ProtocolTypeRouter
    if isinstance(routes, Mapping):
        return routes.get("http")
    for name in ("application", "app", "inner"):  # Django's static files, most middleware, channels'
        inner = getattr(application, name, None)
        if callable(inner):
            return inner
    return None
