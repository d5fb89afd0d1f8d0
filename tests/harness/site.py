"""One project as its servers share it: a database, a channel layer, settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from project.programs.process import ProcessFailed
from project.programs.redis import Redis

__all__ = ["ROOT", "Layer", "Site"]

Layer = Literal["memory", "pubsub", "core"]

ROOT = Path(__file__).resolve().parents[2]


class Site:
    """Hold what every process of one project has in common, and run code in processes of its own.

    `database` is an address for `tests.databases.from_url` (None: a SQLite file in `directory`),
    `sse_polling` is merged into SSE_POLLING, `django` overrides other settings by name. Change
    either between two starts of a server to change its settings.
    """

    def __init__(
        self,
        directory: Path,
        *,
        database: str | None = None,
        redis: Redis | None = None,
        layer: Layer | None = None,
        sse_polling: Mapping[str, Any] | None = None,
        django: Mapping[str, Any] | None = None,
        settings: str = "tests.server_settings",
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.database = database or f"sqlite:///{directory / 'site.sqlite3'}"
        self.redis = redis
        self.layer: Layer = layer or ("memory" if redis is None else "pubsub")
        self.sse_polling = dict(sse_polling or {})
        self.django = dict(django or {})
        self.settings = settings
        self.env = dict(env or {})
        self._migrated = False

    def environment(self) -> dict[str, str]:
        """Return the environment that a process of this project runs in."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("SSE_POLLING_")}
        environment = {
            **inherited,
            "DJANGO_SETTINGS_MODULE": self.settings,
            "DATABASE_URL": self.database,
            "SSE_POLLING_LAYER": self.layer,
            "SSE_POLLING_JSON": json.dumps(self.sse_polling),
            "DJANGO_SETTINGS_JSON": json.dumps(self.django),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        if self.redis is not None:
            environment["REDIS_URL"] = self.redis.url
        return environment | self.env

    def migrate(self) -> None:
        """Make the tables, once."""
        if not self._migrated:
            self.manage("migrate", "--verbosity", "0")
            self._migrated = True

    def manage(self, *words: str, stdin: str | bytes = "", timeout: float = 60) -> str:
        """Run a management command in a process of its own and return what it printed."""
        return self._run(["-m", "django", *words], stdin=stdin, timeout=timeout)

    def python(self, code: str, *arguments: str, timeout: float = 60) -> str:
        """Run code in a process of its own, after `django.setup()`, and return what it printed."""
        return self._run(
            ["-c", f"import django\ndjango.setup()\n{code}", *arguments], stdin="", timeout=timeout
        )

    def spawn(self, code: str, *arguments: str) -> subprocess.Popen[str]:
        """Start code in a process of its own, with pipes; the caller waits for it or kills it."""
        self.migrate()
        return subprocess.Popen(
            [sys.executable, "-c", f"import django\ndjango.setup()\n{code}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(),
            cwd=ROOT,
        )

    def session(
        self, username: str = "user", *, staff: bool = False, superuser: bool = False
    ) -> dict[str, str]:
        """Make a user who is logged in, and return the cookies that say so."""
        made = self.python(
            "import sys\n"
            "from importlib import import_module\n"
            "from django.conf import settings\n"
            "from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY\n"
            "from django.contrib.auth import get_user_model\n"
            "name, staff, superuser = sys.argv[1], sys.argv[2] == 'True', sys.argv[3] == 'True'\n"
            "user, _ = get_user_model().objects.update_or_create(\n"
            "    username=name, defaults={'is_staff': staff, 'is_superuser': superuser})\n"
            "session = import_module(settings.SESSION_ENGINE).SessionStore()\n"
            "session[SESSION_KEY] = str(user.pk)\n"
            "session[BACKEND_SESSION_KEY] = 'django.contrib.auth.backends.ModelBackend'\n"
            "session[HASH_SESSION_KEY] = user.get_session_auth_hash()\n"
            "session.save()\n"
            "print(settings.SESSION_COOKIE_NAME, session.session_key)\n",
            username,
            str(staff or superuser),
            str(superuser),
        )
        name, key = made.split()
        return {name: key}

    def _run(self, words: list[str], *, stdin: str | bytes, timeout: float) -> str:
        if "migrate" not in words:
            self.migrate()
        try:
            done = subprocess.run(
                [sys.executable, *words],
                check=False,
                input=stdin.encode() if isinstance(stdin, str) else stdin,
                capture_output=True,
                env=self.environment(),
                cwd=ROOT,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired as error:
            printed = (error.stderr or b"").decode(errors="replace")
            raise ProcessFailed(f"{words} still ran after {timeout} s\n{printed}") from None
        if done.returncode:
            printed = done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
            raise ProcessFailed(f"{words} ended with {done.returncode}\n{printed}")
        return done.stdout.decode()
