"""Acks: a client's answer to ``close``, brought to the process that asked for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from . import hub
from .connections import registry
from .wake import sender

__all__ = ["InvalidAck", "ack"]

_STREAM = re.compile(r"[A-Za-z0-9_-]{24}")
_CLIENT = re.compile(r"[A-Za-z0-9_-]{16,64}")


class InvalidAck(ValueError):
    """It names no stream and no client, or not as one is named."""


def ack(given: Mapping[str, Any]) -> bool:
    """Take the ack that names ``stream`` or ``client``; tell whether a stream of this process heard it.

    If none did, all other processes are told. Only streams that were told to close listen. Raises
    :exc:`InvalidAck`.
    """
    stream, client = given.get("stream"), given.get("client")
    if (stream is None) == (client is None):
        raise InvalidAck("Expected stream=<the X-SSE-Stream header> or client=<the client of the address>.")
    if stream is not None and not _STREAM.fullmatch(stream):
        raise InvalidAck("stream is the 24 characters of the X-SSE-Stream header.")
    if client is not None and not _CLIENT.fullmatch(client):
        raise InvalidAck(f"client has 16 to 64 letters, digits, _ or -; got {len(client)} characters.")
    if registry.ack(stream=stream, client=client):
        return True
    sender.post({"ack": {"stream": stream} if stream is not None else {"client": client}})
    return False


def _heard(message: dict[str, Any]) -> None:
    told = message.get("ack")
    if isinstance(told, dict):
        stream, client = told.get("stream"), told.get("client")
        if isinstance(stream, str):
            registry.ack(stream=stream)
        elif isinstance(client, str):
            registry.ack(client=client)


hub.on_fleet.append(_heard)
