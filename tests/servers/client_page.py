"""A site whose page may run nothing but its own scripts, and what the JavaScript client's tests ask it."""

from __future__ import annotations

import re
from pathlib import Path

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template import Context, Template
from django.urls import path

import sse_polling
from tests.urls import urlpatterns as site_patterns

POLICY = "default-src 'none'; script-src 'self'; connect-src 'self'"
CLIENT = Path(sse_polling.__file__).parent / "static" / "sse_polling" / "client.js"
DOCUMENT = Path(__file__).parents[2] / "docs" / "clients.md"


@login_not_required
async def page(request: HttpRequest) -> HttpResponse:
    """Answer with an empty page under a strict policy."""
    return HttpResponse(
        "<!doctype html><title>client.js</title>", headers={"Content-Security-Policy": POLICY}
    )


@login_not_required
async def script(request: HttpRequest) -> HttpResponse:
    """Answer with the client, as static files do."""
    return HttpResponse(CLIENT.read_bytes(), content_type="text/javascript")


@login_not_required
async def signed(request: HttpRequest) -> HttpResponse:
    """Answer with a signed address of a channel, for so many seconds."""
    from sse_polling.access import signed_url

    url = signed_url(request.GET["channel"], max_age=float(request.GET["seconds"]))
    return HttpResponse(url, content_type="text/plain")


@login_not_required
async def drain(request: HttpRequest) -> JsonResponse:
    """Begin a drain (`?begin=`) or end it (`?end=`); answer with how its streams left so far."""
    from sse_polling.draining import ORDER, draining
    from sse_polling.lifecycle import node

    if "begin" in request.GET:
        draining.begin(ORDER)
    elif "end" in request.GET:
        draining.resume()
    return JsonResponse(dict(node.counts.farewells))


def documented(section: str, language: str) -> str:
    """Return the example that a section of docs/clients.md has in a language."""
    text = DOCUMENT.read_text(encoding="utf-8").split(f"\n## {section}\n")[1].split("\n## ")[0]
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return str(found)


@login_not_required
def news(request: HttpRequest) -> HttpResponse:
    """Answer with the documented page of a plain EventSource, or of `?script=`."""
    html = Template(documented("The browser's own EventSource", "html")).render(Context())
    html = html.replace("news.js", request.GET.get("script", "news.js"))
    return HttpResponse(f"<!doctype html>{html}", headers={"Content-Security-Policy": POLICY})


@login_not_required
async def news_script(request: HttpRequest) -> HttpResponse:
    """Answer with the documented script of a plain EventSource."""
    return HttpResponse(documented("The browser's own EventSource", "js"), content_type="text/javascript")


@login_not_required
async def polled_script(request: HttpRequest) -> HttpResponse:
    """Answer with the documented script of a PolledEventSource."""
    return HttpResponse(documented("client.js", "js"), content_type="text/javascript")


urlpatterns = [
    path("news/", news),
    path("static/news.js", news_script),
    path("static/polled.js", polled_script),
    path("static/sse_polling/client.js", script),
    path("page/", page),
    path("client.js", script),
    path("signed/", signed),
    path("drain/", drain),
    *site_patterns,
]
