"""One server for each combination of door and server, shared by all tests of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.databases import sqlite
from tests.harness.server import AsgiServer
from tests.harness.shell import Shell
from tests.harness.site import Site
from tests.settings import MIDDLEWARE

from .served import APPLICATIONS, MOST_SOCKETS, Served

COMBINATIONS = [(door, kind) for door in APPLICATIONS for kind in ("daphne", "uvicorn")]

#: A site that has everything that breaks streams elsewhere.
STRICT_MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "tests.servers.middleware.policy",
    "django.middleware.gzip.GZipMiddleware",
    "django.middleware.http.ConditionalGetMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

#: By a channel's prefix: bursts that end as soon as all is sent, and others that hold.
STRICT_STREAMS: dict[str, Any] = {
    "AUTHORIZE": "sse_polling.access.authenticated",
    "AUTH_CACHE_SECONDS": 0,
    "BURST": {"max_events": 10, "hold_seconds": 0, "linger_seconds": 0},
    "RETRY": {"base_ms": 1000, "behind_ms": 50, "jitter": 0.3},
    "HEARTBEAT_SECONDS": 0.2,
    # Long, so that the reaper, which comes with each comparison, hides no stream that was not released.
    "SYNC_SECONDS": 15,
    # Small, so that replays come from the database as often as from memory.
    "TAIL": {"max_events": 20},
    "CHANNELS": [
        ("users.*", {}),
        ("sse_polling.*", {"AUTHORIZE": "sse_polling.access.public"}),
        ("group.*", {"AUTHORIZE": "tests.servers.rules.in_the_group"}),
        ("word.*", {"AUTHORIZE": "tests.servers.rules.with_a_word"}),
        (
            "held.*",
            {
                "AUTHORIZE": "sse_polling.access.public",
                "BURST": {"max_events": 500, "hold_seconds": 60, "linger_seconds": 60, "max_seconds": 90},
            },
        ),
        (
            "short.*",
            {
                "AUTHORIZE": "sse_polling.access.public",
                "BURST": {"max_events": 500, "hold_seconds": 0.5, "linger_seconds": 0.1, "max_seconds": 2},
            },
        ),
        (
            "open.*",
            {
                "AUTHORIZE": "sse_polling.access.public",
                # uvicorn, told to stop, waits for it.
                "BURST": {"max_events": 500, "hold_seconds": 9, "linger_seconds": 9, "max_seconds": 1.5},
            },
        ),
        (
            "huge.*",
            {
                "AUTHORIZE": "sse_polling.access.public",
                "BURST": {"max_events": 500, "max_bytes": 2**25, "hold_seconds": 60, "linger_seconds": 60},
            },
        ),
        ("*", {"AUTHORIZE": "sse_polling.access.public"}),
    ],
}


#: Sockets that are soon cut, of few clients.
FEW_SOCKETS: dict[str, Any] = {
    "MAX_SOCKETS": MOST_SOCKETS,
    "BREAKER": {"threshold": 1, "retry_after_seconds": 7},
    "AUTH_CACHE_SECONDS": 0,
    "PER_CLIENT": {"max_sockets": 2},
    "BURST": {"max_events": 10, "hold_seconds": 0, "linger_seconds": 0},
    # Longer than `stall_seconds`: with a stream's first heartbeat the kernel may cut it as soon as we do.
    "HEARTBEAT_SECONDS": 1.2,
    # Long, so that the reaper, which comes with each comparison, hides no stream that was not released.
    "SYNC_SECONDS": 15,
    "SEND": {"stall_seconds": 1, "buffer_bytes": 65_536},
    "DRAIN": {"seconds": 8, "ack_seconds": 3, "spread_seconds": 0.2},
    "CHANNELS": [
        ("users.*", {"AUTHORIZE": "sse_polling.access.authenticated"}),
        (
            "signed.held.*",
            {"AUTHORIZE": "sse_polling.access.signed", "BURST": {"hold_seconds": 60, "linger_seconds": 60}},
        ),
        (
            "held.*",
            {"BURST": {"max_events": 500, "hold_seconds": 60, "linger_seconds": 60, "max_seconds": 90}},
        ),
        (
            "huge.*",
            {"BURST": {"max_events": 500, "max_bytes": 2**25, "hold_seconds": 60, "linger_seconds": 60}},
        ),
        (
            "load.*",
            {"BURST": {"max_events": 500, "max_seconds": 0.7, "hold_seconds": 5, "linger_seconds": 0.2}},
        ),
    ],
}


@pytest.fixture(scope="session")
def strict_site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    directory = tmp_path_factory.mktemp("strict")
    databases = {name: sqlite(str(directory / f"{name}.sqlite3")) for name in ("default", "other")}
    return Site(
        directory,
        sse_polling=STRICT_STREAMS,
        django={
            "DATABASES": {name: {**each, "ATOMIC_REQUESTS": True} for name, each in databases.items()},
            "MIDDLEWARE": STRICT_MIDDLEWARE,
            "USE_I18N": True,
        },
    )


@pytest.fixture(scope="session")
def strict_shell(strict_site: Site) -> Iterator[Shell]:
    with Shell(strict_site) as shell:
        yield shell


@pytest.fixture(scope="session", params=COMBINATIONS, ids="-".join)
def served(request: pytest.FixtureRequest, strict_site: Site, strict_shell: Shell) -> Iterator[Served]:
    """Each door on each server, on a site with every middleware and ATOMIC_REQUESTS."""
    yield from _serve(request.param, strict_site, strict_shell)


@pytest.fixture(scope="session")
def small_site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    directory: Path = tmp_path_factory.mktemp("small")
    return Site(
        directory,
        sse_polling={
            "MAX_SOCKETS": 2,
            "BREAKER": {"threshold": 1, "retry_after_seconds": 7},
            "BURST": {"max_events": 10, "hold_seconds": 0, "linger_seconds": 0},
            "CHANNELS": [
                ("held.*", {"BURST": {"hold_seconds": 60, "linger_seconds": 60, "max_seconds": 90}})
            ],
            "SYNC_SECONDS": 0.5,
            "PRIMING": "data",
            "CLOSE_SOCKET": False,
        },
        django={"MIDDLEWARE": [*MIDDLEWARE, "tests.servers.middleware.stamp"]},
    )


@pytest.fixture(scope="session")
def small_shell(small_site: Site) -> Iterator[Shell]:
    with Shell(small_site) as shell:
        yield shell


@pytest.fixture(scope="session", params=COMBINATIONS, ids="-".join)
def small(request: pytest.FixtureRequest, small_site: Site, small_shell: Shell) -> Iterator[Served]:
    """Each door on each server, with room for two streams, sockets that are kept, and sync middleware."""
    yield from _serve(request.param, small_site, small_shell)


@pytest.fixture(scope="session")
def socket_site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(
        tmp_path_factory.mktemp("sockets"),
        sse_polling=FEW_SOCKETS,
        django={
            "ALLOWED_HOSTS": ["127.0.0.1", ".allowed.example"],
            "CSRF_TRUSTED_ORIGINS": ["https://*.trusted.example:8443", "http://one.example"],
        },
    )


@pytest.fixture(scope="session")
def socket_shell(socket_site: Site) -> Iterator[Shell]:
    with Shell(socket_site) as shell:
        yield shell


@pytest.fixture(scope="session", params=["daphne", "uvicorn"])
def sockets(request: pytest.FixtureRequest, socket_site: Site, socket_shell: Shell) -> Iterator[Served]:
    """The mount on both servers, with room for few, and sockets that are cut when they do not read."""
    server = AsgiServer(socket_site, kind=request.param, name=f"sockets-{request.param}").start()
    try:
        yield Served("mount", server, socket_shell)
        log = server.log()
        assert "Traceback" not in log, log[-8000:]
        assert "ERROR" not in log, log[-8000:]
    finally:
        server.kill()


def _serve(combination: tuple[Any, Any], site: Site, shell: Shell) -> Iterator[Served]:
    door, kind = combination
    server = AsgiServer(site, kind=kind, app=APPLICATIONS[door], name=f"{door}-{kind}").start()
    try:
        yield Served(door, server, shell)
        log = server.log()
        assert "Traceback" not in log, log[-8000:]
    finally:
        server.kill()
