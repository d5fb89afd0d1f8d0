"""Each way in which a server misbehaves has the outcome that ways.py states, in both twins."""

from __future__ import annotations

import socket

import pytest

from .conftest import Reader
from .scripted import Say, Scripted
from .ways import WAYS


@pytest.mark.parametrize("name", WAYS)
def test_what_a_server_does_wrong_has_its_stated_outcome(name: str, read: Reader) -> None:
    way = WAYS[name]
    says = [each if isinstance(each, Say) else Say(each) for each in way.says]
    with Scripted(says) as server:
        url = server.url
        if "refused" in name:
            with socket.create_server(("127.0.0.1", 0)) as nobody:
                url = f"http://127.0.0.1:{nobody.getsockname()[1]}/"
        found = read(url, **way.given)
    if way.error is None:
        assert found.error is None, found
    else:
        with pytest.raises(way.error, match=way.match):
            raise found.error or AssertionError("nothing was raised")
    assert found.data == list(way.data)
    assert found.waits == pytest.approx(list(way.waits))
    if way.cursors is not None:
        assert server.cursors == list(way.cursors)
    assert [each.target.partition("client=")[0] for each in server.requests[:1]] in ([], ["/events/a/?"])


def test_the_table_is_complete() -> None:
    assert len(WAYS) >= 30
