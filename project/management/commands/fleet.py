"""`manage.py fleet`: four servers on PostgreSQL and Redis behind nginx, until ctrl-C."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.urls import reverse

from project.descriptors import allow_many_files
from project.fleet import Fleet
from project.logs import GrowingLog
from project.programs.ports import HOST, why_not
from project.supervisor import GivenUp, Supervisor

MOST = 16
# How each line of a log record starts. What follows it, a traceback, is for those who open the log.
RECORD = re.compile(r"\d{4}-\d\d-\d\d \d\d:")


class Command(BaseCommand):
    help = (
        "Serve the demo with several processes of daphne and uvicorn, on PostgreSQL and Redis, behind nginx."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="nginx's")
        parser.add_argument("--daphne", type=int, default=2, metavar="N", help="processes of daphne")
        parser.add_argument("--uvicorn", type=int, default=2, metavar="N", help="processes of uvicorn")

    def handle(self, *args: Any, **options: Any) -> None:
        port, daphne, uvicorn = int(options["port"]), int(options["daphne"]), int(options["uvicorn"])
        if min(daphne, uvicorn) < 0 or not 1 <= daphne + uvicorn <= MOST:
            raise CommandError(f"--daphne and --uvicorn take 1 to {MOST} processes together.")
        if refusal := why_not(port):
            raise CommandError(
                f"Port {port} on {HOST} {refusal}: choose another, as in make fleet PORT=8001."
            )
        allow_many_files()
        fleet = Fleet(settings.VAR / "fleet", port=port, kinds={"daphne": daphne, "uvicorn": uvicorn})
        supervisor = Supervisor(say=self.stdout.write, complain=self.stderr.write)
        supervisor.listen()
        try:
            fleet.claim()
            self.stdout.write("Starting: the first time takes a moment longer.")
            self._run(fleet, supervisor)
        except GivenUp as reason:
            raise CommandError(str(reason)) from None

    def _run(self, fleet: Fleet, supervisor: Supervisor) -> None:
        def restart() -> None:
            self.stdout.write("Restarting the servers one by one, as asked in the browser.")
            fleet.restart(supervisor)

        logs: dict[str, GrowingLog] = {}

        def tick() -> None:
            for name, log in logs.items():
                for line in filter(RECORD.match, log.lines()):
                    self.stdout.write(f"{name} | {line}")

        try:
            started = fleet.start(supervisor)
            for note in fleet.notes:
                self.stderr.write(note)
            if started:
                self._introduce(fleet)
                ours = [*fleet.servers, *([fleet.machine] if fleet.machine else []), *fleet.workers]
                logs |= {process.name: GrowingLog(process.log_path) for process in ours}
                supervisor.watch(restart=restart, tick=tick)
        finally:
            self.stdout.write("Stopping: the streams that are open may take a moment.")
            fleet.end()
            tick()
            self.stdout.write("Stopped.")

    def _introduce(self, fleet: Fleet) -> None:
        wrapper = _short(fleet.wrapper)
        rows = [
            ("Demo", f"{fleet.url}/"),
            ("Admin", f"{fleet.url}{reverse('admin:index')}"),
            ("Sockets", f"{fleet.url}{reverse('admin:sse_polling_node_changelist')}"),
            ("Login", fleet.login),
            ("A stream", f"curl -Ni {fleet.url}{reverse('sse_polling:stream', args=['machine'])}"),
            ("A task", f"curl -d question='What does SimpleLazyObject do?' {fleet.url}{reverse('tasks')}"),
            ("A crowd", f"{wrapper} crowd --clients 1000 --url {fleet.url}"),
            ("Commands", f"{wrapper} sse_publish log README.md; {wrapper} sse_status --watch"),
        ]
        self.stdout.write("")
        for name, value in rows:
            self.stdout.write(f"  {self.style.MIGRATE_HEADING(f'{name:<9}')} {value}")
        self.stdout.write("")
        self.stdout.write(f"  {self.style.MIGRATE_HEADING('Process      pid  address          log')}")
        for process in fleet.processes:
            port = getattr(process, "port", None)  # the publisher has none
            address, log = f"{HOST}:{port}" if port else "", _short(process.log_path)
            self.stdout.write(f"  {process.name:<10} {process.pid:>6}  {address:<15}  {log}")
        victim = fleet.servers[0].pid
        self.stdout.write(
            f"\n  Break it: `kill -9 {victim}`, or any pid above, and watch the pages: what died is started"
            f"\n  again. `kill -STOP {victim}` freezes it, `kill -CONT {victim}` lets it go on."
            "\n\n  Ctrl-C stops it.\n"
        )


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
