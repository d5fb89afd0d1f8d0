"""What the documents say is what the code does."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest

from sse_polling import checks, conf, presets
from sse_polling.conf import Config
from sse_polling.protocol.names import RESERVED_NAMES

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = (ROOT / "docs/reference.md").read_text()
README = (ROOT / "README.md").read_text()
LIMITS = (ROOT / "docs/limits.md").read_text()
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return [
        "\n".join(line.removeprefix("   ") for line in block.splitlines())
        for block in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    ]


def test_the_reference_shows_every_setting_with_its_default() -> None:
    (block,) = [block for block in blocks(REFERENCE, "python") if block.startswith("SSE_POLLING")]
    shown = ast.literal_eval(block.split("=", 1)[1].strip())
    config = conf._read(shown)
    settings = {each.name for each in fields(Config) if each.init}
    assert {key.lower() for key in shown} == settings
    given, default = config.effective("any"), Config().effective("any")
    assert given == default
    for name in settings - {"burst", "retry", "retention"}:
        assert getattr(config, name) == getattr(Config(), name), name


def test_the_reference_shows_what_each_preset_starts_from() -> None:
    for name, preset in presets.PRESETS.items():
        row = (
            f"| `{name}` | {preset.burst.hold_seconds:g} s | {preset.burst.linger_seconds:g} s"
            f" | {preset.retry.base_ms} ms |"
        )
        assert row in REFERENCE


def test_the_reference_lists_exactly_the_checks_that_exist() -> None:
    package = Path(checks.__file__).parent
    sources = "".join(each.read_text() for each in package.glob("*.py"))
    pattern = re.compile(r"sse_polling\.([EWI]\d{3})")
    assert set(pattern.findall(REFERENCE)) == set(pattern.findall(sources))


def test_the_reference_names_the_words_that_no_channel_can_have() -> None:
    for name in RESERVED_NAMES:
        assert f"`{name}`" in REFERENCE


@pytest.mark.parametrize("block", blocks(README + REFERENCE + LIMITS, "python"))
def test_every_python_example_is_python(block: str) -> None:
    compile(block, "example", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_the_architecture_names_every_module() -> None:
    package = ROOT / "sse_polling"
    names = {each.stem for each in package.glob("*.py")} | {
        each.name for each in package.iterdir() if (each / "__init__.py").is_file()
    }
    for name in names - {"__init__", "apps", "migrations", "templatetags"}:
        assert re.search(rf"`{name}/?`", ARCHITECTURE), name


def test_links_between_documents_lead_somewhere() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "benchmarks/README.md"]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
