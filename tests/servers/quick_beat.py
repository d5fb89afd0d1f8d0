"""The application, in a process that beats all the time, so that it hears orders at once."""

from __future__ import annotations

from importlib import import_module

from tests.asgi import application

__all__ = ["application"]

beat = import_module("sse_polling.nodes.beat")  # which needs the app registry that the line above has filled
beat.BEAT_SECONDS = 0.2  # type: ignore[attr-defined]
