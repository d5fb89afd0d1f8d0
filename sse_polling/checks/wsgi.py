"""WSGI: is there anything that can hold a stream?"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core import checks

__all__ = ["check_asgi_application"]


@checks.register
def check_asgi_application(**options: Any) -> list[checks.CheckMessage]:
    served = getattr(settings, "WSGI_APPLICATION", None)
    if not served or getattr(settings, "ASGI_APPLICATION", None):
        return []
    return [
        checks.Warning(
            f"There is WSGI_APPLICATION = {served!r} and no ASGI_APPLICATION: under WSGI no stream is held, "
            "each request is a poll that reads the database and ends at once.",
            hint="Serve the site with daphne or uvicorn, and set ASGI_APPLICATION = "
            "'mysite.asgi.application'. If slow polls are what you want, silence sse_polling.W009.",
            id="sse_polling.W009",
        )
    ]
