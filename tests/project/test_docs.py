"""What the README and the pages under docs/ say exists: links, commands, options, modules, Python names."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from helpers import REPOSITORY
from markdown_it import MarkdownIt
from markdown_it.token import Token

from mobilevit_sdk.cli import VERBS, main

README = REPOSITORY / "README.md"
MEASURED = REPOSITORY / "docs" / "measured"
ARCHITECTURE = REPOSITORY / "docs" / "architecture.md"
GUIDES = sorted((REPOSITORY / "docs" / "guides").glob("*.md"))
PAGES = [README, REPOSITORY / "CONTRIBUTING.md", REPOSITORY / "CHANGELOG.md"]
PAGES += sorted((REPOSITORY / "docs").rglob("*.md"))
# What a path in the text may be relative to, and the folders that the commands in the text would make.
CONVERTERS = REPOSITORY / "converters" / "mobilevit_converters"
ROOTS = [REPOSITORY, REPOSITORY / "mobilevit_sdk", REPOSITORY / "converters", CONVERTERS, CONVERTERS / "tflite"]
MADE = {"artifacts", "files", "finetuned", "photos", "smaller"}

MARKDOWN = MarkdownIt("commonmark").enable("table")


def name_of(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def tokens(page: Path) -> Iterator[Token]:
    for token in MARKDOWN.parse(page.read_text()):
        yield token
        yield from token.children or ()


def links(page: Path) -> Iterator[str]:
    for token in tokens(page):
        if token.type in ("link_open", "image"):
            yield str(token.attrs.get("href") or token.attrs.get("src"))
        elif token.type in ("html_block", "html_inline"):
            yield from re.findall(r'(?:href|src|srcset)="([^"]+)"', token.content)


def anchors(page: Path) -> set[str]:
    """Those of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def blocks(page: Path, language: str) -> list[str]:
    return [token.content for token in tokens(page) if token.type == "fence" and token.info == language]


def commands(page: Path) -> list[str]:
    lines = "\n".join(blocks(page, "console")).replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ mobilevit ")]


def code_spans(page: Path) -> list[str]:
    return [token.content for token in tokens(page) if token.type == "code_inline"]


def test_the_readme_fits_on_a_few_screens():
    assert len(README.read_text().splitlines()) <= 130


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_lead_somewhere(page):
    for link in links(page):
        if not re.match(r"https?://", link):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_pictures_come_from_the_repository():
    pictures = [token.attrs["src"] for page in PAGES for token in tokens(page) if token.type == "image"]
    pictures += re.findall(r'(?:src|srcset)="([^"]+)"', README.read_text())
    assert len(pictures) > 10
    assert [picture for picture in pictures if "//" in str(picture)] == []


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=name_of)
def test_command_lines_parse(page):
    for line in commands(page):
        _, verb, *arguments = shlex.split(line, comments=True)
        command = main.get_command(click.Context(main), verb)
        assert command is not None, line
        try:
            command.make_context(verb, arguments)
        except click.UsageError as error:
            pytest.fail(f"{line}: {error.format_message()}")


def test_a_command_line_that_does_not_parse_is_noticed():
    command = main.get_command(click.Context(main), "convert")
    assert command is not None
    for arguments in (["--precisoin", "fp32"], ["--image-size", "small"], ["a", "b"]):
        with pytest.raises(click.UsageError):
            command.make_context("convert", arguments)


def options_of(verb: str) -> set[str]:
    command = main.get_command(click.Context(main), verb)
    return {option for p in command.params for option in (*p.opts, *p.secondary_opts)} if command else set()


# The changelog names what is gone, too.
@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name_of)
def test_commands_and_options_within_sentences_exist(page):
    every = set().union(*(options_of(verb) for verb in VERBS))
    for span in code_spans(page):
        words = span.split()
        options = {word for word in words if re.fullmatch(r"--[a-z][a-z0-9-]*", word)} - {"--help"}
        if words[0] == "mobilevit" and len(words) > 1 and not words[1].startswith("-"):
            assert words[1] in VERBS, span
            assert options <= options_of(words[1]), span
        elif words[0] in options:
            assert options <= every, span


@pytest.mark.parametrize("page", [README, REPOSITORY / "CONTRIBUTING.md", ARCHITECTURE, *GUIDES], ids=name_of)
def test_files_and_folders_named_in_the_text_exist(page):
    for span in code_spans(page):
        if re.fullmatch(r"(\w[\w.]*/)+([\w.]+\.(py|json))?", span) and span.split("/")[0] not in MADE:
            assert any((root / span).exists() for root in ROOTS), span


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name_of)
def test_python_snippets_import_what_there_is_and_call_it_with_arguments_that_it_has(page):
    for block in blocks(page, "python"):
        tree = ast.parse(block)
        names = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                names |= {alias.asname or alias.name: getattr(module, alias.name) for alias in node.names}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
                given = {keyword.arg: None for keyword in node.keywords if keyword.arg}
                inspect.signature(names[node.func.id]).bind(*node.args, **given)


@pytest.mark.parametrize(
    ("script", "template", "page"),
    [
        ("data_free_pruning", "_PAGE", "data-free-pruning"),
        ("fuzz_readers_page", "_HEAD", "fuzzed-readers"),
        ("killed_commands_page", "_HEAD", "killed-commands"),
        ("matrix", "_HEAD", "matrix"),
        ("memory_cells_page", "_PAGE", "memory"),
        ("mutated_artifacts", "_HEAD", "mutated-artifacts"),
        ("mutated_checkpoints", "_HEAD", "mutated-checkpoints"),
        ("performance_page", "_PAGE", "performance"),
        ("planted_faults_page", "_HEAD", "planted-faults"),
        ("pruning_page", "_PAGE", "pruning-measured"),
        ("quantization", "_HEAD", "quantization-measured"),
        ("re_attention_page", "_PAGE", "re-attention"),
    ],
)
def test_measured_pages_read_as_their_scripts_write_them(script, template, page):
    text = getattr(importlib.import_module(script), template)
    pattern = ".*?".join(re.escape(part) for part in re.split(r"\{[a-z_]+(?::[^}]*)?\}", text))
    assert re.match(pattern, (MEASURED / f"{page}.md").read_text(), re.DOTALL)
