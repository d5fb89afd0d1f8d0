"""A real nginx as a reverse proxy in front of the servers."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from .finding import require
from .ports import HOST, accepts, free_port
from .process import Process

__all__ = ["Nginx"]

_CONFIGURATION = """\
{user}
worker_processes 1;
pid {directory}/{name}.pid;
error_log stderr info;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    upstream servers {{
{servers}
    }}
    server {{
{listen}
        location / {{
            proxy_pass http://servers;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            {extra}
        }}
    }}
}}
"""


class Nginx(Process):
    """Run nginx with its default buffering in front of the given ports.

    `extra` is put into the `location` block: `proxy_buffering off;`, say. `port` is a free one if None, of
    each of the addresses in `hosts`.
    """

    #: With the fields that `__init__` fills.
    template = _CONFIGURATION
    #: What follows each server's address.
    server_options = ""

    def __init__(
        self,
        directory: Path,
        upstreams: Sequence[int],
        *,
        extra: str = "",
        name: str = "nginx",
        port: int | None = None,
        hosts: Sequence[str] = (HOST,),
    ) -> None:
        super().__init__(name, directory)
        self.program = require("nginx")
        self.port = port or free_port()
        self.configuration = directory / f"{name}.conf"
        self.configuration.write_text(
            self.template.format(
                # Else root's workers become `www-data`, which cannot reach the owner's directory.
                user="user root;" if os.geteuid() == 0 else "",
                directory=directory,
                name=name,
                servers="\n".join(
                    f"        server {HOST}:{port}{self.server_options};" for port in upstreams
                ),
                listen="\n".join(f"        listen {host}:{self.port};" for host in hosts),
                extra=extra,
            )
        )

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def command(self) -> Sequence[str | Path]:
        return [
            self.program,
            "-e",
            "stderr",
            "-p",
            self.directory,
            "-c",
            self.configuration,
            "-g",
            "daemon off;",
        ]

    def is_ready(self) -> bool:
        return accepts(self.port)

    def kill(self) -> None:
        """End it at once, its worker as well, which would outlive it."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        super().kill()
