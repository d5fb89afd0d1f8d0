"""`manage.py demo`: the whole demo, server and publishers, until ctrl-C."""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import time
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.urls import reverse

from project.children import Child, end_all
from project.desk import end_agents
from project.keep import kept_secret, write_pid
from project.restart import SUPERVISOR

HOST = "127.0.0.1"
USERNAME = "admin"
START_SECONDS = 30
STOP_SECONDS = 25
OPEN_FILES = 20_000


class Command(BaseCommand):
    help = "Migrate, then serve the demo with daphne and publish this machine's vital signs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *args: Any, **options: Any) -> None:
        port = int(options["port"])
        _check_free(port)
        _allow_many_files()
        call_command("migrate", verbosity=0, interactive=False)
        password = _admin_password()
        self._stop = self._restart = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGUSR1, self._on_restart)
        environment = {SUPERVISOR: str(os.getpid())}
        self._server = Child(
            "The server",
            ["-m", "daphne", "-v", "0", "-b", HOST, "-p", str(port), "project.asgi:application"],
            environment,
        )
        self._machine = Child("manage.py machine", ["manage.py", "machine"], environment)
        try:
            self._start_server()
            self._machine.start()
            if self._wait_for(port):
                self._introduce(port, password)
                self._watch(port)
        finally:
            self.stdout.write("Stopping: the streams that are open may take a moment.")
            end_all([self._server, self._machine], STOP_SECONDS)
            end_agents()
            (settings.VAR / "server.pid").unlink(missing_ok=True)
            self.stdout.write("Stopped.")

    def _start_server(self) -> None:
        write_pid(settings.VAR / "server.pid", self._server.start())

    def _wait_for(self, port: int) -> bool:
        """Wait until the server answers; False when the visitor gave up first."""
        deadline = time.monotonic() + START_SECONDS
        while not self._stop:
            if self._server.status is not None:
                raise CommandError(f"The server ended at once, with status {self._server.status}.")
            if time.monotonic() > deadline:
                raise CommandError(f"The server did not answer within {START_SECONDS} seconds.")
            try:
                socket.create_connection((HOST, port), timeout=1).close()
            except OSError:
                time.sleep(0.1)
            else:
                return True
        return False

    def _watch(self, port: int) -> None:
        while not self._stop:
            if self._restart:
                self._restart = False
                self.stdout.write("Restarting the server, as asked in the browser.")
                end_all([self._server], STOP_SECONDS)
                self._start_server()
                if self._wait_for(port):
                    self.stdout.write("The server is back.")
            for child in (self._server, self._machine):
                if child.status is not None:
                    self._revive(child)
            time.sleep(0.1)

    def _revive(self, child: Child) -> None:
        if not child.budget.take(time.monotonic()):
            raise CommandError(
                f"{child.name} ended {child.budget.restarts} times within {child.budget.seconds:g} seconds; "
                "giving up. What it printed above says why."
            )
        self.stderr.write(f"{child.name} ended with status {child.status}; starting it again.")
        time.sleep(0.5)
        if child is self._server:
            self._start_server()
        else:
            child.start()

    def _introduce(self, port: int, password: str | None) -> None:
        address = f"http://{HOST}:{port}"
        login = f"{USERNAME} / {password}" if password else f"{USERNAME}, with the password you gave it"
        rows = [
            ("Demo", f"{address}/"),
            ("Admin", f"{address}{reverse('admin:index')}"),
            ("Login", login),
            ("A stream", f"curl -N {address}{reverse('sse_polling:stream', args=['machine'])}"),
            ("A crowd", "make crowd N=1000" if port == 8000 else f"manage.py crowd --url {address}"),
        ]
        self.stdout.write("")
        for name, value in rows:
            self.stdout.write(f"  {self.style.MIGRATE_HEADING(f'{name:<9}')} {value}")
        self.stdout.write("\n  Ctrl-C stops it.\n")

    def _on_stop(self, number: int, frame: object) -> None:
        self._stop = True

    def _on_restart(self, number: int, frame: object) -> None:
        self._restart = True


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            in_use = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            reason = "is already in use" if in_use else f"cannot be had ({error})"
            raise CommandError(
                f"Port {port} on {HOST} {reason}: choose another, as in make run PORT=8001."
            ) from None


def _allow_many_files() -> None:
    """Let the server hold a crowd: its limit of open files is inherited from here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _admin_password() -> str | None:
    """Return the demo admin's password, or None if somebody has given it another one."""
    file = settings.VAR / "admin-password"
    fresh = not file.exists()
    password = kept_secret(file, 12)
    user, made = get_user_model().objects.get_or_create(
        username=USERNAME, defaults={"is_staff": True, "is_superuser": True}
    )
    if made or fresh:
        user.set_password(password)
        user.save()
    return password if user.check_password(password) else None
