"""German is complete: every message that the package has now, none that it had once, and pages show it."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from gettext import GNUTranslations
from pathlib import Path
from typing import Any

import django
import pytest
from django.test import Client
from django.utils import translation

from sse_polling.models import Node, Order
from sse_polling.nodes.reading import Fleet
from sse_polling.nodes.telling import ago, sentence
from tests.harness.programs import require
from tests.harness.rows import figures, history, make_node, socket
from tests.test_admin import text
from tests.test_telling import NOW, a_node, draining

PACKAGE = Path(__file__).resolve().parents[1] / "sse_polling"
PO = PACKAGE / "locale" / "de" / "LC_MESSAGES" / "django.po"
LIVE = "/admin/sse_polling/node/"
PLACE = r"%\(\w+\)\w"
VALUE = r"[\w.,:-]+"  # what stands in such a place

Key = tuple[str, str, str]  # context, message, its plural


@dataclass(slots=True)
class Entry:
    """One message of a catalogue. *flags*: the comments that tools read."""

    files: set[str] = field(default_factory=set)
    flags: set[str] = field(default_factory=set)
    texts: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        return (self.texts.get("msgctxt", ""), self.texts["msgid"], self.texts.get("msgid_plural", ""))

    @property
    def forms(self) -> list[str]:
        return [words for name, words in self.texts.items() if name.startswith("msgstr")]


def entries(catalogue: Path) -> dict[Key, Entry]:
    """Read a .po or a .pot, its head included: the message that is empty."""
    found = {}
    for block in catalogue.read_text().split("\n\n"):
        entry, last = Entry(), ""
        for line in block.splitlines():
            if line.startswith("#:"):
                entry.files |= set(line[2:].split())
            elif line.startswith("#,"):
                entry.flags |= {flag.strip() for flag in line[2:].split(",")}
            elif line.startswith('"'):
                entry.texts[last] += ast.literal_eval(line)
            elif line and not line.startswith("#"):
                last, _space, words = line.partition(" ")
                entry.texts[last] = ast.literal_eval(words)
        if entry.texts:
            found[entry.key] = entry
    return found


@pytest.fixture(scope="module")
def german() -> dict[Key, Entry]:
    found = entries(PO)
    del found["", "", ""]
    return found


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> dict[Key, Entry]:
    """The messages of the package as it is now."""
    require("xgettext")
    require("msgfmt")
    copy = tmp_path_factory.mktemp("messages") / "sse_polling"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "locale", "static"))
    (copy / "locale").mkdir()
    command = [sys.executable, "-m", "django", "makemessages", "--locale=de", "--keep-pot"]
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    done = subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    found = entries(copy / "locale" / "django.pot")
    del found["", "", ""]
    return found


def test_nothing_is_missing_and_nothing_is_left_over(
    german: dict[Key, Entry], extracted: dict[Key, Entry]
) -> None:
    assert len(extracted) > 300
    assert sorted(extracted.keys() - german.keys()) == [], "not translated: make messages"
    assert sorted(german.keys() - extracted.keys()) == [], "translated, and not there any more: make messages"


def test_every_message_has_its_words(german: dict[Key, Entry]) -> None:
    for (_context, message, plural), entry in german.items():
        assert "fuzzy" not in entry.flags, message
        assert len(entry.forms) == (2 if plural else 1), message
        assert all(words.strip() for words in entry.forms), message
    assert "#~" not in PO.read_text()


def test_words_have_their_messages_places_and_ends(german: dict[Key, Entry]) -> None:
    def places(words: str) -> list[str]:
        return sorted(re.findall(rf"{PLACE}|%%|\{{\w+\}}|</?\w+>", words))

    def end(words: str) -> str:
        return words[-1:] if words[-1:] in ".:?!" else ""

    for (_context, message, plural), entry in german.items():
        for words in entry.forms:
            assert places(words) == places(plural or message)
            assert end(words) == end(message), words
            assert words == words.strip()
            assert "  " not in words


def test_a_change_of_the_catalogue_shows_what_has_changed_only() -> None:
    """No time of extraction and no line numbers: else each pass would touch everything."""
    lines = PO.read_text()
    assert "POT-Creation-Date" not in lines
    assert not re.search(r"^#: .*:\d", lines, re.MULTILINE)


def test_the_compiled_catalogue_is_the_written_one(tmp_path: Path) -> None:
    program = require("msgfmt")
    compiled = tmp_path / "django.mo"
    command = [str(program), "--check", "-o", str(compiled), str(PO)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert catalogue(PO.with_suffix(".mo")) == catalogue(compiled), "make messages"


def catalogue(compiled: Path) -> dict[Any, str]:
    with compiled.open("rb") as file:
        found: dict[Any, str] = GNUTranslations(file)._catalog  # type: ignore[attr-defined]  # has no public face
    return found


def test_where_django_has_the_message_it_has_its_words(german: dict[Key, Entry]) -> None:
    """Catalogues of all apps are one: other words here would change Django's own pages."""
    found: dict[Any, str] = {}
    for compiled in Path(django.__file__).parent.rglob("locale/de/LC_MESSAGES/django.mo"):
        found |= {key: words for key, words in catalogue(compiled).items() if isinstance(key, str) and key}
    shared = {message for context, message, plural in german if not context and not plural} & found.keys()
    assert "No, take me back" in shared
    ours = {message: german["", message, ""].forms[0] for message in shared}
    assert ours == {message: found[message] for message in shared}, "give it a context"


