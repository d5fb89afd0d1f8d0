"""Where a stream is, and where its goodbyes go."""

from __future__ import annotations

import secrets
from urllib.parse import parse_qs, urlsplit

import httpx

__all__ = ["Address", "place"]


class Address:
    """The address of a stream. *names_itself*: with a ``client=`` of its own, unless it has one.

    A server that drains waits for those alone that have named themselves. The rest of the address stays as
    it is, to the letter: it may be signed. Raises ``httpx.InvalidURL``.
    """

    def __init__(self, url: str | httpx.URL, *, names_itself: bool) -> None:
        try:
            parts = urlsplit(str(httpx.URL(url)))
        except ValueError as error:
            raise httpx.InvalidURL(f"{error}: {str(url)[:200]!r}") from None
        query = parse_qs(parts.query)
        self.channels = frozenset(query.get("channel", ()))
        self.client: str | None = query.get("client", [None])[-1]
        if names_itself and self.client is None:
            self.client = secrets.token_urlsafe(18)
            more = f"client={self.client}"
            parts = parts._replace(query=f"{parts.query}&{more}" if parts.query else more)
        self.url = parts._replace(fragment="").geturl()

    @property
    def origin(self) -> str:
        """The server, whatever is asked of it."""
        return str(httpx.URL(self.url).copy_with(raw_path=b"/", userinfo=b""))

    def goodbye(self, answered: httpx.URL, stream: str | None) -> tuple[httpx.URL, dict[str, str]] | None:
        """Return where to post the ack of the stream of that id, and what; None if nowhere.

        *answered* is the address that a stream came from after redirects: credentials go to no other host,
        and letting go of the socket is an ack as well.
        """
        if _origin(answered) != _origin(httpx.URL(self.url)):
            return None
        if stream is None and self.client is None:
            return None
        form = {"stream": stream} if stream is not None else {"client": self.client or ""}
        return answered.join("ack/" if self.channels else "../ack/"), form


def place(url: httpx.URL) -> str:
    """Return *url* as a message may show it: its password, signature and token are nobody else's."""
    return f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}{url.path}"


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
