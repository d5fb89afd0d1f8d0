"""The ASGI applications that the harness serves; DJANGO_SETTINGS_MODULE says with which settings."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

# As in the README: the import stands first, before the app registry is ready.
from sse_polling.asgi import SSEPolling

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

#: Django alone: the streams go through its handler and the view.
plain_application = get_asgi_application()

#: The mount in front of Django.
application = SSEPolling(plain_application)
