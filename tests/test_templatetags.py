"""``{% sse_url %}``: an address that loses nothing between rendering and connecting."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from django.template import Context, Template, TemplateSyntaxError

from sse_polling import cursor, publish

pytestmark = pytest.mark.django_db


def render(tag: str) -> tuple[str, dict[str, list[str]]]:
    text = Template("{% load sse_polling %}{% autoescape off %}" + tag + "{% endautoescape %}").render(
        Context()
    )
    parts = urlsplit(text)
    return parts.path, parse_qs(parts.query)


def test_one_channel_starts_where_it_stands_now() -> None:
    stored = publish("builds.42", "x")
    path, query = render('{% sse_url "builds.42" %}')
    assert path == "/events/builds.42/"
    assert query["last_event_id"] == [stored.id] == [cursor("builds.42")]
    assert query["busy"] == ["stream"]


def test_each_rendering_names_another_client() -> None:
    first, second = (render('{% sse_url "a" %}')[1]["client"][0] for _ in range(2))
    assert first != second
    assert 16 <= len(first) <= 64


def test_several_channels_have_one_cursor() -> None:
    publish("a", "x")
    path, query = render('{% sse_url "a" "b" %}')
    assert path == "/events/"
    assert query["channel"] == ["a", "b"]
    assert query["last_event_id"] == [cursor("a", "b")]


def test_since_earliest_asks_for_all_that_is_retained() -> None:
    assert render('{% sse_url "a" since="earliest" %}')[1]["last_event_id"] == ["earliest"]


def test_the_ampersands_are_escaped_in_a_page() -> None:
    assert "&amp;client=" in Template('{% load sse_polling %}{% sse_url "a" %}').render(Context())


def test_no_channel_is_an_error_in_words() -> None:
    with pytest.raises(TemplateSyntaxError, match="at least one channel"):
        render("{% sse_url %}")
