"""Addresses, for ``path("events/", include("sse_polling.urls"))``."""

from __future__ import annotations

from django.urls import path

from . import views
from .metrics import metrics

app_name = "sse_polling"
urlpatterns = [
    path("", views.streams, name="streams"),
    path("ack/", views.ack, name="ack"),
    path("metrics/", metrics, name="metrics"),
    path("ready/", views.ready, name="ready"),
    path("poll/", views.polls, name="polls"),
    path("<str:channel>/", views.stream, name="stream"),
    path("<str:channel>/poll/", views.poll, name="poll"),
]
