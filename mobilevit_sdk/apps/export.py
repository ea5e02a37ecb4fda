"""The browser app with its artifacts as static files, for any web server."""

from __future__ import annotations

from pathlib import Path

from mobilevit_sdk.apps.eligibility import artifact_name
from mobilevit_sdk.apps.site import HEADERS, INDEX, Site
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.files import replacing

README = "README.md"
_TITLE = "# MobileViT in the browser"


def export_site(site: Site, folder: Path) -> None:
    """Write the pages and a README into `folder`, whole or not at all; an earlier export there is replaced.

    Raises RequestError where `folder` is a file or holds something else, and where it cannot be written.
    """
    if Path.cwd().is_relative_to(folder.resolve()):  # which would be gone from under the shell
        raise RequestError(f"{folder} is the folder that you are in; give one below it as `export`, such as public")
    if folder.exists() and not _is_free(folder):
        raise RequestError(f"{folder} holds something else; give another `export` folder")
    with replacing(folder) as fresh:
        for path, page in site.pages.items():
            file = fresh / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(page.content)
        (fresh / README).write_text(_readme(site), encoding="utf-8")


def _is_free(folder: Path) -> bool:
    """Whether it is an empty folder or an earlier export."""
    if not folder.is_dir():
        return False
    if not any(folder.iterdir()):
        return True
    readme = folder / README
    return (folder / INDEX).is_file() and readme.is_file() and readme.read_bytes().startswith(_TITLE.encode())


def _readme(site: Site) -> str:
    names = "\n".join(f"- {artifact_name(artifact)}" for artifact in site.artifacts)
    headers = "\n".join(f"{name}: {value}" for name, value in HEADERS.items() if name != "Cache-Control")
    return f"""{_TITLE}

Static files: copy this folder to any web server, or try it here with `python3 -m http.server --bind 127.0.0.1`.
A page opened from the disk (`file:`) does not work: browsers load no modules from there.

Artifacts:

{names}

WebGPU and the live camera need https (or localhost). Threads, which make WebAssembly faster, also need the first two of
these headers; the others keep the page to its own files. Without them everything else works.

```text
{headers}
```

Serve `.wasm` as `application/wasm` and `.js` as `text/javascript`. The page sends nothing: share a report from it, and
judge it with `mobilevit verify ARTIFACT --device-report FILE`.
"""
