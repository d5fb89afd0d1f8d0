"""The ASGI applications that the harness serves; DJANGO_SETTINGS_MODULE says with which settings."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

#: Django alone: the streams go through its handler and the view.
plain_application = get_asgi_application()

from sse_polling.asgi import SSEPolling  # noqa: E402  # needs the app registry that the line above fills

#: The mount in front of Django.
application = SSEPolling(plain_application)
