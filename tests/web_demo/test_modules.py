"""The modules of the browser app, by their own tests in Node.js."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers import REPOSITORY

from mobilevit_sdk.apps.site import HEADERS

NODE = shutil.which("node")
HERE = Path(__file__).parent


def has_tests() -> bool:
    """Whether there is a Node.js with a test runner and modules."""
    if NODE is None:
        return False
    version = subprocess.run([NODE, "--version"], capture_output=True, text=True).stdout
    return int((re.match(r"v(\d+)", version) or ["", "0"])[1]) >= 20


@pytest.mark.skipif(not has_tests(), reason="Node.js 20 or newer is not on PATH")
def test_the_modules_pass_their_own_tests():
    tests = sorted(str(path.relative_to(REPOSITORY)) for path in HERE.glob("*.test.js"))
    assert len(tests) >= 5
    done = subprocess.run([str(NODE), "--test", *tests], cwd=REPOSITORY, capture_output=True, text=True)
    failed = [line.strip() for line in done.stdout.splitlines() if line.lstrip().startswith("not ok")]
    assert done.returncode == 0, "\n".join(failed) or done.stderr
    assert int(re.findall(r"^# pass (\d+)", done.stdout, re.MULTILINE)[0]) >= 100


def test_the_guide_imports_what_the_modules_export():
    guide = (REPOSITORY / "docs/guides/web.md").read_text()
    imports = re.findall(r'import \{ ([\w, ]+) \} from "\./(src/\w+\.js)"', guide)
    assert len(imports) >= 5
    for names, module in imports:
        code = (REPOSITORY / "web_demo" / module).read_text()
        for name in names.split(", "):
            assert re.search(rf"^export (async )?(function|class|const) {name}\b", code, re.MULTILINE), (name, module)


def test_the_headers_of_the_guide_are_those_of_the_server():
    guide = (REPOSITORY / "docs/guides/web.md").read_text()
    named = dict(re.findall(r'add_header ([\w-]+) "?([^";]+(?:; [^";]+)*)"?;', guide))
    assert len(named) >= 5
    assert named.items() <= HEADERS.items()
