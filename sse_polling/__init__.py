"""Polled SSE channels for Django: bursts, then a reconnect that goes on exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "Draft",
    "acursor",
    "afinish",
    "apublish",
    "apublish_many",
    "astream_writer",
    "cursor",
    "finish",
    "publish",
    "publish_many",
    "stream_writer",
]

if TYPE_CHECKING:
    from .publishing import (
        Draft,
        acursor,
        afinish,
        apublish,
        apublish_many,
        cursor,
        finish,
        publish,
        publish_many,
    )
    from .writer import astream_writer, stream_writer


def __getattr__(name: str) -> Any:
    # Models cannot be imported before the app registry is ready, and Django imports this package first.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = import_module(".writer" if name.endswith("stream_writer") else ".publishing", __name__)
    return getattr(module, name)
