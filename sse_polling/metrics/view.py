"""The view: who may scrape, and the fleet in the format that is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare

from ..conf import get_config
from ..database import ERRORS, pass_by, run
from ..nodes.beat import beat
from ..nodes.reading import read_fleet
from ..users import Nobody
from ..views import exempt
from .families import families

if TYPE_CHECKING:
    from prometheus_client.core import Metric

__all__ = ["metrics"]

MISSING = "prometheus_client is not installed here: pip install 'django-sse-polling[metrics]'."
FORBIDDEN = "The metrics are for staff, or for who has the METRICS_TOKEN: Authorization: Bearer <token>."


@exempt
async def metrics(request: HttpRequest) -> HttpResponse:
    """Tell Prometheus how the fleet is."""
    if request.method not in ("GET", "HEAD"):
        words = f"{str(request.method)[:20]} is not offered here; use GET."
        return _words(405, words, {"Allow": "GET, HEAD"})
    bearer = _bearer(request.headers.get("Authorization", ""))
    if not _is_token(bearer) and not await _is_staff(request):
        if bearer is None:
            return _words(403, FORBIDDEN)
        return _words(
            401, "This is not the METRICS_TOKEN.", {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        )
    if find_spec("prometheus_client") is None:
        return _words(501, MISSING)
    if isinstance(request, ASGIRequest):
        beat.start()
    else:
        pass_by(asyncio.get_running_loop())
    try:
        body, kind = await run(_page, request.headers.get("Accept", ""))
    except ERRORS as error:
        return _words(503, f"The processes' rows cannot be read from the database: {error}")
    return HttpResponse(body, headers={"Content-Type": kind, "Cache-Control": "no-store"})


def _page(accept: str) -> tuple[bytes, str]:
    """Return the metrics, and their media type. In a thread: of a hundred processes it is a megabyte."""
    from prometheus_client.exposition import choose_encoder

    try:
        encode, kind = choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is none
        encode, kind = choose_encoder("")
    collected: Any = _Collected(list(families(read_fleet())))
    return encode(collected), kind


class _Collected:
    """Families as the encoders ask for them."""

    def __init__(self, found: list[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        return self._found


def _bearer(header: str) -> str | None:
    scheme, _space, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _is_token(given: str | None) -> bool:
    token = get_config().metrics_token
    return constant_time_compare(given, token) if given and token else False


async def _is_staff(request: HttpRequest) -> bool:
    load = getattr(request, "auser", None)
    user = await load() if load is not None else Nobody()
    return bool(user.is_active and user.is_staff)


def _words(status: int, words: str, headers: dict[str, str] | None = None) -> HttpResponse:
    plain = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store"}
    return HttpResponse(f"{words}\n", status=status, headers=plain | (headers or {}))
