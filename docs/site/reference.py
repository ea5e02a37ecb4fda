"""Pages of the reference, made from the code: commands from click, documents from their types, rewrites' algebra."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

DOCS = Path(__file__).parents[1]
SDK = DOCS.parent / "mobilevit_sdk"

# What the JSON of a command is made of, and what files hold: the types that read or write them.
JSON = {
    "verify": ("mobilevit_sdk.parity.gate:Verdict", "mobilevit_sdk.parity.metrics:Agreement"),
    "verify, drift and divergences": ("mobilevit_sdk.parity.drift:Worse", "mobilevit_sdk.parity.outcome:Divergence"),
    "inspect": ("mobilevit_sdk.formats.converter:Inspection", "mobilevit_sdk.formats.entries:Entry"),
    "predict": ("mobilevit_sdk.evaluation.predict:Prediction", "mobilevit_sdk.evaluation.predict:RankedClass"),
}
FILES = {
    "manifest.json": (
        "mobilevit_sdk.artifacts.artifact:Manifest",
        "mobilevit_sdk.spec:Origin",
        "mobilevit_sdk.formats.app_input:AppInput",
        "mobilevit_sdk.artifacts.quantization_record:QuantizationRecord",
        "mobilevit_sdk.artifacts.quantization_record:Judgment",
    ),
    "The header of a checkpoint": ("mobilevit_sdk.spec:ModelSpec", "mobilevit_sdk.spec:Preprocessing"),
    "A device report": (
        "mobilevit_sdk.parity.device.types:DeviceReport",
        "mobilevit_sdk.parity.device.types:DeviceRun",
        "mobilevit_sdk.parity.device.types:Latency",
    ),
    "Thresholds in pyproject.toml": ("mobilevit_sdk.parity.thresholds:Threshold",),
}


def pages() -> dict[str, str]:
    """All of them, by their place on the site."""
    return {
        "reference/commands.md": "\n".join(_commands()),
        "reference/json.md": "\n".join(_json()),
        "reference/files.md": "\n".join(_files()),
        "reference/python.md": "\n".join(_python()),
        "explanations/rewrites.md": "\n".join(_rewrites()),
        "measured/index.md": "\n".join(_measured()),
    }


def first_sentence(text: str) -> str:
    """The first sentence of prose that is about the subject, without Markdown."""
    prose = re.sub(r"```.*?```", "", re.sub(r"\A# .*", "", text), flags=re.DOTALL)
    for paragraph in re.split(r"\n\s*\n", prose):
        if re.match(r"\s*[A-Za-z`*\[]", paragraph):
            words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", " ".join(paragraph.split()))
            for sentence in re.split(r"(?<=[.:]) ", re.sub(r"[`*]", "", words)):
                if not sentence.startswith("Written by"):
                    return sentence.rstrip(":")
    return ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _commands() -> Iterator[str]:
    from mobilevit_sdk.cli import VERBS, main

    context = click.Context(main, info_name="mobilevit")
    yield "# Command line\n"
    yield "Every command takes `--json`, which prints one JSON document on standard output, and `--debug`, which shows"
    yield "the traceback of an error. Progress, notes and errors go to standard error.\n"
    yield "| exit code | means |\n| --- | --- |\n| 0 | done; whatever was judged has passed |"
    yield "| 1 | a threshold was missed |"
    yield "| 2 | the request or a file was wrong |\n| 3 | a toolchain or runtime is missing, failed or died |"
    yield "| 130 | interrupted |\n"
    for name in VERBS:
        command = main.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        usage = " ".join(command.collect_usage_pieces(inner))
        yield f"## mobilevit {name}\n\n```text\nmobilevit {name} {usage}\n```\n"
        yield f"{_prose(inspect.cleandoc(command.help or ''))}\n"
        rows = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
        yield "| option | what it does |\n| --- | --- |"
        for option in rows:
            names, help_text = option.get_help_record(inner) or ("", "")
            described = _cell(help_text).replace("[", "\\[")  # two in a row would be a link
            yield f"| `{_cell(names).replace('&lt;', '<')}` | {described} |"
        yield ""


def _prose(text: str) -> str:
    r"""A help text as Markdown: `\b` marks what keeps its lines."""
    parts = [
        f"```text\n{part[2:].strip(chr(10))}\n```" if part.startswith("\b") else _escaped(part)
        for part in re.split(r"\n\n+", text)
    ]
    return "\n\n".join(parts)


def _escaped(text: str) -> str:
    """Prose of a docstring, in which stars, angle brackets and underscores mean themselves; code spans stay."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([*_<\[])", r"\\\1", part) for part in parts)


def _json() -> Iterator[str]:
    yield "# JSON of the commands\n"
    yield "One document a command, on standard output, with `--json`. An error is"
    yield '`{"error": "...", "exit_code": 2}`. The [help of each command](commands.md) names the keys of its document;'
    yield "these are the types of what is nested. Keys are only ever added.\n"
    yield from _types(JSON)


def _files() -> Iterator[str]:
    yield "# Files\n"
    yield "What the SDK writes beside weights and phone files, all of it JSON: as JSON alone, in the header of"
    yield "safetensors, or in the metadata of a phone file. Readers are strict: an unknown key is an error. The"
    yield "[artifact's folder](../guides/artifact-folder.md) and [device reports](../guides/device-report.md) have"
    yield "guides.\n"
    yield from _types(FILES)


