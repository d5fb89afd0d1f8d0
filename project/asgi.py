"""The demo's ASGI application: the streams first, then static files, then Django."""

from __future__ import annotations

import os

from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

from sse_polling.asgi import SSEPolling

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

# A real site leaves its static files to its web server; the demo has none.
application = SSEPolling(ASGIStaticFilesHandler(get_asgi_application()))
