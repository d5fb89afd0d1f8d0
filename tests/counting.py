"""A view that tells what a server's process has counted: what no address of the app says yet."""

from __future__ import annotations

from dataclasses import asdict

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, JsonResponse

__all__ = ["counts"]


@login_not_required
async def counts(request: HttpRequest) -> JsonResponse:
    """Answer `{"admitted", "most", "refused", "ended", "states", "open", "pauses"}`."""
    from sse_polling.lifecycle import node  # the address exists without it
    from sse_polling.pauses import watched

    counted = node.counts
    return JsonResponse(
        {
            "admitted": counted.admitted,
            "most": counted.most,
            "refused": dict(counted.refused),
            "ended": dict(counted.ended),
            "states": dict(counted.states),
            "open": len(node.registry),
            "pauses": asdict(watched.figures()),
        }
    )
