"""Settings of the demo project.

It runs as it is for a visitor on the same machine: SQLite, and a channel layer in memory.
DATABASE_URL and REDIS_URL name a PostgreSQL and a Redis, which several processes need
(`make fleet`); REDIS_LAYER is `pubsub`, or `core` to compare. BUDGET is how many sockets a crowd may cost.

With DJANGO_DEBUG=0 it is set for the open network: it then needs DJANGO_SECRET_KEY and
DJANGO_ALLOWED_HOSTS, expects HTTPS, and reaches Redis on this machine unless told otherwise.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from django.core.exceptions import ImproperlyConfigured

from .database import database
from .keep import kept_secret
from .layer import layer


def _switch(name: str, *, default: bool) -> bool:
    return os.environ.get(name, "1" if default else "0").lower() in {"1", "true", "yes", "on"}


BASE_DIR = Path(__file__).resolve().parent.parent
VAR = Path(os.environ.get("DJANGO_VAR", BASE_DIR / "var"))
VAR.mkdir(parents=True, exist_ok=True)

DEBUG = _switch("DJANGO_DEBUG", default=True)
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY") or (kept_secret(VAR / "secret-key") if DEBUG else "")
if not SECRET_KEY:
    raise ImproperlyConfigured("With DJANGO_DEBUG=0, set DJANGO_SECRET_KEY to a long random text.")
ALLOWED_HOSTS = [host for host in os.environ.get("DJANGO_ALLOWED_HOSTS", "").split(",") if host]

INSTALLED_APPS = [
    "daphne",
    "channels",
    "sse_polling",
    "project",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "project.csp.strict_csp",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "project.urls"
ASGI_APPLICATION = "project.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        # Before the apps' own templates, so that templates/admin/base_site.html wins.
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "project.shell.manage",
            ],
        },
    },
]
# Empty: a file of its own, with nothing to set up. `make fleet` sets a PostgreSQL's.
DATABASES = {
    "default": database(os.environ.get("DATABASE_URL") or f"sqlite:///{quote(str(VAR / 'db.sqlite3'))}")
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# One process needs no Redis: other processes on the same SQLite file are noticed anyway.
REDIS_URL = os.environ.get("REDIS_URL", "" if DEBUG else "redis://127.0.0.1:6379/0")
CHANNEL_LAYERS = {"default": layer(REDIS_URL, kind=os.environ.get("REDIS_LAYER") or "pubsub")}

SSE_POLLING: dict[str, Any] = {
    "AUTHORIZE": "project.access.visitors",
    # Shorter than by default: somebody waits for ctrl-C. project/children.py gives uvicorn longer than that.
    "DRAIN": {"seconds": 15, "ack_seconds": 2, "spread_seconds": 1},
    "CHANNELS": [
        # A whole `git log --stat` of a large project, to be read from its first line.
        ("log", {"RETENTION": {"max_events": 500_000, "max_age_seconds": None}}),
        ("ask.*", {"RETENTION": {"max_events": 200, "max_age_seconds": 7 * 86_400}}),
        # A paragraph of a task is a burst, and whoever reads along comes back soon.
        (
            "task.*",
            {
                "PRESET": "live",
                "RETRY": {"base_ms": 250},
                "RETENTION": {"max_events": 500, "max_age_seconds": 7 * 86_400},
            },
        ),
        ("tasks", {"PRESET": "live", "RETENTION": {"max_events": 1_000, "max_age_seconds": 86_400}}),
        # What the plots can show of the past: a few minutes of one event a second.
        ("machine", {"RETENTION": {"max_events": 600, "max_age_seconds": 3_600}}),
        ("server", {"RETENTION": {"max_events": 600, "max_age_seconds": 3_600}}),
        ("crowd.stats", {"RETENTION": {"max_events": 600, "max_age_seconds": 3_600}}),
        ("crowd", {"RETENTION": {"max_events": 3_600, "max_age_seconds": 3_600}}),
    ],
}
# Django's own framework reads this, and before Django 6.0 its backport does.
TASKS = {"default": {"BACKEND": "project.tasks.backend.TableBackend", "QUEUES": ["agents", "readers"]}}
# How long a worker may be silent before others take over what it had; it beats five times as often.
TASK_LEASE_SECONDS = float(os.environ.get("TASK_LEASE", "6"))
# Between two steps, for people who read along; and where an agent that reads another finds the site.
TASK_PACE_SECONDS = float(os.environ.get("TASK_PACE", "0.6"))
TASK_SERVER_URL = os.environ.get("TASK_SERVER_URL", "http://127.0.0.1:8000")

if _budget := os.environ.get("BUDGET"):
    if not _budget.isdecimal():
        raise ImproperlyConfigured(f"BUDGET is a number of sockets, such as 50; got {_budget!r}.")
    SSE_POLLING["BUDGET"] = int(_budget)

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
STATIC_ROOT = VAR / "static"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"short": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "short"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {
        # Django's own console handler would say everything twice.
        "django": {"handlers": [], "level": "WARNING"},
        "project": {"level": "INFO"},
        "sse_polling": {"level": "INFO"},
    },
}

X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
if not DEBUG:
    SECURE_SSL_REDIRECT = _switch("DJANGO_SSL_REDIRECT", default=True)
    SECURE_HSTS_SECONDS = int(os.environ.get("DJANGO_HSTS_SECONDS", str(365 * 86_400)))
    SECURE_HSTS_INCLUDE_SUBDOMAINS = _switch("DJANGO_HSTS_SUBDOMAINS", default=True)
    SECURE_HSTS_PRELOAD = _switch("DJANGO_HSTS_PRELOAD", default=True)
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _switch("DJANGO_SECURE_COOKIES", default=True)
    if _switch("DJANGO_BEHIND_PROXY", default=False):
        SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