# What is shown


def english(german: dict[Key, Entry]) -> re.Pattern[str]:
    """Return a pattern of every message that must not be read on a German page."""
    words = (re.sub(r"\s", " ", form) for entry in german.values() for form in entry.forms)
    germans = "\n".join(re.sub(PLACE, "1", each.replace("%%", "%")) for each in words)
    patterns = []
    for _context, *messages in german:
        for message in filter(None, messages):
            parts = map(re.escape, re.split(PLACE, message.replace("%%", "%")))
            pattern = rf"(?<![\w.:/-]){VALUE.join(parts)}(?![\w:/-])"
            if not re.search(pattern, germans):  # "Server" is the same in both
                patterns.append(pattern)
    return re.compile("|".join(patterns))


@pytest.fixture
def fleet(db: None) -> Node:
    """Processes in every state, with all that can be wrong; the one returned drains."""
    troubled: dict[str, Any] = {
        "refused": {"capacity": 2, "budget": 1, "arriving": 1, "database": 3},
        "farewells": {"acked": 7, "cut": 1},
        "gaps": {"trimmed": 2},
        "budget": {"budget": 50, "wait_ms": 2300},
    }
    states = {"state": "leaving", "door": "view", "behind": 3, "user": "77"}
    make_node("a:1:x", sockets=[socket(1), socket(2, **states)], figures=figures(**troubled))
    make_node("b:2:x", silent=40, sockets=[socket(3)], figures=figures(layer="down"))
    make_node("c:3:x", state="full", figures=figures(layer="polling", breaker={"open": True}))
    make_node("d:4:x", stopped=True)
    make_node("e:5:x", state="drained", history=history(refused=1, gaps=1))
    drain = {"why": "order", "total": 412, "left": 12, "seconds": 3.0, "estimate": 4.2}
    ended = {"drain": 3, "events": 4, "hold": 5, "gone": 6}
    node = make_node("f:6:x", state="draining", figures=figures(drain=drain, ended=ended))
    for kind, result in [("drain", "begun"), ("close", "gone"), ("channel", "closing 3"), ("resume", "")]:
        Order.objects.create(node=node, kind=kind, result=result, created=NOW, done=NOW if result else None)
    return node


def test_the_live_pages_are_german(admin_client: Client, fleet: Node, german: dict[Key, Entry]) -> None:
    unwanted = english(german)
    with translation.override("de"):
        live = text(admin_client.get(LIVE))
        node = text(admin_client.get(f"{LIVE}{fleet.pk}/change/"))
        confirm = text(admin_client.get(f"{LIVE}confirm/", {"kind": "drain_all"}))
    for page in (live, node, confirm):
        assert [match[0] for match in unwanted.finditer(page)] == []
    assert "Live-Sockets" in live
    assert "Leser auf 2 Sockets" in live
    assert re.search(r"b:2 uvicorn, Laufzeit 3 h stumm Meldung vor 4\d s", live)
    assert "Knoten f:6 wird geleert, noch 12, etwa 4 s" in live
    assert "Schutzschalter ausgelöst Layer weg, fragt die Datenbank Budget keins" in live
    assert "hat sich verabschiedet 7" in live
    assert "Warum Streams endeten" in node
    assert "beim Leeren 3" in node
    assert "3 Streams wurden aufgefordert zu gehen" in node
    assert "Alle Knoten leeren?" in confirm
    assert "Nein, bitte abbrechen" in confirm


def test_the_same_pages_would_fail_in_english(
    admin_client: Client, fleet: Node, german: dict[Key, Entry]
) -> None:
    unwanted = english(german)
    assert len(set(unwanted.findall(text(admin_client.get(LIVE))))) > 40


def test_the_sentence_is_german() -> None:
    silent = a_node("b:2:bb", state="silent", age=40)
    full = [a_node(f"{host}:1:aa", state="full", readers=1, sockets=1) for host in "cdefg"]
    fleet = Fleet(nodes=[a_node(readers=12345), silent, *full, draining("h:8:hh", 1000, 7.0)], now=NOW)
    with translation.override("de"):
        calm = sentence(Fleet(nodes=[a_node(readers=1, sockets=1)], now=NOW))
        told = sentence(fleet)
        times = [ago(0), ago(90), ago(86_400), ago(3 * 86_400)]
    assert calm == "1 Leser auf 1 Socket, nichts verloren."
    # A unit does not leave its number at the end of a line.
    assert told.replace("\N{NO-BREAK SPACE}s", " s") == (
        "12.962 Leser auf 87 Sockets, nichts verloren; Knoten b:2 meldet sich seit 40 s nicht; "
        "Knoten c:1, d:1, e:1 und 2 weitere sind voll; Knoten h:8 wird geleert, noch 1.000, etwa 7 s."
    )
    assert [each.replace("\N{NO-BREAK SPACE}", " ") for each in times] == [
        "gerade eben",
        "vor 2 min",
        "vor 24 h",
        "vor 3 Tagen",
    ]
