"""Addresses with a password in them, made fit to be shown."""

from __future__ import annotations

import re

__all__ = ["without_password"]


def without_password(address: str) -> str:
    """Return *address* as a message may show it: whatever may be a password is dots.

    Also where it is no proper address: a password often is what made it improper, by a `/` or an `@`
    that nobody quoted. So all from `://` to the last `@` goes, and what has no `://` is not shown.
    """
    scheme, found, rest = address.partition("://")
    if not found or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        return f"a text of {len(address)} characters that does not start with a scheme and ://"
    secrets, at, rest = rest.rpartition("@")
    if secrets:
        user, colon, _password = secrets.partition(":")
        secrets = f"{user}:…" if colon else "…"
    rest = re.sub(r"(?i)(pass[a-z]*=)[^&]*", r"\1…", rest)
    return f"{scheme}://{secrets}{at}{rest}"
