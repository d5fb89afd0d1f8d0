"""The smallest project that has the app: settings for tests in pytest's own process."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from tests.databases import from_url, sqlite

SECRET_KEY = "a key for tests only"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]
USE_TZ = True
ROOT_URLCONF = "tests.urls"
ASGI_APPLICATION = "tests.asgi.application"
STATIC_URL = "static/"
LOGIN_URL = "/admin/login/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# Logging in is not what is tested here.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

INSTALLED_APPS = [
    "sse_polling",
    "channels",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# A file per run, so that two runs at once do not meet. tests/test_on_postgres.py sets the address.
DATABASE_FILE = Path(tempfile.gettempdir()) / f"sse-polling-tests-{os.getpid()}.sqlite3"
DATABASES = {
    "default": (
        from_url(os.environ["SSE_POLLING_TEST_DATABASE_URL"])
        if "SSE_POLLING_TEST_DATABASE_URL" in os.environ
        else sqlite(str(DATABASE_FILE))
    )
}
CHANNEL_LAYERS: dict[str, dict[str, Any]] = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

SSE_POLLING: dict[str, Any] = {}
