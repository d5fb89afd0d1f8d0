"""The page of this machine."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

__all__ = ["machine"]


@require_safe
@never_cache
def machine(request: HttpRequest) -> HttpResponse:
    """Plot the channels `machine` and `server`, both on one stream."""
    return render(request, "demo/machine.html")
