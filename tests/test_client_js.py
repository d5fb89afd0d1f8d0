"""The JavaScript client's pure parts, under node's own test runner; and what is to be true of its files."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from django.contrib.staticfiles.storage import ManifestStaticFilesStorage

from tests.harness.programs import REQUIRE_ALL

ROOT = Path(__file__).resolve().parents[1]
CLIENT = ROOT / "sse_polling" / "static" / "sse_polling" / "client.js"


@pytest.fixture
def node() -> str:
    path = shutil.which("node")
    if path is None:
        reason = "node is not installed on this machine"
        if REQUIRE_ALL:
            pytest.fail(f"{reason}, and SSE_POLLING_REQUIRE_ALL=1 asks for it", pytrace=False)
        pytest.skip(f"{reason}: tests/js was not run")
    return path


def test_under_node(node: str) -> None:
    files = sorted((ROOT / "tests" / "js").glob("*.test.mjs"))
    done = subprocess.run(
        [node, "--test", "--test-reporter=tap", *map(str, files)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    passed = re.search(r"^# pass (\d+)$", done.stdout, re.MULTILINE)
    assert passed is not None, done.stdout[-2000:]
    assert int(passed[1]) >= 100, "not a run of nothing"


def test_one_file_that_a_strict_policy_and_hashed_names_let_through() -> None:
    text = CLIENT.read_text(encoding="utf-8")
    code = re.sub(r"/\*.*?\*/|^\s*//.*?$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert not re.search(r"^\s*import\b|\bimport\(|\brequire\(", code, re.MULTILINE)
    assert not re.search(r"\beval\b|new Function|innerHTML|document\.write|\bstyle\b", code)


class Hashed(ManifestStaticFilesStorage):
    """Hashed names, also in what modules import."""

    support_js_module_import_aggregation = True


def test_hashed_names_leave_it_as_it_is(tmp_path: Path) -> None:
    storage = Hashed(location=str(tmp_path), base_url="/static/")
    (tmp_path / "sse_polling").mkdir()
    for name in ("client.js", "client.d.ts"):
        shutil.copy(CLIENT.with_name(name), tmp_path / "sse_polling" / name)
    paths = {f"sse_polling/{name}": (storage, f"sse_polling/{name}") for name in ("client.js", "client.d.ts")}
    for name, hashed, processed in storage.post_process(paths):
        assert not isinstance(processed, Exception), processed
        assert (tmp_path / hashed).read_bytes() == (tmp_path / name).read_bytes()
    assert re.fullmatch(
        r"sse_polling/client\.[0-9a-f]{12}\.js", storage.hashed_files["sse_polling/client.js"]
    )


def test_the_types_name_what_is_there() -> None:
    text = CLIENT.read_text(encoding="utf-8")
    types = CLIENT.with_suffix(".d.ts").read_text(encoding="utf-8")
    exported = re.findall(r"^export (?:async )?(?:class|function|const) (\w+)", text, re.MULTILINE)
    assert exported
    assert set(exported) == set(
        re.findall(r"^export (?:declare )?(?:class|function|const) (\w+)", types, re.MULTILINE)
    )
    source = text[text.index("export class PolledEventSource") :]
    for name in re.findall(r"^  (?:get |set )?([a-z]\w*)\(", source, re.MULTILINE):
        if name not in ("constructor", "handleEvent"):
            assert re.search(rf"\b{name}\b", types), name
    defaults = re.search(r"const DEFAULTS = Object\.freeze\(\{(.*?)\}\)", text, re.DOTALL)
    assert defaults is not None
    options = set(re.findall(r"^  (\w+):", defaults[1], re.MULTILINE))
    assert options == {"silenceMs", "backoffMs", "backoffCapMs", "probeMs", "maxEventLength"}
    for name in options | {"withCredentials", "shared", "renew", "pollUrl", "ackUrl"}:
        assert re.search(rf"^  {name}\?:", types, re.MULTILINE), name
