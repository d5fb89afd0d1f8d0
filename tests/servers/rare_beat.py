"""The application, in a process that beats only when it is told to look."""

from __future__ import annotations

from importlib import import_module

from tests.asgi import application

__all__ = ["application"]

beat = import_module("sse_polling.nodes.beat")  # which needs the app registry that the line above has filled
beat.BEAT_SECONDS = 3600.0  # type: ignore[attr-defined]
beat.SOCKETS_SECONDS = 0.0  # type: ignore[attr-defined]
