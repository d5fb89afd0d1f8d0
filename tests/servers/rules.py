"""Rules for AUTHORIZE and PER_CLIENT, as a project would write them."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group

__all__ = ["everybody", "in_the_group", "with_a_word"]


def in_the_group(request: Any, channel: str) -> bool:
    """Let those read a channel who are in the group of its name: sync, and it asks the database."""
    return Group.objects.filter(name=channel, user__pk=request.user.pk).exists()


def with_a_word(request: Any, channel: str) -> bool:
    """Let those in who say the word in the query, a header or a cookie of the session's."""
    said = request.GET.get("word") or request.headers.get("X-Word")
    return bool(said == "please" and request.scope["type"] == "http")


def everybody(request: Any) -> str:
    """Call all clients one, for PER_CLIENT."""
    return "everybody"
