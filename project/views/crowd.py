"""The page of the crowd, and its three buttons."""

from __future__ import annotations

from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from project.peers import ask_peers, fleet_size
from project.restart import ask_for_restart, is_supervised
from sse_polling.connections import registry
from sse_polling.models import Channel

__all__ = ["crowd", "cut", "cut_here", "preset", "restart"]

CHANNEL = "crowd"
PRESETS = (
    ("reclaim", "never holds an empty stream; asks every two seconds"),
    ("balanced", "holds for two seconds; asks every second"),
    ("live", "holds for 25 seconds; hardly ever asks"),
)


@require_safe
@never_cache
def crowd(request: HttpRequest) -> HttpResponse:
    """Plot readers against the server's descriptors."""
    row = Channel.objects.filter(name=CHANNEL).first()
    context = {
        "presets": PRESETS,
        "preset": (row.preset if row else "") or "balanced",
        "budget": settings.SSE_POLLING.get("BUDGET"),
        "allowed": _may(request),
        "restartable": is_supervised(),
        "address": f"{request.scheme}://{request.get_host()}",
        "usual": request.get_host().endswith(":8000") and not fleet_size(),
    }
    return render(request, "demo/crowd.html", context)


@require_POST
def preset(request: HttpRequest) -> HttpResponse:
    """Set the channel's preset; the server takes it up without a restart."""
    if not _may(request):
        return _answer(request, 403, "On this site only staff may change the preset.")
    row = Channel.objects.filter(name=CHANNEL).first()
    if row is None:
        return _answer(request, 409, "Nothing was published to the crowd yet: manage.py machine does that.")
    row.preset = request.POST.get("preset", "")
    try:
        row.full_clean()
    except ValidationError as error:
        return _answer(request, 400, " ".join(error.messages))
    # The head is the publishers' to change.
    row.save(update_fields=["preset"])
    return _answer(request, 200, f"The crowd is on {row.preset or 'balanced'} from its next burst on.")


@require_POST
async def cut(request: HttpRequest) -> HttpResponse:
    """Cut this visitor's own stream, in mid-frame if need be, whichever server holds it."""
    token = request.POST.get("client", "")
    done = _cut(token) or await ask_peers(reverse("crowd-cut-here"), {"client": token})
    if done:
        return _answer(request, 200, "Cut. Your browser comes back by itself, and misses nothing.")
    return _answer(request, 200, "There was no open socket to cut: you were between two bursts.")


@csrf_exempt
@require_POST
async def cut_here(request: HttpRequest) -> HttpResponse:
    """Answer with how many streams this very process has cut. For the fleet's other servers.

    Exempt, since nobody's cookie counts here: the name that a client gave its stream is what allows it.
    """
    return HttpResponse(str(_cut(request.POST.get("client", ""))), content_type="text/plain")


@require_POST
def restart(request: HttpRequest) -> HttpResponse:
    """Restart the server under everybody's eyes."""
    if not _may(request):
        return _answer(request, 403, "On this site only staff may restart the server.")
    if ask_for_restart():
        which = "One server after the other" if fleet_size() > 1 else "The server"
        return _answer(request, 202, f"{which} stops and starts again. Watch the line at your stream.")
    return _answer(
        request, 409, "Only a server that `make run` or `make fleet` started can be restarted from here."
    )


def _cut(token: str) -> int:
    """Cut this process's streams of that name. Runs on the loop that owns their sockets."""
    return sum(stream.abort() for stream in registry.find(client=token)) if token else 0


def _may(request: HttpRequest) -> bool:
    """Tell whether this visitor may touch what others see: anyone on a demo of one's own."""
    return settings.DEBUG or request.user.is_staff


def _answer(request: HttpRequest, status: int, message: str) -> HttpResponse:
    """Answer a script in JSON, and a plain form by going back to the page."""
    if request.accepts("text/html") and status < 400:
        return redirect("crowd")
    return JsonResponse({"message": message}, status=status)
