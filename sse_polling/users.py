"""Who is logged in, for the doors that pass by Django's middleware."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import auth
from django.core.exceptions import ValidationError
from django.utils.crypto import constant_time_compare

__all__ = ["Nobody", "session_user"]


class Nobody:
    """The user where Django's own accounts are not installed, or nobody loads them."""

    pk = None
    is_authenticated = is_active = is_staff = is_superuser = False
    is_anonymous = True


def session_user(session: Any) -> Any:
    """Return the user of a session as Django would, without ever changing the session.

    channels' own ``get_user`` does not know ``SECRET_KEY_FALLBACKS`` and flushes the session of a user
    whose hash it cannot verify: a poll during a key's rotation would log everybody out.
    """
    from django.contrib.auth.models import AnonymousUser  # importable only where auth is installed

    try:
        backend_path = session[auth.BACKEND_SESSION_KEY]
        key = auth.get_user_model()._meta.pk.to_python(session[auth.SESSION_KEY])
    except (KeyError, ValidationError):
        return AnonymousUser()
    if backend_path not in settings.AUTHENTICATION_BACKENDS:
        return AnonymousUser()
    user: Any = auth.load_backend(backend_path).get_user(key)
    if hasattr(user, "get_session_auth_hash"):
        given = session.get(auth.HASH_SESSION_KEY) or ""
        good = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
        if not any(constant_time_compare(given, each) for each in good):
            return AnonymousUser()
    return user or AnonymousUser()
