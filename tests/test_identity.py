"""Who a client is: the address behind proxies, and the name that its streams are counted by."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.http import QueryDict

from sse_polling import access
from sse_polling.conf import get_config
from sse_polling.door import answer
from sse_polling.hub import Hub
from sse_polling.identity import Proxies, client_key
from sse_polling.rules import problems
from sse_polling.users import Nobody

TRUSTED = Proxies.parse(["10.0.0.0/8", "127.0.0.1", "2001:db8:ffff::/48", "unix:"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.1", "1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", "6.6.6.6, 1.2.3.4", "1.2.3.4"),  # the left one is what the client wrote itself
        ("10.0.0.1", "6.6.6.6,1.2.3.4 , 10.9.9.9,\t127.0.0.1", "1.2.3.4"),
        ("10.0.0.1", "10.0.0.7, 10.0.0.8", "10.0.0.7"),  # all are trusted: the first one asked
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", None, "10.0.0.1"),
        # A peer that is not trusted: its header is not read.
        ("9.9.9.9", "1.2.3.4", "9.9.9.9"),
        ("9.9.9.9", "10.0.0.1", "9.9.9.9"),
        ("2001:db8::1", "1.2.3.4", "2001:db8::1"),
        ("testclient", "1.2.3.4", "testclient"),
        # What cannot be read ends the walk at the last address that could.
        ("10.0.0.1", "1.2.3.4, unknown", "10.0.0.1"),
        ("10.0.0.1", "1.2.3.4, unknown, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "1.2.3.4,, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "1.2.3.4, 10.0.0.256", "10.0.0.1"),
        ("10.0.0.1", "1.2.3.4, <script>", "10.0.0.1"),
        ("10.0.0.1", "1.2.3.4, _hidden, 10.0.0.2", "10.0.0.2"),
        # Spellings
        ("10.0.0.1", "1.2.3.4:5678", "1.2.3.4"),
        ("10.0.0.1", "[2001:db8::1]:5678", "2001:db8::1"),
        ("10.0.0.1", "[2001:db8::1]", "2001:db8::1"),
        ("10.0.0.1", "2001:DB8:0::1", "2001:db8::1"),
        ("2001:db8:ffff::9", "1.2.3.4, 2001:db8:ffff::1", "1.2.3.4"),
        ("::ffff:10.0.0.1", "::ffff:1.2.3.4", "1.2.3.4"),  # a server that listens on [::]
        # A Unix socket has no address.
        (None, "1.2.3.4", "1.2.3.4"),
        ("", "1.2.3.4", "1.2.3.4"),
        ("unix:", "6.6.6.6, 1.2.3.4", "1.2.3.4"),
        (None, "1.2.3.4, unix:", "1.2.3.4"),
        (None, None, None),
        (None, "unknown", None),
    ],
)
def test_the_client_is_the_first_from_the_right_whom_nobody_vouches_for(
    peer: str | None, forwarded: str | None, client: str | None
) -> None:
    assert TRUSTED.client_address(peer, forwarded) == client


def test_without_trusted_proxies_the_peer_is_taken_as_it_is() -> None:
    nobody = Proxies.parse([])
    assert not nobody
    for peer in ("9.9.9.9", "::ffff:1.2.3.4", "testclient", None):
        assert nobody.client_address(peer, "1.2.3.4") == peer


def test_a_unix_socket_is_trusted_only_if_it_is_named() -> None:
    assert Proxies.parse(["10.0.0.1"]).client_address(None, "1.2.3.4") is None


def test_an_endless_chain_of_hops_is_not_walked_to_its_end() -> None:
    assert TRUSTED.client_address("10.0.0.1", "1.2.3.4" + ", 10.0.0.2" * 5000) == "10.0.0.2"


@pytest.mark.parametrize("bad", ["10.0.0.1/8", "proxy.example.org", "", " 10.0.0.1", 5, None, "10.0.0.0/33"])
def test_what_is_no_proxy_is_a_problem_that_says_what_was_expected(bad: Any) -> None:
    (problem,) = problems({"TRUSTED_PROXIES": ["127.0.0.1", bad]})
    assert problem.where == "TRUSTED_PROXIES[1]"
    assert problem.message == f"is {bad!r}"
    assert "Expected an address" in problem.hint


@pytest.mark.parametrize("bad", [None, "127.0.0.1", 5, {"127.0.0.1"}])
def test_proxies_are_a_list(bad: Any) -> None:
    (problem,) = problems({"TRUSTED_PROXIES": bad})
    assert (problem.where, problem.hint) == ("TRUSTED_PROXIES", "Expected a list of addresses or networks.")


@pytest.mark.parametrize(
    ("raw", "where"),
    [
        ({"max_sockets": 0}, "PER_CLIENT['max_sockets']"),
        ({"max_sockets": None}, "PER_CLIENT['max_sockets']"),
        ({"key": "nothing"}, "PER_CLIENT['key']"),
        ({"key": 5}, "PER_CLIENT['key']"),
    ],
)
def test_a_limit_that_cannot_be_is_a_problem(raw: Any, where: str) -> None:
    (problem,) = problems({"PER_CLIENT": raw})
    assert problem.where == where


def test_a_mapped_network_trusts_its_ipv4_addresses() -> None:
    assert Proxies.parse(["::ffff:10.0.0.0/104"]).client_address("10.0.0.1", "1.2.3.4") == "1.2.3.4"


@pytest.mark.parametrize(
    ("who", "key"),
    [
        ({"user": "7", "subject": "s", "address": "1.2.3.4"}, "user:7"),
        ({"subject": "s", "address": "1.2.3.4"}, "subject:s"),
        ({"address": "1.2.3.4"}, "address:1.2.3.4"),
        ({"address": "::ffff:1.2.3.4"}, "address:1.2.3.4"),
        ({"address": "2001:db8:1:2:3:4:5:6"}, "address:2001:db8:1:2::/64"),
        ({"address": "2001:db8:1:2::1"}, "address:2001:db8:1:2::/64"),
        ({"address": "fe80::1%eth0"}, "address:fe80::/64"),
        ({"address": "testclient"}, None),
        ({}, None),
    ],
)
def test_a_client_is_its_user_else_its_subject_else_its_address(who: dict[str, str], key: str | None) -> None:
    assert client_key(**{"user": None, "subject": None, "address": None, **who}) == key


# As the doors ask


@pytest.fixture(autouse=True)
def _fresh() -> None:
    access.cache.clear()
    asked.clear()


asked: list[Any] = []


def tenant(request: Any) -> Any:
    asked.append(request.user.pk)
    return request.headers.get("X-Tenant")


async def async_tenant(request: Any) -> Any:
    return tenant(request)


def nobody_at_all(request: Any) -> Any:
    raise PermissionDenied


async def key(*, user: int | None = None, address: str = "1.2.3.4", **headers: str) -> Any:
    request: Any = SimpleNamespace(
        user=None,
        GET=QueryDict(""),
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        scope={},
    )
    flags = {"is_authenticated": user is not None, "is_active": True, "is_staff": False}

    async def load() -> Any:
        return SimpleNamespace(pk=user, **flags)

    config = get_config()
    visitor = await access.authorize(
        request,
        ["a"],
        address=address,
        door="test",
        headers={name.lower(): value for name, value in request.headers.items()},
        effective=config.effective,
        config=config,
        load_user=load,
        asking=nullcontext(),
    )
    return visitor and visitor.key


PUBLIC = {"AUTHORIZE": "sse_polling.access.public"}


async def test_an_anonymous_address_counts_only_behind_trusted_proxies(settings: Any) -> None:
    settings.SSE_POLLING = PUBLIC
    assert await key(user=7) == "user:7"
    assert await key(user=None, X="2") is None
    access.cache.clear()
    settings.SSE_POLLING = {**PUBLIC, "TRUSTED_PROXIES": ["127.0.0.1"]}
    assert await key(user=7) == "user:7"
    assert await key(user=None, X="2") == "address:1.2.3.4"
    assert await key(user=None, X="2", address="1.2.3.5") == "address:1.2.3.5"


@pytest.mark.django_db(transaction=True)  # the thread it runs in may have a connection already
@pytest.mark.parametrize("rule", [tenant, async_tenant, f"{__name__}.tenant", f"{__name__}.async_tenant"])
async def test_a_key_of_the_sites_own_says_who_a_client_is(settings: Any, rule: Any) -> None:
    settings.SSE_POLLING = {**PUBLIC, "PER_CLIENT": {"key": rule}, "TRUSTED_PROXIES": ["127.0.0.1"]}
    assert await key(user=7, X_Tenant="acme") == "acme"
    assert await key(user=7) is None  # without a limit
    assert asked == [7, 7]


async def test_who_a_client_is_is_remembered_with_the_yes(settings: Any) -> None:
    settings.SSE_POLLING = {**PUBLIC, "PER_CLIENT": {"key": async_tenant}}
    for _ in range(3):
        assert await key(user=7, X_Tenant="acme") == "acme"
        assert await key(user=8, X_Tenant="other") == "other"
    assert asked == [7, 8]
    settings.SSE_POLLING = {**PUBLIC, "PER_CLIENT": {"key": None}}
    assert await key(user=7, X_Tenant="acme") == "user:7"


async def test_a_number_is_a_key_too(settings: Any) -> None:
    async def number(request: Any) -> Any:
        return request.user.pk

    settings.SSE_POLLING = {**PUBLIC, "PER_CLIENT": {"key": number}}
    assert await key(user=7) == "7"


@pytest.mark.django_db(transaction=True)
async def test_a_key_that_refuses_is_a_no(settings: Any) -> None:
    settings.SSE_POLLING = {**PUBLIC, "PER_CLIENT": {"key": nobody_at_all}}
    assert await key(user=7) is None


# As a whole


@pytest.mark.django_db(transaction=True)
async def test_rules_and_operators_see_the_address_behind_the_proxies(settings: Any) -> None:
    seen: list[Any] = []

    async def rule(request: Any, channel: str) -> bool:
        seen.append(request.address)
        return True

    settings.SSE_POLLING = {"AUTHORIZE": rule, "TRUSTED_PROXIES": ["127.0.0.1"]}
    headers = {"X-Forwarded-For": "6.6.6.6, 1.2.3.4"}
    for peer, client in [("127.0.0.1", "1.2.3.4"), ("9.9.9.9", "9.9.9.9"), (None, None)]:
        request: Any = SimpleNamespace(
            user=None,
            GET=QueryDict(""),
            headers=headers,
            plain_headers={name.lower(): value for name, value in headers.items()},
            scope={},
            door="test",
            address=peer,
        )

        async def load() -> Any:
            return Nobody()

        request.load_user = load
        given = await answer(request, ["a"], several=False)
        assert given.stream is not None
        assert seen.pop() == client
        assert given.stream.connection.address == client
        assert given.stream.connection.key == (client and f"address:{client}")
        given.stream.close()
    Hub.current().stop()
