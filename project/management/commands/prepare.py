"""`manage.py prepare`: the demo's tables and its admin."""

from __future__ import annotations

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand

from project.login import make_login


class Command(BaseCommand):
    help = "Migrate, make the demo's admin, and print its login."

    def handle(self, *args: Any, **options: Any) -> str:
        call_command("migrate", verbosity=0, interactive=False)
        return make_login()
