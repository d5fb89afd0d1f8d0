"""``{% load sse_polling %}``"""

from __future__ import annotations

import secrets
from urllib.parse import urlencode

from django import template
from django.urls import reverse

from ..publishing import cursor

register = template.Library()


@register.simple_tag
def sse_url(*channels: str, since: str = "now") -> str:
    """Return the address of a stream of *channels* for an ``EventSource``.

    It asks for polite refusals, names a fresh client, and starts where the channels stand now, so
    that nothing between the rendering and the connect is lost. ``since="earliest"``: from the first
    retained event; any other *since* is a cursor.
    """
    if not channels:
        raise template.TemplateSyntaxError("sse_url needs the name of at least one channel.")
    last = cursor(*channels) if since == "now" else since
    query = [("busy", "stream"), ("client", secrets.token_urlsafe(18)), ("last_event_id", last)]
    if len(channels) == 1:
        return f"{reverse('sse_polling:stream', args=channels)}?{urlencode(query)}"
    names = [("channel", name) for name in channels]
    return f"{reverse('sse_polling:streams')}?{urlencode(names + query)}"
