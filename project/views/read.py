"""The page that shows any channel, line by line."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from project.access import visitors
from project.numbering import NUMBERED
from sse_polling import cursor
from sse_polling.exceptions import InvalidChannel
from sse_polling.models import Event

from .home import missing

__all__ = ["read"]

_RECENT = 200


@require_safe
@never_cache
def read(request: HttpRequest, channel: str) -> HttpResponse:
    """Show a channel from its earliest event, or from now on with `?since=now`."""
    try:
        cursor(channel)
    except InvalidChannel as error:
        return missing(request, reason=str(error))
    if channel.startswith("sse_polling.") or not visitors(request, channel):
        return missing(request, reason=f"{channel} is not a channel that visitors may read.")
    # A plain EventSource hears only the names it listens for, so the page has to know them.
    recent = Event.objects.filter(channel__name=channel).order_by("-sequence")
    names = {"message", *recent.values_list("event", flat=True)[:_RECENT]} - {"end", "gap", "close"}
    context = {
        "channel": channel,
        "from_now": request.GET.get("since") == "now",
        "names": ",".join(sorted(names)),
        "numbered": channel in NUMBERED or channel.startswith(("ask.", "task.")),
    }
    return render(request, "demo/read.html", context)
