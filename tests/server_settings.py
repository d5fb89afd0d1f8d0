"""Settings for the servers that the harness starts; everything that varies comes from the environment.

DATABASE_URL            `sqlite:////path` or `postgres://…` (required)
REDIS_URL               needed by the layers `pubsub` and `core`
SSE_POLLING_LAYER       memory | pubsub | core
SSE_POLLING_JSON        merged into SSE_POLLING
DJANGO_SETTINGS_JSON    any other setting, by name, over these
"""

from __future__ import annotations

import json
import os
from typing import Any

from tests.databases import from_url
from tests.settings import *  # noqa: F403  # a settings module builds on another

DATABASES = {"default": from_url(os.environ["DATABASE_URL"])}

_LAYERS: dict[str, str] = {
    "memory": "channels.layers.InMemoryChannelLayer",
    "pubsub": "channels_redis.pubsub.RedisPubSubChannelLayer",
    "core": "channels_redis.core.RedisChannelLayer",
}
_layer = os.environ.get("SSE_POLLING_LAYER", "memory")
CHANNEL_LAYERS: dict[str, dict[str, Any]] = {"default": {"BACKEND": _LAYERS[_layer]}}
if _layer != "memory":
    CHANNEL_LAYERS["default"]["CONFIG"] = {"hosts": [os.environ["REDIS_URL"]]}

SSE_POLLING: dict[str, Any] = {
    "AUTHORIZE": "sse_polling.access.public",
    **json.loads(os.environ.get("SSE_POLLING_JSON", "{}")),
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {"sse_polling": {"level": "INFO"}},
}

globals().update(json.loads(os.environ.get("DJANGO_SETTINGS_JSON", "{}")))
