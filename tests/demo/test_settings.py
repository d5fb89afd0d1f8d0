"""DATABASE_URL, REDIS_URL and REDIS_LAYER: read whole when they are good, refused in words when not."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured
from redis.asyncio import ConnectionPool

from project.address import without_password
from project.database import POSTGRESQL, SQLITE, database
from project.layer import BACKENDS, layer
from project.programs.postgres import Postgres
from tests.harness.site import ROOT


def test_a_postgresql_address_is_read_whole_and_a_lost_host_is_noticed() -> None:
    entry = database(
        "postgres://an%40user:p%2Fw%C3%A9@db.example:6432/events?sslmode=require&connect_timeout=9"
    )
    assert entry["ENGINE"] == "django.db.backends.postgresql"
    named = {key: entry[key] for key in ("USER", "PASSWORD", "HOST", "PORT", "NAME")}
    assert named == {
        "USER": "an@user",
        "PASSWORD": "p/wé",
        "HOST": "db.example",
        "PORT": 6432,
        "NAME": "events",
    }
    assert entry["CONN_MAX_AGE"] == 0
    # What the address says wins over what it leaves out.
    assert entry["OPTIONS"] == {**POSTGRESQL, "sslmode": "require", "connect_timeout": 9}
    assert entry["OPTIONS"]["tcp_user_timeout"] == 10_000, "milliseconds"


def test_libpq_takes_the_options_and_the_kernel_has_them(shared_postgres: Postgres) -> None:
    entry = database(shared_postgres.url())
    with (
        psycopg.connect(
            host=entry["HOST"], port=entry["PORT"], user=entry["USER"], dbname="postgres", **entry["OPTIONS"]
        ) as connection,
        socket.socket(fileno=os.dup(connection.fileno())) as wire,
    ):
        assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000
        assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 4


def test_a_sqlite_address_keeps_what_lets_many_write() -> None:
    entry = database("sqlite:////srv/a%20b.sqlite3?timeout=5")
    assert entry["NAME"] == "/srv/a b.sqlite3"
    assert entry["OPTIONS"] == {**SQLITE, "timeout": 5}
    assert entry["OPTIONS"]["transaction_mode"] == "IMMEDIATE"


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("postgres://u:s3cret@host:port/name", "cannot be read: postgres://u:…@host:port/name"),
        ("postgres://u:s3/cr@et@host/name", "cannot be read: postgres://u:…@host/name"),
        ("postgres://u:s3cret@host", "names no database: postgres://u:…@host"),
        ("mysql://u:s3cret@host/name", "is not tested with: mysql://u:…@host/name"),
        ("mongo://u:s3cret@host/name", "cannot be read: mongo://u:…@host/name"),
        ("sqlite://", "names no file"),
        ("sqlite://:memory:", "names no file"),
        ("s3cret", "a text of 6 characters"),
        ("host=db password=s3cret", "does not start with a scheme"),
        ("postgres://u@host:x/n?password=s3cret&b=1", "password=…&b=1"),
    ],
)
def test_a_bad_database_address_is_refused_without_its_password(url: str, complaint: str) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        database(url)
    message = str(caught.value)
    assert message.startswith("DATABASE_URL ")
    assert complaint in message
    assert "Expected postgres://" in message
    assert "s3" not in message


def test_redis_wakes_through_pubsub_unless_asked_otherwise() -> None:
    assert layer("")["BACKEND"] == "channels.layers.InMemoryChannelLayer"
    for kind, backend in BACKENDS.items():
        entry = layer("redis://:pw@cache.example:6380/3", kind=kind)
        assert entry["BACKEND"] == backend
        (host,) = entry["CONFIG"]["hosts"]
        # The core layer's own wait of 5 s must fit into an answer's time.
        assert host["socket_timeout"] > 5
        pool = ConnectionPool.from_url(host.pop("address"), **host)
        assert pool.connection_kwargs["db"] == 3
        assert pool.connection_kwargs["socket_keepalive_options"][socket.TCP_USER_TIMEOUT] == 10_000
        assert ("capacity" in entry["CONFIG"]) is (kind == "core")
    assert layer("redis://localhost")["BACKEND"] == BACKENDS["pubsub"]


def test_a_unix_socket_is_given_nothing_that_only_tcp_has() -> None:
    (host,) = layer("unix:///run/redis.sock?db=2")["CONFIG"]["hosts"]
    connection = ConnectionPool.from_url(host.pop("address"), **host).make_connection()
    assert connection.path == "/run/redis.sock"


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://u:s3cret@host", "is no address of a Redis: http://u:…@host"),
        ("redis://:s3cret@host:port/0", "cannot be read: redis://:…@host:port/0"),
        ("redis://:s3/cret@host/0", "redis://:…@host/0"),
        ("redis:///0", "names no server"),
        ("unix://", "names no server"),
        ("redis://host/first", "names a database that is no number"),
        ("localhost:6379", "does not start with a scheme"),
    ],
)
def test_a_bad_redis_address_is_refused_without_its_password(url: str, complaint: str) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        layer(url)
    message = str(caught.value)
    assert message.startswith("REDIS_URL ")
    assert complaint in message
    assert "Expected redis://" in message
    assert "s3" not in message


def test_a_layer_that_is_not_known_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"REDIS_LAYER is 'kafka'\. Expected pubsub or core"):
        layer("redis://localhost", kind="kafka")


def test_nothing_of_a_password_is_shown() -> None:
    assert without_password("postgres://u:p@h/n") == "postgres://u:…@h/n"
    assert without_password("postgres://token@h/n") == "postgres://…@h/n"
    assert without_password("postgres://h/n?sslpassword=p&a=b") == "postgres://h/n?sslpassword=…&a=b"
    assert without_password("://pass").startswith("a text of 7 characters")


def test_a_site_with_a_bad_address_does_not_start(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "check"],
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "DJANGO_VAR": str(tmp_path),
            "DATABASE_URL": "postgres://u:s3cret@db:x/events",
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode != 0
    assert "ImproperlyConfigured: DATABASE_URL cannot be read: postgres://u:…@db:x/events" in done.stderr
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize(
    ("given", "words"), [("50", ""), ("many", "BUDGET is a number of sockets, such as 50; got 'many'")]
)
def test_a_budget_is_read_or_refused_in_words(tmp_path: Path, given: str, words: str) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "check"],
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "DJANGO_VAR": str(tmp_path),
            "BUDGET": given,
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode == 0) == (words == ""), done.stderr
    assert words in done.stderr
