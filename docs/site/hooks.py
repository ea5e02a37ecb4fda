"""What mkdocs does beside reading docs/: pages made from the code, links that leave the folder, llms.txt."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

DOCS = Path(__file__).parents[1]
REPOSITORY = DOCS.parent
# Pages of the repository that the site has too, by where it has them.
PROJECT = {
    "project/contributing.md": "CONTRIBUTING.md",
    "project/changelog.md": "CHANGELOG.md",
    "project/security.md": "SECURITY.md",
    "project/examples.md": "examples/README.md",
    "project/golden.md": "tests/golden/README.md",
    "project/web-demo.md": "web_demo/README.md",
    "project/android-demo.md": "android_demo/README.md",
}
_PLACES = {source: page for page, source in PROJECT.items()} | {
    "examples": "project/examples.md",
    "android_demo": "project/android-demo.md",
    "mobilevit_sdk/deployment": "explanations/rewrites.md",  # what it is made from
}
_PLACES |= {f"docs/tutorials/{each.name}": f"tutorials/{each.stem}.md" for each in DOCS.glob("tutorials/*.ipynb")}
_PICTURE = re.compile(r'<picture>\s*<source [^>]*?srcset="([^"]+)">\s*(<img[^>]*?src=")([^"]+)("[^>]*>)\s*</picture>')
_LINK = re.compile(r"(\]\()(?![a-z]+:|#)([^)#\s]*)((?:#[^)\s]*)?\))")
_FENCE = re.compile(r"^( *```.*?^ *```$)", re.MULTILINE | re.DOTALL)

_texts: dict[str, str] = {}  # of every page as Markdown, for readers that want no HTML


def on_config(config: Any) -> Any:
    """Add the guides and measured pages that mkdocs.yml does not place: each is found without being listed."""
    for title, folder in (("Guides", "guides"), ("Measured", "measured")):
        entries = next(group[title] for group in config["nav"] if title in group)
        placed = {path for group in config["nav"] for name, path in _entries("", next(iter(group.values())))}
        for page in sorted((DOCS / folder).glob("*.md")):
            if (path := f"{folder}/{page.name}") not in placed:
                entries.append({page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# "): path})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in docs/."""
    pages = _generator().pages()
    pages |= {page: (REPOSITORY / source).read_text(encoding="utf-8") for page, source in PROJECT.items()}
    for script in sorted((REPOSITORY / "examples").glob("*.py")):
        text = script.read_text(encoding="utf-8")
        pages["project/examples.md"] += f"\n## {script.name}\n\n```python\n{text.rstrip()}\n```\n"
    for notebook in sorted(DOCS.glob("tutorials/*.ipynb")):
        page, pictures = _read_notebook(notebook)
        pages[f"tutorials/{notebook.stem}.md"] = page
        for name, picture in pictures.items():
            files.append(File.generated(config, f"tutorials/{name}", content=picture))
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    files.append(File.generated(config, "site.css", content=(DOCS / "site" / "site.css").read_text(encoding="utf-8")))
    return files


def _read_notebook(notebook: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, with what its cells print, and the pictures that they draw by name."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            if "text" in output:
                parts.append(f"```text\n{''.join(output['text']).rstrip()}\n```")
            elif picture := output["data"].get("image/png"):
                name = f"{notebook.stem}-{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode(picture)
                parts.append(f"![what the cell above draws]({name})")
    parts.insert(1, f"This page is a notebook: [download it]({notebook.name}), and run it in Jupyter.")
    return "\n\n".join(parts) + "\n", pictures


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Make links that leave docs/ lead to the page or the repository, and pictures follow the palette."""
    path = page.file.src_uri
    if path == "index.md":
        page.meta["hide"] = ["navigation", "toc"]  # not in the file, where GitHub would show it
    text = "".join(part if part.startswith("```") else _outside_of_code(part, path) for part in _FENCE.split(markdown))
    _texts[path] = text
    return text


def _outside_of_code(text: str, path: str) -> str:
    text = _PICTURE.sub(r"\2\3#only-light\4 \2\1#only-dark\4", text)
    text = re.sub(r"(?m)^(?![-*|#> ]|\d+\. )(.*\S.*)\n(?=(?:- |\d+\. ))", r"\1\n\n", text)  # a list after a paragraph
    return _LINK.sub(lambda match: _link(match, path), text)


def _link(match: re.Match[str], path: str) -> str:
    start, target, end = match.groups()
    source = posixpath.join("docs", path) if path not in PROJECT else PROJECT[path]
    found = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if target and _PLACES.get(found, path) != path:  # a notebook's page links to its file
        place = _PLACES[found]
    elif target and path.startswith("project/") and found.startswith("docs/"):
        place = found.removeprefix("docs/")
        place = f"{place}/index.md" if (REPOSITORY / found).is_dir() else place
    elif path == "project/examples.md" and target.endswith(".py"):
        return f"{start}#{target.replace('.', '')})"
    elif target and not found.startswith("docs/"):
        where = os.environ.get("MOBILEVIT_REPOSITORY")
        return f"{start}{where}/blob/main/{found}{end}" if where else f"{start}{_relative('index.md', path)})"
    else:
        return match[0]
    return f"{start}{_relative(place, path)}{end}"


def _relative(place: str, path: str) -> str:
    return posixpath.relpath(place, posixpath.dirname(path) or ".")


def on_post_build(config: Any) -> None:
    """Write llms.txt, and every page's Markdown beside its HTML."""
    site = Path(config["site_dir"])
    lines = [f"# {config['site_name']}", "", f"> {config['site_description']}"]
    for group in config["nav"]:
        ((title, entries),) = group.items()
        lines += ["", f"## {title}", ""]
        for name, path in _entries(title, entries):
            text = _texts[path]
            (site / path).write_text(text, encoding="utf-8")
            lines.append(f"- [{name}]({path}): {_generator().first_sentence(text)}")
    (site / "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _entries(title: str, entries: Any) -> list[tuple[str, str]]:
    if isinstance(entries, str):
        return [(title, entries)]
    found = []
    for entry in entries:
        name, below = (title, entry) if isinstance(entry, str) else next(iter(entry.items()))
        found += _entries(name, below)
    return found


def _generator() -> Any:
    """The module beside this one, which mkdocs has no package for."""
    if "mobilevit_site_reference" not in sys.modules:
        place = Path(__file__).with_name("reference.py")
        spec = importlib.util.spec_from_file_location("mobilevit_site_reference", place)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["mobilevit_site_reference"]
