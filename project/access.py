"""Who may read which channel of the demo."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest

__all__ = ["PUBLIC", "visitors"]

PUBLIC = ("ask.*", "crowd", "crowd.stats", "log", "machine", "server", "task.*", "tasks")


def visitors(request: HttpRequest, channel: str) -> bool:
    """Let anyone read the demo's channels, and while DEBUG is on, any channel.

    A real project must not do this. Its channels carry its customers' data, so it asks
    here whether `request.user` may see the very thing that the channel is named after:
    `return Build.objects.filter(pk=..., project__members=request.user).exists()`.
    """
    return settings.DEBUG or channel in PUBLIC or channel.startswith(("ask.", "task."))
