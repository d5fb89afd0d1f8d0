"""Generated hostile requests: near misses of what is allowed, and garbage. The seed says which."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote, quote_from_bytes

__all__ = ["Hostile", "Hostility"]

#: What fills a near miss: ends of lines, NUL, brackets, what URLs and cursors are made of, odd Unicode.
ODD = (
    "\x00\r\n\t \x7f\x1b%&=?#/\\;:,<>\"'`{}[]|^~_-.*!$()+@ä\u2028\ufeff\u202e\U0001f600\ud7ff"
    + string.hexdigits
)
NUMBERS = [
    "-1",
    "0",
    "00",
    "1e3",
    "0x10",
    "9" * 19,
    "9" * 30,
    str(2**63 - 1),
    str(2**63),
    "NaN",
    "٣",
    "+1",
    " 1",
]
METHODS = [
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "HEAD",
    "OPTIONS",
    "TRACE",
    "PROPFIND",
    "get",
    "Get",
    "G-E.T",
    "M" * 60,
]
TYPES = [
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "multipart/form-data; boundary=x",
    "text/event-stream",
    "x" * 200,
    "application/json; charset=nonsense",
]


@dataclass(frozen=True, slots=True)
class Hostile:
    """One input: its bytes, and whether a server must take them for one request."""

    kind: str
    raw: bytes
    is_http: bool = True
    method: str = "GET"


class Hostility:
    """An endless source of inputs. *channels* exist, *cursors* are real."""

    def __init__(self, seed: str, *, channels: Sequence[str], cursors: Sequence[str]) -> None:
        self.rng = random.Random(seed)
        self.channels = channels
        self.cursors = cursors
        self._kinds: list[tuple[Callable[[], Hostile], int]] = [
            (self.cursor, 25),
            (self.channel, 20),
            (self.query, 20),
            (self.headers, 15),
            (self.method, 10),
            (self.garbage, 10),
        ]

    def __next__(self) -> Hostile:
        kinds, weights = zip(*self._kinds, strict=True)
        chosen: Callable[[], Hostile] = self.rng.choices(kinds, weights)[0]
        return chosen()

    # Parts

    def one_of(self, options: Sequence[str]) -> str:
        return self.rng.choice(options)

    def odd(self, most: int = 20) -> str:
        return "".join(self.rng.choices(ODD, k=self.rng.randint(0, most)))

    def near(self, text: str) -> str:
        """Return *text* with a few characters changed, taken, doubled or put in."""
        for _ in range(self.rng.randint(1, 3)):
            at = self.rng.randint(0, len(text))
            how = self.rng.randrange(5)
            if how == 0:
                text = text[:at] + self.rng.choice(ODD) + text[at:]
            elif how == 1:
                text = text[:at] + text[at + 1 :]
            elif how == 2:
                text = text[:at] + self.rng.choice(ODD) + text[at + 1 :]
            elif how == 3:
                text = text[:at] + text[: self.rng.randint(0, 2 * at)]
            else:
                text = text[:at] + self.one_of(NUMBERS) + text[at:]
        return text

    def some_cursor(self) -> str:
        how = self.rng.randrange(8)
        if how == 0:
            return self.odd(60)
        if how == 1:
            return self.one_of(["x", "9", ".", "_", "~", "-", "ä"]) * self.rng.choice(
                [1, 16, 1023, 1024, 1025, 4000]
            )
        if how == 2:
            life, sequence, tag = self.one_of(self.cursors).split(".")
            return ".".join(
                self.rng.sample([life, sequence, tag, self.one_of(NUMBERS), "-"], self.rng.randint(1, 5))
            )
        if how == 3:
            life, _, tag = self.one_of(self.cursors).split(".")
            return f"{life}.{self.one_of(NUMBERS)}.{tag}"
        if how == 4:
            parts = [
                f"{self.rng.randrange(16**12):012x}.{self.one_of(self.cursors)}"
                for _ in range(self.rng.randint(1, 12))
            ]
            return "_".join(parts)
        if how == 5:
            return self.one_of(
                ["earliest", "EARLIEST", "earliest ", "now", "null", "undefined", "0", "-.0.-", "-.1.-"]
            )
        return self.near(self.one_of(self.cursors))

    def some_channel(self) -> str:
        how = self.rng.randrange(8)
        if how == 0:
            return self.odd(30)
        if how == 1:
            return self.one_of(
                [".", "..", "...", "a/b", "../../etc/passwd", "%2e%2e", "ack", "poll", "ws", "metrics"]
            )
        if how == 2:
            return self.one_of("a.:~_-") * self.rng.choice([1, 199, 200, 201, 3000])
        if how == 3:
            return "sse_polling." + self.odd(5)
        if how == 4:
            return f"users.{self.rng.randrange(1000)}"
        return self.near(self.one_of(self.channels))

    def percent(self, text: str) -> str:
        """Return *text* for a URL: encoded as it should be, or in one of the wrong ways."""
        how = self.rng.randrange(10)
        if how == 0:
            return quote_from_bytes(text.encode("utf-16-le", "replace"), safe="")
        if how == 1:
            return quote_from_bytes(self.rng.randbytes(self.rng.randint(1, 12)), safe="")
        if how == 2:
            return quote(quote(text, safe=""), safe="")
        if how == 3:
            return quote(text, safe="") + self.one_of(
                ["%", "%z", "%0", "%00", "%ff%fe", "%u0041", "%C0%80", "%ED%A0%80"]
            )
        return quote(text, safe="")

    # Inputs

    def request(
        self,
        kind: str,
        target: str,
        *headers: tuple[str, str],
        method: str = "GET",
        body: bytes = b"",
        host: str = "127.0.0.1",
    ) -> Hostile:
        lines = [
            f"{method} {target} HTTP/1.1",
            f"Host: {host}",
            *(f"{name}: {value}" for name, value in headers),
        ]
        if body or method in ("POST", "PUT", "PATCH"):
            lines.append(f"Content-Length: {len(body)}")
        return Hostile(kind, "\r\n".join(lines).encode() + b"\r\n\r\n" + body, method=method)

    def stream(self, *query: tuple[str, str]) -> str:
        """Return the address of a stream that exists."""
        words = "&".join(f"{name}={value}" for name, value in query)
        if self.rng.randrange(4):
            return f"/events/{self.one_of(self.channels)}/?{words}"
        several = "&".join(f"channel={name}" for name in self.rng.sample(self.channels, 3))
        return f"/events/?{several}&{words}"

    def cursor(self) -> Hostile:
        cursor = self.some_cursor()
        if self.rng.randrange(2):
            return self.request("cursor", self.stream(("last_event_id", self.percent(cursor))))
        # A header cannot carry the ends of lines, NUL and such: the HTTP server's to refuse (garbage).
        sent = "".join(each for each in cursor if each.isprintable())
        return self.request("cursor", self.stream(), ("Last-Event-ID", sent))

    def channel(self) -> Hostile:
        if self.rng.randrange(3):
            end = self.one_of(["/", "/", "/", "/", "", "//", "/x/", "/poll/", "/../ready/", "/%2e%2e/"])
            return self.request("channel", f"/events/{self.percent(self.some_channel())}{end}")
        names = [self.percent(self.some_channel()) for _ in range(self.rng.choice([0, 1, 2, 9, 10, 11, 60]))]
        return self.request("channel", "/events/?" + "&".join(f"channel={name}" for name in names))

    def query(self) -> Hostile:
        name = self.one_of(
            ["channel", "last_event_id", "client", "busy", "wait", "", "x", "channel[]", "CHANNEL"]
        )
        how = self.rng.randrange(6)
        if how == 0:
            return self.request(
                "query", self.stream(*[(name, self.percent(self.odd(8)))] * self.rng.randint(2, 40))
            )
        if how == 1:
            return self.request("query", self.stream(("client", self.percent(self.odd(70)))))
        if how == 2:
            return self.request(
                "query", self.stream() + "&" * self.rng.randint(1, 1200) + "=" * self.rng.randint(0, 9)
            )
        if how == 3:
            return self.request(
                "query", self.stream() + "".join(self.rng.choices("%=&?;+/:@!$'()*,-._~a1", k=300))
            )
        if how == 4:
            return self.request("query", self.stream((name, "a" * self.rng.choice([1, 1000, 7000]))))
        return self.request("query", self.stream((name, self.percent(self.odd(60)))))

    def headers(self) -> Hostile:
        value = "".join(each for each in self.odd(60) if each.isprintable())
        how = self.rng.randrange(7)
        if how == 0:
            return self.request(
                "headers",
                self.stream(),
                ("Cookie", self.one_of(["sessionid=", "", ";;;", "a" * 3000]) + value),
            )
        if how == 1:
            host = self.one_of(
                ["", "example.org", "127.0.0.1:99999", "[::1", "a b", "127.0.0.1, evil", value.strip()]
            )
            return self.request("headers", self.stream(), host=host)
        if how == 2:
            return self.request(
                "headers", self.stream(), *[("Last-Event-ID", value)] * self.rng.randint(2, 5)
            )
        if how == 3:
            name = self.one_of(
                ["Accept", "Accept-Encoding", "Accept-Language", "Range", "If-None-Match", "Origin"]
            )
            return self.request("headers", self.stream(), (name, value))
        if how == 4:
            many = [(f"X-{number}", value) for number in range(self.rng.randint(10, 60))]
            return self.request("headers", self.stream(), *many)
        if how == 5:
            name = self.one_of(
                ["X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "X-Real-IP", "X-Original-URL"]
            )
            return self.request("headers", self.stream(), (name, value), ("X-SSE-Stream", value))
        body = self.rng.randbytes(self.rng.randint(1, 2000))
        return self.request("headers", self.stream(), ("Content-Type", self.one_of(TYPES)), body=body)

    def method(self) -> Hostile:
        method = self.one_of(METHODS)
        body = self.one_of(
            [
                "",
                "{",
                '{"channel": "a", "data": 1}',
                "channel=a&data=1",
                "--x\r\n\r\nname\r\n--x--",
                "\x00" * 50,
                "ä" * 3000,
            ]
        ).encode()
        if method in ("HEAD", "TRACE"):
            body = b""
        target = self.one_of(
            [
                "/events/",
                "/events/a/",
                "/events/ready/",
                "/events/ack/",
                "/events/poll/",
                "/events/a/?last_event_id=x",
            ]
        )
        return self.request("method", target, ("Content-Type", self.one_of(TYPES)), method=method, body=body)

    def garbage(self) -> Hostile:
        how = self.rng.randrange(6)
        good = self.request("", self.stream()).raw
        if how == 0:
            raw = self.rng.randbytes(self.rng.randint(1, 600))
        elif how == 1:
            raw = good[: self.rng.randrange(len(good))]
        elif how == 2:
            at = self.rng.randrange(len(good))
            raw = good[:at] + self.rng.randbytes(self.rng.randint(1, 4)) + good[at:]
        elif how == 3:
            lines = [
                b"Transfer-Encoding: chunked",
                b"Content-Length: 5",
                b"Content-Length: -1",
                b": x",
                b"a b: c",
                b" d: e",
            ]
            bad = b"\r\n".join(self.rng.sample(lines, self.rng.randint(1, 3)))
            raw = good[:-2] + bad + b"\r\n\r\n" + self.one_of(["0\r\n\r\n", "5\r\nab", "zz\r\n", ""]).encode()
        elif how == 4:
            first = self.one_of(
                [
                    "GET",
                    "GET  /",
                    "GET /events/a/",
                    "GET /events/a/ HTTP/9.9",
                    "GET * HTTP/1.1",
                    "GET http://[/ HTTP/1.1",
                ]
            )
            raw = first.encode() + b"\r\nHost: 127.0.0.1\r\n\r\n"
        else:
            raw = good + good[: self.rng.randrange(len(good))]
        return Hostile("garbage", raw, is_http=False)
