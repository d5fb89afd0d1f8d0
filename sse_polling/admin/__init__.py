"""The admin: channels, which can be tuned and erased, and their events, which can be read."""

from __future__ import annotations

from .channels import ChannelAdmin
from .events import EventAdmin

__all__ = ["ChannelAdmin", "EventAdmin"]
