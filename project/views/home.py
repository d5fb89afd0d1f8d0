"""The landing page, and the page for what is not there."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

__all__ = ["home", "missing"]


@require_safe
@never_cache
def home(request: HttpRequest) -> HttpResponse:
    """Explain the idea, with a live stream beside it."""
    return render(request, "demo/home.html")


def missing(request: HttpRequest, exception: Exception | None = None, *, reason: str = "") -> HttpResponse:
    """Say that there is no such page; `reason` says it more exactly."""
    return render(request, "404.html", {"reason": reason}, status=404)
