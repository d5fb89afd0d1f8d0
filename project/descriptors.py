"""The limit of open files, which programs inherit from whoever starts them."""

from __future__ import annotations

import resource

__all__ = ["allow_many_files"]

OPEN_FILES = 20_000


def allow_many_files() -> None:
    """Let the servers hold a crowd, as far as the hard limit lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