def _types(groups: dict[str, tuple[str, ...]]) -> Iterator[str]:
    for title, names in groups.items():
        yield f"## {title}\n"
        for name in names:
            module, _, attribute = name.partition(":")
            yield from _type(getattr(importlib.import_module(module), attribute))


def _type(kind: type) -> Iterator[str]:
    yield f"### {kind.__name__}\n\n{_escaped(inspect.cleandoc(kind.__doc__ or ''))}\n"
    yield "| key | type | |\n| --- | --- | --- |"
    node, comments = _source(kind)
    names = {field.name: getattr(kind, "__struct_encode_fields__", ())[i] for i, field in enumerate(_fields(kind))}
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            name = statement.target.id
            annotation = ast.unparse(statement.annotation).replace(" | ", " or ")
            yield f"| `{names.get(name, name)}` | `{annotation}` | {_cell(_escaped(comments(statement)))} |"
    yield ""


def _fields(kind: type) -> Any:
    import msgspec

    return msgspec.structs.fields(kind)


def _source(kind: type) -> tuple[ast.ClassDef, Any]:
    """The class in its source, and what gives the comments on a statement: those above it and at its end."""
    path = Path(inspect.getsourcefile(kind) or "")
    with tokenize.open(path) as stream:
        tokens = list(tokenize.generate_tokens(stream.readline))
    found = {
        each.start[0]: (each.string.lstrip("# "), each.line.lstrip().startswith("#"))
        for each in tokens
        if each.type == tokenize.COMMENT
    }
    tree = ast.parse(path.read_text(encoding="utf-8"))
    node = next(each for each in ast.walk(tree) if isinstance(each, ast.ClassDef) and each.name == kind.__name__)

    def comments(statement: ast.stmt) -> str:
        above, line = [], statement.lineno - 1
        while line in found and found[line][1]:
            above.insert(0, found[line][0])
            line -= 1
        ends = [found[line][0] for line in range(statement.lineno, (statement.end_lineno or 0) + 1) if line in found]
        return " ".join(above + ends)

    return node, comments


def _python() -> Iterator[str]:
    import mobilevit_sdk

    yield "# Python\n"
    yield "All public names, as `from mobilevit_sdk import ...` gives them. The [guide](../guides/python-api.md) shows"
    yield "them at work.\n"
    for name, module in sorted(mobilevit_sdk._PUBLIC.items()):
        yield f"::: {getattr(importlib.import_module(module), name).__module__}.{name}\n"


_NO_REWRITES = ("__init__", "replace", "targets", "static_audit", "phone_graph")


def _rewrites() -> Iterator[str]:
    yield "# The rewrites, with their algebra\n"
    yield "A network in its [reference form](../architecture.md) is written to be read and trained. Before a"
    yield "converter sees it, `deploy` applies the rewrites that the target asks for. Each is an identity: with exact"
    yield "arithmetic the answers are the same, and a test of its own shows it in float64 for random, non-degenerate"
    yield "weights. What a phone file differs by is rounding, and [the gate](gate.md) measures that. Made from the"
    yield "docstrings of the code.\n"
    for path in sorted((SDK / "deployment").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts = [text for node in [tree, *tree.body] if (text := _docstring(node))]
        if path.stem not in _NO_REWRITES and any("=" in text for text in texts):
            folder = "" if path.parent.name == "deployment" else f"{path.parent.name.replace('_', ' ')}: "
            yield f"## {folder}{path.stem.replace('_', ' ')}\n"
            yield f"`mobilevit_sdk/{path.relative_to(SDK).as_posix()}`\n"
            for text in texts[:4]:
                for paragraph in re.split(r"\n\n+", text):
                    yield from _algebra(paragraph)


def _algebra(paragraph: str) -> Iterator[str]:
    """A paragraph, in letters of one width where it states an identity."""
    if not re.search(r"\s==\s", paragraph):
        yield f"{_escaped(paragraph)}\n"
        return
    lines = paragraph if re.search(r"^ ", paragraph, re.MULTILINE) else " ".join(paragraph.split())
    yield f"``` {{ .text .algebra }}\n{lines}\n```\n"


def _docstring(node: ast.AST) -> str | None:
    """That of a module, and of the public functions and classes in it."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name.startswith("_"):
        return None
    return ast.get_docstring(node) if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) else None


def _measured() -> Iterator[str]:
    yield "# Measured\n"
    yield "Every number in these pages was measured, by a script in the repository's `benchmarks/` that anyone can run"
    yield "again. No number is from a phone unless it says which.\n"
    yield "| page | about |\n| --- | --- |"
    pictures = []
    for page in sorted((DOCS / "measured").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        title = text.splitlines()[0].removeprefix("# ")
        yield f"| [{title}]({page.name}) | {_cell(first_sentence(text))} |"
        if picture := re.search(r"!\[([^]]*)\]\(([^)]+)\)", text):
            pictures.append(f"[![{picture[1]}]({picture[2]})]({page.name})")
    yield ""
    yield from (f"{picture}\n" for picture in pictures)
