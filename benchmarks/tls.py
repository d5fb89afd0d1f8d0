"""What a poll costs over TLS: a new connection each time, a resumed session, a kept one; direct and by nginx.

    .venv/bin/python -m benchmarks.tls [--polls 600] [--rounds 3]

One client polls a warm channel ten events behind its head (preset `reclaim`), one poll after another. Counted
is the processor time of the server (uvicorn, and nginx where it stands in front and ends TLS) and how long a
poll takes from before the connect to the last byte. TLS 1.3, an ECDSA P-256 certificate made with openssl.
`kept`: the client sends its next poll over the same connection, as a browser does where it was not closed:
direct that is `CLOSE_SOCKET: False`, behind nginx it is so in any case, since nginx keeps the client's
connection and closes only its own to the server. Only loopback is used.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import ssl
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from project.programs.nginx import Nginx
from project.programs.ports import HOST
from tests.harness.server import AsgiServer
from tests.harness.site import Site

TICK = os.sysconf("SC_CLK_TCK")


class SecureNginx(Nginx):
    """It ends TLS; the certificate stands in its directory."""

    template = Nginx.template.replace(
        "listen {host}:{port};",
        "listen {host}:{port} ssl;\n        ssl_certificate {directory}/cert.pem;\n"
        "        ssl_certificate_key {directory}/key.pem;\n        ssl_session_cache shared:s:1m;\n"
        "        keepalive_requests 100000;",
    )


@dataclass(frozen=True, slots=True)
class Case:
    """*where*: the server's or nginx's port. *session*: what the client keeps from one poll to the next."""

    name: str
    where: str
    session: str


CASES = (
    Case("plain, closed", "plain", "none"),
    Case("plain, kept", "plain kept", "kept"),
    Case("TLS, closed", "tls", "none"),
    Case("TLS, closed, session resumed", "tls", "resumed"),
    Case("TLS, kept", "tls kept", "kept"),
    Case("nginx: TLS, new connection", "nginx", "none"),
    Case("nginx: TLS, session resumed", "nginx", "resumed"),
    Case("nginx: TLS, kept", "nginx", "kept"),
)


class Client:
    """One client's polls, by blocking sockets."""

    def __init__(self, port: int, *, secure: bool, session: str) -> None:
        self.port = port
        self.session = session
        self.context: ssl.SSLContext | None = None
        if secure:
            self.context = ssl.create_default_context()
            self.context.check_hostname = False
            self.context.verify_mode = ssl.CERT_NONE
        self._ticket: ssl.SSLSession | None = None
        self._kept: socket.socket | None = None
        self.connects = 0

    def poll(self) -> None:
        connection, self._kept = self._kept or self._connect(), None
        connection.sendall(
            b"GET /events/warm/?last_event_id=earliest HTTP/1.1\r\nHost: localhost\r\n"
            b"Accept: text/event-stream\r\n\r\n"
        )
        body = b""
        while not body.endswith(b"\r\n0\r\n\r\n"):
            more = connection.recv(65_536)
            if not more:
                break
            body += more
        if b"data: 9\n" not in body:
            raise AssertionError(f"not a burst: {body[:500]!r}")
        if isinstance(connection, ssl.SSLSocket):
            self._ticket = connection.session  # known once something was read
        if self.session == "kept":
            self._kept = connection
        else:
            connection.close()

    def _connect(self) -> socket.socket:
        self.connects += 1
        raw = socket.create_connection((HOST, self.port), timeout=10)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.context is None:
            return raw
        ticket = self._ticket if self.session == "resumed" else None
        secure = self.context.wrap_socket(raw, server_hostname="localhost", session=ticket)
        if ticket is not None and not secure.session_reused:
            raise AssertionError("the session was not resumed")
        return secure


def processor_seconds(server: AsgiServer, nginx: Nginx | None) -> tuple[float, float]:
    """Return what the server has used, and nginx's worker."""
    return server.cpu_seconds(), sum(_seconds(pid) for pid in _children(nginx.pid)) if nginx else 0.0


def _children(pid: int) -> Iterator[int]:
    """Yield nginx's workers: the children of the process and of its own children."""
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            yield child
            yield from _children(child)


def _seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--polls", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found: dict[Case, list[tuple[float, float, float]]] = {case: [] for case in CASES}
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        directory = Path(temporary)
        subprocess.run(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 "
            f"-subj /CN=localhost -keyout {directory}/key.pem -out {directory}/cert.pem".split(),
            check=True,
            capture_output=True,
        )
        secure = ["--ssl-keyfile", f"{directory}/key.pem", "--ssl-certfile", f"{directory}/cert.pem"]
        quiet = ["--no-access-log", "--log-level", "warning"]
        servers: dict[str, AsgiServer] = {}
        for name in ("plain", "plain kept", "tls", "tls kept"):
            own = directory / name.replace(" ", "-")
            own.mkdir()
            site = Site(own, sse_polling={"PRESET": "reclaim", "CLOSE_SOCKET": "kept" not in name})
            arguments = [*quiet, *(secure if "tls" in name else [])]
            servers[name] = stack.enter_context(AsgiServer(site, kind="uvicorn", arguments=arguments))
            site.python(
                "from sse_polling import publish_many\npublish_many('warm', [str(n) for n in range(10)])"
            )
        nginx = stack.enter_context(SecureNginx(directory, [servers["plain"].port]))
        for number in range(options.rounds):
            for case, figures in found.items():
                front = nginx if case.where == "nginx" else None
                server = servers["plain" if front else case.where]
                client = Client(
                    front.port if front else server.port,
                    secure=front is not None or "tls" in case.where,
                    session=case.session,
                )
                for _ in range(50):
                    client.poll()
                before, times = processor_seconds(server, front), []
                connects = client.connects
                for _ in range(options.polls):
                    began = time.perf_counter()
                    client.poll()
                    times.append(time.perf_counter() - began)
                after = processor_seconds(server, front)
                if (client.connects == connects) != (case.session == "kept"):
                    raise AssertionError(f"{case.name}: {client.connects - connects} connects")
                cost = [(new - old) / options.polls * 1e6 for new, old in zip(after, before, strict=True)]
                figures.append((cost[0], cost[1], statistics.median(times) * 1000))
                print(f"round {number + 1} {case.name}: {figures[-1]}", flush=True)
    print("\n| | uvicorn, CPU microseconds a poll | nginx, the same | a poll takes |\n|---|---|---|---|")
    for case, runs in found.items():
        server_cost, nginx_cost, took = (statistics.median(column) for column in zip(*runs, strict=True))
        shown = f"{nginx_cost:,.0f}" if case.where == "nginx" else "none"
        print(f"| {case.name} | {server_cost:,.0f} | {shown} | {took:.2f} ms |")


if __name__ == "__main__":
    main()
