"""The pages of docs/clients.md, made of nothing but what stands there."""

from __future__ import annotations

import re
from pathlib import Path

from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.urls import path
from django.utils.html import format_html

import sse_polling
from sse_polling.access import signed_url
from tests.harness.site import ROOT
from tests.urls import urlpatterns as site_patterns

__all__ = ["CLIENT", "DOCUMENT", "blocks"]

DOCUMENT = ROOT / "docs/clients.md"
CLIENT = Path(sse_polling.__file__).parent / "static" / "sse_polling" / "client.js"
SIGNED_SECONDS = 1.5


def blocks(language: str) -> list[str]:
    """Return the document's examples of a language, in its order."""
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)


def page(request: HttpRequest, name: str) -> HttpResponse:
    """Answer with the page of one of the three scripts."""
    if name == "news":
        (template,) = blocks("html")
        return HttpResponse("<!doctype html>" + engines["django"].from_string(template).render({}, request))
    source = signed_url("build.42", max_age=SIGNED_SECONDS)
    return HttpResponse(
        format_html(
            '<!doctype html><body data-source="{}"><script type="module" src="/static/{}.js"></script>',
            source,
            name,
        )
    )


def script(request: HttpRequest, name: str) -> HttpResponse:
    """Answer with a script, as static files do."""
    scripts = dict(zip(("news", "client", "signed"), blocks("js"), strict=True))
    code = CLIENT.read_text() if name == "sse_polling/client" else scripts[name]
    return HttpResponse(code, content_type="text/javascript")


def address(request: HttpRequest, number: int) -> HttpResponse:
    """Answer with a new signed address, for a while that is longer than the test."""
    return HttpResponse(signed_url(f"build.{number}", max_age=600), content_type="text/plain")


urlpatterns = [
    path("page/<name>/", page),
    path("static/<path:name>.js", script),
    path("builds/<int:number>/address/", address),
    *site_patterns,
]
