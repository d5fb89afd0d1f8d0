"""A view that publishes inside a server's process: what a project's own code would do there."""

from __future__ import annotations

import json
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

__all__ = ["publish"]


@login_not_required
@csrf_exempt
@require_POST
def publish(request: HttpRequest) -> JsonResponse:
    """Publish the body `{"channel", "events": [keyword arguments of publish], "finish": data}`.

    All in one transaction, rolled back at the end with `"rollback": true`. Answers
    `{"sequences": […]}`.
    """
    import sse_polling  # the face is read when it is used, so that the address exists without it

    body: dict[str, Any] = json.loads(request.body)
    channel, sequences = body["channel"], []
    with transaction.atomic():
        for options in body.get("events", []):
            event = sse_polling.publish(channel, options.pop("data"), **options)
            sequences.append(event.sequence)
        if "finish" in body:
            sequences.append(sse_polling.finish(channel, body["finish"]).sequence)
        if body.get("rollback"):
            transaction.set_rollback(True)
    return JsonResponse({"sequences": sequences})
