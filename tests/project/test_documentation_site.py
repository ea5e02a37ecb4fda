"""The documentation site builds without a warning, leads nowhere that is not there, and fetches nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

import pytest
from helpers import REPOSITORY

import mobilevit_sdk
from mobilevit_sdk.cli import VERBS

pytestmark = pytest.mark.skipif(
    find_spec("material") is None or find_spec("mkdocstrings") is None, reason="mkdocs-material is not installed"
)


class Page(HTMLParser):
    """The links of a page, what it loads, its anchors, and whether it has a picture or a block of code."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.tags.add(tag)
        self.ids.add(found.get("id") or "")
        if tag == "a" and found.get("href"):
            self.links.append(found["href"] or "")
        loads = found.get("href") if tag == "link" and found.get("rel") != "canonical" else found.get("src")
        self.loads += [loads] if loads else []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Page]:
    folder = tmp_path_factory.mktemp("site").resolve()
    environment = {name: value for name, value in os.environ.items() if name != "MOBILEVIT_REPOSITORY"}
    environment |= {"NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return {path: Page(path.read_text()) for path in folder.rglob("*.html")}


def root(site: dict[Path, Page]) -> Path:
    return min(site, key=lambda path: len(path.parts)).parent


def test_no_link_is_dead(site):
    dead = []
    for path, page in site.items():
        for link in (*page.links, *page.loads):
            target, _, anchor = unquote(link).partition("#")
            if re.match(r"[a-z]+:", target) or path.name == "404.html":
                continue
            place = (path.parent / target).resolve() if target else path
            if not place.exists() or (anchor and place in site and anchor not in site[place].ids | {"__skip"}):
                dead.append((str(path.relative_to(root(site))), link))
    assert dead == []


def test_nothing_is_fetched_from_elsewhere(site):
    loads = [(path.name, load) for path, page in site.items() for load in page.loads]
    assert [each for each in loads if re.match(r"(https?:)?//", each[1])] == []
    styles = "".join(path.read_text() for path in root(site).rglob("*.css"))
    assert re.findall(r"url\((?:['\"])?(https?:[^)]+)|@import", styles) == []


def test_the_reference_has_every_command_option_and_public_name(site):
    folder = root(site)
    commands = (folder / "reference" / "commands.md").read_text()
    assert re.findall(r"^## mobilevit (\S+)$", commands, re.MULTILINE) == list(VERBS)
    assert "`--device-report FILE`" in commands
    ids = site[folder / "reference" / "python.html"].ids
    assert [name for name in mobilevit_sdk.__all__ if not any(each.endswith(f".{name}") for each in ids)] == []


def test_types_are_described_by_their_comments(site):
    files = (root(site) / "reference" / "files.md").read_text()
    assert "| `license`" not in files  # whose key in files is spelled otherwise
    assert re.search(r"^\| `licence` \| `str or None` \|", files, re.MULTILINE)
    assert re.search(r"^\| `tools` \| `dict\[str, str\]` \| package -> version \|$", files, re.MULTILINE)


def test_every_rewrite_shows_its_algebra(site):
    text = (root(site) / "explanations" / "rewrites.md").read_text()
    for name in ("fold batch norm", "explicit attention", "decomposed layer norm", "polynomial gelu"):
        assert f"## {name}\n" in text
    assert text.count("``` { .text .algebra }\n") > 20


def test_every_page_has_a_picture_a_table_or_an_example(site):
    outside = {"404.html", "security.html", "changelog.html"}
    bare = [path.name for path, page in site.items() if not page.tags & {"img", "pre", "table"}]
    assert set(bare) <= outside


def test_llms_txt_lists_every_page_as_markdown(site):
    folder = root(site)
    listed = re.findall(r"^- \[[^]]+\]\(([^)]+)\): \S", (folder / "llms.txt").read_text(), re.MULTILINE)
    pages = {str(path.relative_to(folder).with_suffix(".md")) for path in site if path.name != "404.html"}
    assert set(listed) == pages
    assert all((folder / each).stat().st_size for each in listed)
