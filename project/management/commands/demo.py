"""`manage.py demo`: the whole demo, server and publishers, until ctrl-C."""

from __future__ import annotations

import io
import os
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.urls import reverse

from project.children import Child, Server, Worker, end_all
from project.descriptors import allow_many_files
from project.programs.ports import HOST, why_not
from project.restart import SUPERVISOR
from project.supervisor import STOP_SECONDS, GivenUp, Supervisor


class Command(BaseCommand):
    help = "Migrate, then serve the demo with daphne and publish this machine's vital signs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *args: Any, **options: Any) -> None:
        port = int(options["port"])
        if refusal := why_not(port):
            raise CommandError(f"Port {port} on {HOST} {refusal}: choose another, as in make run PORT=8001.")
        allow_many_files()
        login = str(call_command("prepare", stdout=io.StringIO()))
        environment = {SUPERVISOR: str(os.getpid())}
        server = Server("The server", "daphne", port, environment, pid_file=settings.VAR / "server.pid")
        machine = Child("manage.py machine", ["manage.py", "machine"], environment)
        url = f"http://{HOST}:{port}"
        workers = [
            Worker("The worker", "agents", 4, environment, url=url),
            Worker("The reading agents' worker", "readers", 4, environment, url=url),
        ]
        supervisor = Supervisor(say=self.stdout.write, complain=self.stderr.write)
        supervisor.listen()

        def restart() -> None:
            self.stdout.write("Restarting the server, as asked in the browser.")
            supervisor.restart(server)

        try:
            if supervisor.start(server, machine, *workers):
                self._introduce(port, login)
                supervisor.watch(restart=restart)
        except GivenUp as reason:
            raise CommandError(str(reason)) from None
        finally:
            self.stdout.write("Stopping: the streams that are open may take a moment.")
            end_all([server, machine, *workers], STOP_SECONDS)
            server.forget()
            self.stdout.write("Stopped.")

    def _introduce(self, port: int, login: str) -> None:
        address = f"http://{HOST}:{port}"
        rows = [
            ("Demo", f"{address}/"),
            ("Admin", f"{address}{reverse('admin:index')}"),
            ("Sockets", f"{address}{reverse('admin:sse_polling_node_changelist')}"),
            ("Login", login),
            ("A stream", f"curl -N {address}{reverse('sse_polling:stream', args=['machine'])}"),
            ("A task", f"curl -d question='What does SimpleLazyObject do?' {address}{reverse('tasks')}"),
            ("A crowd", "make crowd N=1000" if port == 8000 else f"manage.py crowd --url {address}"),
        ]
        self.stdout.write("")
        for name, value in rows:
            self.stdout.write(f"  {self.style.MIGRATE_HEADING(f'{name:<9}')} {value}")
        self.stdout.write("\n  Ctrl-C stops it.\n")
