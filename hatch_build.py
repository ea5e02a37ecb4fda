"""What the package's page shows beside pyproject.toml: links to the repository that released it.

A release sets MOBILEVIT_REPOSITORY (`.github/workflows/release.yml`), such as `https://github.com/ORG/mobilevit-sdk`.
Any other build knows no repository and names none.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_PAGES = {"Documentation": "/tree/{tag}/docs", "Changelog": "/blob/{tag}/CHANGELOG.md", "Issues": "/issues"}


class RepositoryHook(MetadataHookInterface):
    """Fills in `urls` and `readme`, whose relative links lead nowhere outside of a repository."""

    def update(self, metadata: dict[str, Any]) -> None:
        readme = Path(self.root, "README.md").read_text(encoding="utf-8")
        repository, tag = os.environ.get("MOBILEVIT_REPOSITORY"), f"v{metadata['version']}"
        if repository:
            pages = {name: repository + page.format(tag=tag) for name, page in _PAGES.items()}
            metadata["urls"] = {"Repository": repository, **pages}
            readme = with_absolute_links(readme, repository, tag)
        metadata["readme"] = {"content-type": "text/markdown", "text": readme}


def with_absolute_links(readme: str, repository: str, tag: str) -> str:
    """The text with its relative links and pictures as those of a tag of the repository."""

    def absolute(match: re.Match[str]) -> str:
        start, target = match.groups()
        kind = "raw" if target.endswith((".svg", ".png")) else "blob"
        return f"{start}{repository}/{kind}/{tag}/{target}"

    return re.sub(r"""(\]\(|(?:src|srcset|href)=")(?![a-z]+:|#)([^)"]+)""", absolute, readme)
