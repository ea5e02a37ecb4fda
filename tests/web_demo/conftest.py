"""The browser app's page in a browser, served from a folder beside a command that takes its reports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_page import Command, Page, Site, write_site
from phone_files import SharedFiles


@pytest.fixture(scope="module")
def artifact(phone_files: SharedFiles) -> Path:
    return phone_files.artifact("tflite", "fp32").path.parent


@pytest.fixture(scope="module")
def browser(request: pytest.FixtureRequest) -> Iterator[Page]:
    """One browser for the tests that need no other flags; a module may say `GPU = False`."""
    with Page("about:blank", gpu=getattr(request.module, "GPU", True)) as page:
        yield page


@pytest.fixture
def folder(artifact, tmp_path) -> Path:
    """The served files, which a test may damage."""
    return write_site(tmp_path / "site", artifact)


@pytest.fixture
def command(artifact) -> Command:
    return Command(artifact)


@pytest.fixture
def site(folder, command) -> Iterator[Site]:
    site = Site(folder, command)
    yield site
    site.close()


@pytest.fixture
def page(browser, site) -> Page:
    browser.complaints.clear()
    browser.go(site.url())
    return browser
