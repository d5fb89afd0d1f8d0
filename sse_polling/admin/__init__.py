"""The admin: channels, which can be tuned and erased, their events, and the processes that serve them."""

from __future__ import annotations

from .channels import ChannelAdmin
from .events import EventAdmin
from .nodes import NodeAdmin

__all__ = ["ChannelAdmin", "EventAdmin", "NodeAdmin"]
