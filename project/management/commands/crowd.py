"""`manage.py crowd --clients 1000`: that many real readers against the running demo."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from argparse import ArgumentParser
from typing import Any

from asgiref.sync import sync_to_async
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from django.urls import reverse

from project.crowd.swarm import MAX_CLIENTS, MAX_SECONDS, Refused, Swarm, make_room, read_target
from project.numbering import last_number
from sse_polling import apublish

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Send a crowd of EventSource clients to the demo's channel `crowd`, on this machine only."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--clients", type=int, default=1000, help=f"1 to {MAX_CLIENTS}")
        parser.add_argument("--url", default="http://127.0.0.1:8000", help="the demo's address")
        parser.add_argument("--seconds", type=float, default=120, help=f"1 to {MAX_SECONDS}")

    def handle(self, *args: Any, **options: Any) -> None:
        clients, seconds = int(options["clients"]), float(options["seconds"])
        if not 1 <= clients <= MAX_CLIENTS:
            raise CommandError(f"--clients takes 1 to {MAX_CLIENTS}, got {clients}.")
        if not 1 <= seconds <= MAX_SECONDS:
            raise CommandError(f"--seconds takes 1 to {MAX_SECONDS}, got {seconds:g}.")
        try:
            target = read_target(str(options["url"]), reverse("sse_polling:stream", args=["crowd"]))
            make_room(clients)
        except Refused as refusal:
            raise CommandError(str(refusal)) from None
        self.stdout.write(
            f"{clients} clients go to http://{target.host}:{target.port}{target.path} for {seconds:g} s; "
            "ctrl-C ends it sooner."
        )
        last = asyncio.run(self._visit(Swarm(target, clients), clients, seconds))
        if not last.get("connections"):
            raise CommandError("Nobody answered. Is the demo running there (make run)?")
        if last["ended"]:
            self.stderr.write(
                f"{last['ended']:g} clients were answered with no stream, and stopped as browsers do."
            )
        if not last["events"]:
            raise CommandError("No event came. Is manage.py machine running there?")
        verdict = (
            "nothing lost, nothing repeated"
            if not last["lost"] and not last["repeated"]
            else f"{last['lost']:g} LOST, {last['repeated']:g} REPEATED"
        )
        self.stdout.write(
            f"{last['events']:g} events over {last['connections']:g} connections: {verdict}, "
            f"{last['gaps']:g} gaps."
        )

    async def _visit(self, swarm: Swarm, clients: int, seconds: float) -> dict[str, float]:
        number = await sync_to_async(last_number)("crowd.stats")
        figures: dict[str, float] = {}
        if (me := asyncio.current_task()) is not None:
            for each in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(each, me.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            async with contextlib.aclosing(swarm.run(seconds)) as every_second:
                async for figures in every_second:
                    self.stdout.write(
                        "{readers:>6g} readers {sockets:>6g} sockets open {connections:>8g} connections "
                        "{events_per_second:>6g} events/s  lag {lag_ms:>5g} ms  "
                        "{lost:g} lost  {repeated:g} repeated".format(**figures)
                    )
                    number += await self._publish(number + 1, clients, figures)
        # The plot should not end in mid-air.
        await self._publish(number + 1, 0, {**figures, "readers": 0, "sockets": 0, "events_per_second": 0})
        return figures

    async def _publish(self, number: int, clients: int, figures: dict[str, float]) -> bool:
        data = {"n": number, "at": round(time.time() * 1000), "clients": clients, **figures}
        try:
            await apublish("crowd.stats", data)
        except DatabaseError:
            logger.exception("One second's figures could not be stored")
            return False
        return True
