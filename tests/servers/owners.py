"""A rule for AUTHORIZE: whose name a channel begins with may read it."""

from __future__ import annotations

from typing import Any

__all__ = ["owned"]


async def owned(request: Any, channel: str) -> bool:
    return bool(request.user.is_authenticated and channel.startswith(f"{request.user.get_username()}."))
