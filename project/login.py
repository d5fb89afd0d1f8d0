"""The demo admin's login."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth import get_user_model

from .keep import kept_secret

__all__ = ["make_login"]

USERNAME = "admin"


def make_login() -> str:
    """Make the demo's admin if there is none, and return what logs in: name and password, in words."""
    file = settings.VAR / "admin-password"
    fresh = not file.exists()
    password = kept_secret(file, 12)
    user, made = get_user_model().objects.get_or_create(
        username=USERNAME, defaults={"is_staff": True, "is_superuser": True}
    )
    if made or fresh:
        user.set_password(password)
        user.save()
    if user.check_password(password):
        return f"{USERNAME} / {password}"
    return f"{USERNAME}, with the password you gave it"
