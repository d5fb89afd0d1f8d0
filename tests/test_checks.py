"""Each system check fires when it should, names the setting, has a hint, and is silent when all is right."""

from __future__ import annotations

import re
import sqlite3
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from channels.sessions import CookieMiddleware
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core import checks
from django.core.handlers.asgi import ASGIHandler
from django.db import connections

import sse_polling.checks
from sse_polling import access
from sse_polling.asgi import SSEPolling
from sse_polling.checks import database
from sse_polling.checks.server import Mounted, find_mount


def own_rule(request: Any, channel: str) -> bool:
    return True


NOT_CALLABLE = 7
OWN = f"{__name__}.own_rule"


# Not ours, but Django's own check of a JSONField asks the database whether it has such.
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def production(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that no check complains about; each test spoils one."""
    settings.DEBUG = False
    settings.SSE_POLLING = {"AUTHORIZE": OWN}
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer"}}
    settings.INSTALLED_APPS = ["daphne", *settings.INSTALLED_APPS]
    settings.ASGI_APPLICATION = "tests.asgi.application"
    monkeypatch.setitem(connections["default"].settings_dict, "CONN_MAX_AGE", 0)


def found(*ids: str) -> list[checks.CheckMessage]:
    """Return our messages, after a look at their shape; *ids* are those expected, in any order."""
    ours = [each for each in checks.run_checks() if each.id and each.id.startswith("sse_polling.")]
    assert sorted(str(each.id) for each in ours) == sorted(f"sse_polling.{name}" for name in ids)
    for each in ours:
        assert each.hint
        assert each.msg.endswith(".")
        level = {"E": checks.ERROR, "W": checks.WARNING, "I": checks.INFO}[str(each.id).split(".")[1][0]]
        assert each.level == level
    return ours


def test_good_settings_pass() -> None:
    found()


def test_no_settings_at_all_are_good_but_for_the_rule(settings: Any) -> None:
    del settings.SSE_POLLING
    found("W006")


# Values


@pytest.mark.parametrize(
    ("raw", "names"),
    [
        ({"BURSTS": {}}, "SSE_POLLING: BURSTS is not a setting"),
        ({"BURST": {"max_events": 0}}, "SSE_POLLING: BURST['max_events'] is 0"),
        ({"CHANNELS": [("a.*", {"PRESET": "fast"})]}, "SSE_POLLING: CHANNELS[0]['PRESET'] is 'fast'"),
        ([], "The setting SSE_POLLING is list, not a dict"),
        ({"TRUSTED_PROXIES": ["::1", "10.0.0.1/8"]}, "SSE_POLLING: TRUSTED_PROXIES[1] is '10.0.0.1/8'"),
    ],
)
def test_a_bad_setting_is_an_error_that_names_it(settings: Any, raw: Any, names: str) -> None:
    settings.SSE_POLLING = raw
    (message,) = found("E001")
    assert message.msg.startswith(names)


def test_every_problem_is_told_and_the_other_checks_keep_quiet(settings: Any) -> None:
    settings.SSE_POLLING = {"PRESET": "fast", "SYNC_SECONDS": -1, "AUTHORIZE": "no.such.thing", "BUDGET": 5}
    settings.CHANNEL_LAYERS = {}
    found("E001", "E001")


# Who may read


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("no.such.module", "cannot be imported: No module named 'no'"),
        ("sse_polling.access.nothing", "cannot be imported: .* define a .nothing. attribute/class"),
        ("tests.test_checks.NOT_CALLABLE", "is int and cannot be called"),
    ],
)
@pytest.mark.parametrize("where", ["AUTHORIZE", "CHANNELS[1]['AUTHORIZE']"])
def test_a_rule_that_cannot_be_called_is_an_error(settings: Any, where: str, rule: str, why: str) -> None:
    settings.SSE_POLLING = (
        {"AUTHORIZE": rule}
        if where == "AUTHORIZE"
        else {"AUTHORIZE": OWN, "CHANNELS": [("a", {"AUTHORIZE": OWN}), ("b", {"AUTHORIZE": rule})]}
    )
    (message,) = found("E002")
    assert re.fullmatch(re.escape(f"SSE_POLLING: {where} is {rule!r}, which ") + why + r"\.", message.msg)


def test_a_module_that_breaks_on_import_is_an_error_and_no_crash(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_rules.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    settings.SSE_POLLING = {"AUTHORIZE": "broken_rules.rule"}
    (message,) = found("E002")
    assert "division by zero" in message.msg


@pytest.mark.parametrize("rule", ["authenticated", "public"])
@pytest.mark.parametrize("as_path", [True, False])
def test_a_stock_rule_alone_is_warned_of_in_production(settings: Any, rule: str, as_path: bool) -> None:
    chosen = f"sse_polling.access.{rule}" if as_path else getattr(access, rule)
    settings.SSE_POLLING = {"AUTHORIZE": chosen, "CHANNELS": [("a", {"AUTHORIZE": access.public})]}
    (message,) = found("W006")
    assert f"sse_polling.access.{rule}" in message.msg
    assert message.msg.startswith("Everybody" if rule == "public" else "Every user who is logged in")
    settings.DEBUG = True
    found()


@pytest.mark.parametrize(
    "settings_that_restrict",
    [
        {"AUTHORIZE": "sse_polling.access.staff"},
        {"AUTHORIZE": own_rule},
        {"CHANNELS": [("a.*", {"AUTHORIZE": OWN})]},
        {"AUTHORIZE": "sse_polling.access.public", "CHANNELS": [("a.*", {"AUTHORIZE": access.staff})]},
    ],
)
def test_any_other_rule_is_enough(settings: Any, settings_that_restrict: dict[str, Any]) -> None:
    settings.SSE_POLLING = settings_that_restrict
    found()


# Clients


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("no.such.module", "cannot be imported: No module named 'no'"),
        (f"{__name__}.NOT_CALLABLE", "is int and cannot be called"),
    ],
)
def test_a_client_key_that_cannot_be_called_is_an_error(settings: Any, key: str, why: str) -> None:
    settings.SSE_POLLING = {"AUTHORIZE": OWN, "PER_CLIENT": {"key": key}}
    (message,) = found("E004")
    assert message.msg == f"SSE_POLLING: PER_CLIENT['key'] is {key!r}, which {why}."
    for good in (None, own_rule, OWN):
        settings.SSE_POLLING = {"AUTHORIZE": OWN, "PER_CLIENT": {"key": good}}
        found()


@pytest.mark.parametrize("everybody", ["0.0.0.0/0", "::/0"])
def test_a_trust_in_everybody_is_warned_of(settings: Any, everybody: str) -> None:
    settings.SSE_POLLING = {"AUTHORIZE": OWN, "TRUSTED_PROXIES": ["10.0.0.0/8", everybody, "unix:"]}
    (message,) = found("W010")
    assert f"TRUSTED_PROXIES has {everybody!r}" in message.msg
    settings.SSE_POLLING = {"AUTHORIZE": OWN, "TRUSTED_PROXIES": ["10.0.0.0/8", "unix:"]}
    found()


# The channel layer


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        (None, "no entry 'default'"),
        ({}, "no entry 'default'"),
        ({"other": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}, "no entry 'default'"),
        ({"default": {"BACKEND": "no.such.Layer"}}, "BACKEND 'no.such.Layer', which cannot be imported"),
        ({"default": {}}, "BACKEND None, which cannot be imported"),
    ],
)
def test_no_channel_layer_is_an_error(settings: Any, layers: Any, says: str) -> None:
    if layers is None:
        del settings.CHANNEL_LAYERS
    else:
        settings.CHANNEL_LAYERS = layers
    (message,) = found("E003")
    assert says in message.msg


def test_the_layer_that_the_settings_name_is_looked_at(settings: Any) -> None:
    settings.SSE_POLLING = {"AUTHORIZE": OWN, "CHANNEL_LAYER": "events"}
    (message,) = found("E003")
    assert "no entry 'events', which SSE_POLLING: CHANNEL_LAYER names" in message.msg
    settings.CHANNEL_LAYERS = {"events": settings.CHANNEL_LAYERS["default"]}
    found()


def test_the_in_memory_layer_is_warned_of_in_production(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    (message,) = found("W001")
    assert "CHANNEL_LAYERS['default']" in message.msg
    settings.DEBUG = True
    found()


def test_the_core_redis_layer_needs_a_capacity_of_its_own(settings: Any) -> None:
    core = {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": []}}
    settings.CHANNEL_LAYERS = {"default": core}
    (message,) = found("W002")
    assert "CHANNEL_LAYERS['default']" in message.msg
    settings.CHANNEL_LAYERS = {"default": {**core, "CONFIG": {"capacity": 5000}}}
    found()


# The database


@pytest.mark.parametrize("age", [600, 0.5, None])
def test_connections_that_stay_are_warned_of_under_asgi(
    settings: Any, monkeypatch: pytest.MonkeyPatch, age: Any
) -> None:
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", age)
    (message,) = found("W003")
    assert message.msg.startswith(f"DATABASES['default'] has CONN_MAX_AGE {age!r}")
    settings.INSTALLED_APPS = [name for name in settings.INSTALLED_APPS if name != "daphne"]
    found("W003")  # there is an ASGI_APPLICATION
    del settings.ASGI_APPLICATION
    found()


@pytest.fixture
def sqlite_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if connections["default"].vendor != "sqlite":
        pytest.skip("about SQLite")
    file = tmp_path / "site.sqlite3"
    monkeypatch.setitem(connections["default"].settings_dict, "NAME", file)
    return file


def sqlite_options(monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    whole = {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"} | options
    monkeypatch.setitem(connections["default"].settings_dict, "OPTIONS", whole)


@pytest.mark.parametrize("command", [None, "PRAGMA synchronous=NORMAL", "PRAGMA journal_mode=DELETE"])
def test_sqlite_that_does_not_log_ahead_is_warned_of(
    sqlite_file: Path, monkeypatch: pytest.MonkeyPatch, command: str | None
) -> None:
    sqlite_options(monkeypatch, init_command=command)
    found("W004")  # there is no file yet
    database = sqlite3.connect(sqlite_file)
    database.execute("CREATE TABLE x (y)")
    (message,) = found("W004")
    assert str(sqlite_file) in message.msg
    database.execute("PRAGMA journal_mode=WAL")
    database.close()
    found()  # the file itself says so, whoever has set it


@pytest.mark.parametrize("command", ["PRAGMA journal_mode=WAL;", "pragma journal_mode = wal; PRAGMA x=1"])
def test_sqlite_that_will_log_ahead_is_good(
    sqlite_file: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    sqlite_options(monkeypatch, init_command=command)
    found()


@pytest.mark.parametrize("mode", [None, "DEFERRED", "deferred"])
def test_sqlite_that_defers_its_locks_is_warned_of(
    sqlite_file: Path, monkeypatch: pytest.MonkeyPatch, mode: str | None
) -> None:
    sqlite_options(monkeypatch, transaction_mode=mode)
    (message,) = found("W005")
    assert "transaction_mode DEFERRED" in message.msg


@pytest.mark.parametrize("mode", ["IMMEDIATE", "immediate", "EXCLUSIVE"])
def test_sqlite_that_locks_at_once_is_good(
    sqlite_file: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    sqlite_options(monkeypatch, transaction_mode=mode)
    found()


@pytest.mark.parametrize("name", [":memory:", "file:x?mode=memory&cache=shared"])
def test_sqlite_in_memory_is_left_alone(
    sqlite_file: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(connections["default"].settings_dict, "NAME", name)
    monkeypatch.setitem(connections["default"].settings_dict, "OPTIONS", {})
    found()


class _PostgreSQL:
    """A connection as the check looks at it."""

    vendor = "postgresql"

    def __init__(self, host: str, **options: Any) -> None:
        self.settings_dict = {"HOST": host, "OPTIONS": options, "NAME": "x"}


@pytest.mark.parametrize(
    ("host", "options", "missing"),
    [
        ("db.example.org", {}, "connect_timeout and no tcp_user_timeout"),
        ("db.example.org", {"connect_timeout": 3}, "no tcp_user_timeout"),
        ("db.example.org", {"connect_timeout": 3, "tcp_user_timeout": 9000}, None),
        ("", {}, None),
        ("/run/postgresql", {}, None),
        ("db.example.org", {"service": "elsewhere"}, None),
    ],
)
def test_a_postgresql_that_may_wait_for_a_lost_host_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, settings: Any, host: str, options: dict[str, Any], missing: str | None
) -> None:
    monkeypatch.setattr(database, "connections", {"default": _PostgreSQL(host, **options)})
    messages = database.check_postgresql_limits()
    assert len(messages) == (missing is not None)
    assert all(missing in each.msg and each.id == "sse_polling.W008" for each in messages if missing)
    settings.DEBUG = True
    assert database.check_postgresql_limits() == []


def test_no_check_connects_to_the_database(settings: Any) -> None:
    # Without a `db` fixture pytest-django refuses every connection.
    settings.SSE_POLLING = {}
    found("W006")


# The server


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, settings: Any) -> ModuleType:
    """A module whose ``application`` daphne is told to serve."""
    module = ModuleType("tests_served_asgi")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    settings.ASGI_APPLICATION = f"{module.__name__}.application"
    return module


async def plain_function(scope: Any, receive: Any, send: Any) -> None: ...


django = ASGIHandler()


class Wrapper:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


def test_daphne_without_the_mount_is_warned_of(served: Any, settings: Any) -> None:
    served.application = django
    (message,) = found("W007")
    assert "ASGI_APPLICATION = 'tests_served_asgi.application'" in message.msg
    served.application = SSEPolling(django)
    found()
    served.application = django
    settings.INSTALLED_APPS = [name for name in settings.INSTALLED_APPS if name != "daphne"]
    found()


@pytest.mark.parametrize("path", ["no.such.module", "tests_served_asgi.missing", "", None])
def test_an_application_that_cannot_be_imported_is_daphnes_to_tell(
    served: Any, settings: Any, path: str | None
) -> None:
    settings.ASGI_APPLICATION = path
    found()


def test_an_asgi_module_that_breaks_on_import_is_no_crash(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_asgi.py").write_text("raise RuntimeError('not now')")
    monkeypatch.syspath_prepend(tmp_path)
    settings.ASGI_APPLICATION = "broken_asgi.application"
    found()


@pytest.mark.parametrize(
    ("application", "mounted"),
    [
        (django, Mounted.NO),
        (ASGIStaticFilesHandler(django), Mounted.NO),
        (Wrapper(app=django), Mounted.NO),
        (Wrapper(application=Wrapper(app=django)), Mounted.NO),
        (ProtocolTypeRouter({"http": django}), Mounted.NO),
        (ProtocolTypeRouter({"http": CookieMiddleware(django)}), Mounted.NO),
        (SSEPolling(django), Mounted.YES),
        (SSEPolling(ASGIStaticFilesHandler(django)), Mounted.YES),
        (ASGIStaticFilesHandler(SSEPolling(django)), Mounted.YES),
        (ProtocolTypeRouter({"http": SSEPolling(django), "websocket": URLRouter([])}), Mounted.YES),
        (Wrapper(app=ProtocolTypeRouter({"http": Wrapper(app=SSEPolling(django))})), Mounted.YES),
        (AllowedHostsOriginValidator(SSEPolling(django)), Mounted.YES),
        (plain_function, Mounted.UNKNOWN),
        (Wrapper(), Mounted.UNKNOWN),
        (Wrapper(app=plain_function), Mounted.UNKNOWN),
        (ProtocolTypeRouter({"websocket": django}), Mounted.UNKNOWN),
        (SimpleNamespace(app="not callable"), Mounted.UNKNOWN),
    ],
)
def test_the_mount_is_found_inside_what_wraps_it(application: Any, mounted: Mounted) -> None:
    assert find_mount(application) is mounted


def test_an_application_that_wraps_itself_is_no_endless_search(served: Any) -> None:
    application = Wrapper()
    application.app = application  # type: ignore[attr-defined]
    assert find_mount(application) is Mounted.UNKNOWN


@pytest.mark.parametrize("asgi", [None, ""])
def test_a_project_that_only_wsgi_serves_is_warned_that_nothing_holds_streams(
    settings: Any, asgi: str | None
) -> None:
    settings.WSGI_APPLICATION = "mysite.wsgi.application"
    found()
    settings.ASGI_APPLICATION = asgi
    settings.INSTALLED_APPS = [name for name in settings.INSTALLED_APPS if name != "daphne"]
    (message,) = found("W009")
    assert "WSGI_APPLICATION = 'mysite.wsgi.application'" in message.msg


# The list of them


def test_the_docstring_lists_every_check() -> None:
    source = "".join(path.read_text() for path in Path(sse_polling.checks.__path__[0]).glob("[!_]*.py"))
    used = set(re.findall(r'id="(sse_polling\.[EWI]\d{3})"', source))
    assert used == set(re.findall(r"^(sse_polling\.\w+) ", str(sse_polling.checks.__doc__), re.MULTILINE))
    tested = set(re.findall(r'(?:found\(.*?"|== "sse_polling\.)([EWI]\d{3})"', Path(__file__).read_text()))
    assert {name.removeprefix("sse_polling.") for name in used} == tested


def test_more_sockets_than_descriptors_are_noticed(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sse_polling.checks.capacity.descriptors", lambda: 1024)
    settings.SSE_POLLING |= {"MAX_SOCKETS": 896}
    found()
    settings.SSE_POLLING = {**settings.SSE_POLLING, "MAX_SOCKETS": 897}
    (message,) = found("W011")
    assert "897" in message.msg
    assert "1,025" in str(message.hint)


def test_without_a_limit_of_descriptors_any_number_fits(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sse_polling.checks.capacity.descriptors", lambda: None)
    settings.SSE_POLLING |= {"MAX_SOCKETS": 1_000_000}
    found()


def test_a_budget_that_the_breaker_cuts_off_is_noticed(settings: Any) -> None:
    settings.SSE_POLLING |= {"MAX_SOCKETS": 500, "BUDGET": 360}
    found()
    settings.SSE_POLLING = {**settings.SSE_POLLING, "BUDGET": 400}
    (message,) = found("W012")
    assert "450" in message.msg
    assert "360" in str(message.hint)


# Kept sockets


@pytest.mark.parametrize(
    ("settings_", "names"),
    [
        ({"RETRY": {"base_ms": 45_000}}, ["RETRY['base_ms'] is 45000", "50 s"]),
        ({"KEEP_ALIVE_SECONDS": 1}, ["RETRY['base_ms'] is 1000", "1 s"]),
        ({"CHANNELS": [("slow.*", {"RETRY": {"base_ms": 60_000}})]}, ["channels 'slow.*' wait 60000 ms"]),
        ({"PRESET": "reclaim", "KEEP_ALIVE_SECONDS": 2}, ["RETRY['base_ms'] is 2000"]),
        ({"CHANNELS": [("a[bc]*", {"RETRY": {"base_ms": 60_000}})]}, ["channels 'a[bc]*' wait 60000 ms"]),
        (
            {"CHANNELS": [("s*", {}), ("slow.*", {"RETRY": {"base_ms": 60_000}})]},
            ["channels 'slow.*' wait 60000 ms"],
        ),
        ({"CHANNELS": [("*", {"RETRY": {"base_ms": 60_000}})]}, [": channels '*' wait 60000 ms."]),
    ],
)
def test_a_retry_beyond_the_time_a_socket_is_kept_is_told(
    settings: Any, settings_: dict[str, Any], names: list[str]
) -> None:
    settings.SSE_POLLING = {"AUTHORIZE": OWN, "CLOSE_SOCKET": False, **settings_}
    (message,) = found("W013")
    assert all(name in message.msg for name in names), message.msg
    assert "hypercorn" in str(message.hint)
    settings.SSE_POLLING = {"AUTHORIZE": OWN, **settings_}
    found()


def test_a_budget_for_kept_sockets_is_told(settings: Any) -> None:
    settings.SSE_POLLING = {"AUTHORIZE": OWN, "CLOSE_SOCKET": False, "BUDGET": 100}
    (message,) = found("W014")
    assert "100" in message.msg
    settings.SSE_POLLING = {"AUTHORIZE": OWN, "BUDGET": 100}
    found()


# The drain


@pytest.mark.parametrize(
    ("limits", "warns"),
    [
        ({}, False),
        ({"seconds": 8}, False),
        ({"seconds": 7.9}, True),
        ({"ack_seconds": 18}, True),
        ({"seconds": 2, "ack_seconds": 1, "spread_seconds": 1}, False),
    ],
)
def test_a_drain_has_the_time_that_its_parts_take(
    settings: Any, limits: dict[str, float], warns: bool
) -> None:
    settings.SSE_POLLING = {"AUTHORIZE": OWN, "DRAIN": limits}
    found(*["W015"] * warns)


def test_kept_sockets_as_they_are_by_default_fit(settings: Any) -> None:
    settings.SSE_POLLING = {"AUTHORIZE": OWN, "CLOSE_SOCKET": False}
    found()
