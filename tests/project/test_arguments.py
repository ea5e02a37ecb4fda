"""The public functions take what people pass: one or several, text or Path, loaded or a file; they speak Python."""

from __future__ import annotations

import ast
import inspect
import re
import shutil
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from helpers import REPOSITORY, tiny_model
from hypothesis import given
from hypothesis import strategies as st
from labeled_images import pictures, write_parquet
from made_once import in_this_process

import mobilevit_sdk
from mobilevit_sdk import bisect, convert, evaluate, export_checkpoint, load_checkpoint, prune, quantize, verify
from mobilevit_sdk.arguments import names, several
from mobilevit_sdk.artifacts.artifact import find_artifact
from mobilevit_sdk.bench.plan import plan
from mobilevit_sdk.checkpoints.checkpoint import save_checkpoint
from mobilevit_sdk.cli.common import verb
from mobilevit_sdk.errors import ArtifactError, CheckpointError, RequestError
from mobilevit_sdk.parity.images import checkpoint_of
from mobilevit_sdk.quantization.search import Goal

NAME = st.text("abcdefgh-", min_size=1)


@given(st.lists(NAME))
def test_names_are_the_same_as_a_list_as_one_text_and_with_spaces(given_names):
    found = names(given_names)
    assert found == list(dict.fromkeys(given_names))
    assert names(",".join(given_names)) == names(tuple(given_names)) == names(f" {' , '.join(given_names)} ,") == found


@pytest.mark.parametrize("value", ["text", Path("a/b"), 3, object()])
def test_one_value_is_a_list_of_one_and_none_is_an_empty_one(value):
    assert several(value) == several([value]) == several(iter([value])) == [value]
    assert several(None) == names(None) == []


def test_a_name_that_is_not_text_is_refused():
    with pytest.raises(RequestError, match="3 is not a name"):
        names([3])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(*tiny_model(), path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_parquet(tmp_path_factory.mktemp("data") / "a.parquet", pictures(24))


@pytest.fixture(scope="module")
def artifact(phone_files):
    return phone_files.artifact("tflite", "fp32")


def forms(path):
    """A checkpoint in all the forms that people pass."""
    return str(path), path, load_checkpoint(path)


def test_without_a_source_a_checkpoint_is_the_one_that_ships():
    assert load_checkpoint().spec.model == "mobilevit_xxs"
    assert mobilevit_sdk.inspect_checkpoint().num_classes == load_checkpoint().spec.num_classes
    with pytest.raises(CheckpointError, match="mobilevit_s is a model's name, not a checkpoint"):
        load_checkpoint("mobilevit_s")


def test_convert(checkpoint, tmp_path):
    with in_this_process():
        first = convert(str(checkpoint), out=str(tmp_path), formats="tflite", precisions="fp32", check=False)
    again = [
        convert(each, out=tmp_path, formats=["tflite"], precisions=("fp32",), check=False) for each in forms(checkpoint)
    ]
    assert [[each.path for each in result.artifacts] for result in (first, *again)] == 4 * [
        [tmp_path / "mobilevit_xxs-tflite-fp32" / "mobilevit_xxs.tflite"]
    ]
    assert all(result.artifacts == first.artifacts for result in again)  # found again, not made again


def test_verify_and_inspect(artifact, tmp_path):
    folder = artifact.path.parent
    several_forms = [artifact, folder, str(folder), str(artifact.path), [artifact], (str(folder),)]
    verdicts = [verify(each, runtimes="litert-cpu") for each in several_forms]
    assert all(len(each) == 1 and each[0].agreement == verdicts[0][0].agreement for each in verdicts)
    assert len({str(mobilevit_sdk.inspect_artifact(each)) for each in several_forms[:4]}) == 1
    plans = [
        plan(several(each), against, None, folder) for each, against in ((folder, artifact), (artifact, str(folder)))
    ]
    assert [[each.artifact for each in found.candidates] for found in plans] == 2 * [[str(artifact.path)]]
    for name in "ab":
        shutil.copytree(folder, tmp_path / name)
    with pytest.raises(ArtifactError, match="holds 2 artifacts; give one of them, such as"):
        find_artifact(tmp_path)
    with pytest.raises(RequestError, match="no artifact here runs on a runtime 'litert'; did you mean"):
        verify(folder, runtimes="litert")


@pytest.mark.slow
def test_bisect(artifact, phone_files):
    loaded = phone_files.checkpoint()
    assert bisect(str(artifact.path.parent), checkpoint=loaded).status == "agrees"
    found = [checkpoint_of(artifact, each) for each in (loaded, loaded.source, Path(loaded.source))]
    assert len({(each.sha256, each.source) for each in found}) == 1


def test_evaluate(checkpoint, data):
    found = [evaluate(each, data=str(data)) for each in forms(checkpoint)]
    assert len({(each.target, each.runtime, each.accuracy) for each in found}) == 1


def test_prune_quantize_and_export(checkpoint, data, tmp_path):
    pruned = [prune(each, params=0.8, importance="magnitude", multiple=2) for each in forms(checkpoint)]
    assert len({each.parameters for each in pruned}) == 1
    recipes = [
        quantize(each, calibration=str(data), goal=Goal(size=1), out=str(tmp_path)) for each in forms(checkpoint)
    ]
    again = quantize(checkpoint, calibration=data, goal=Goal(size=1), recipe=str(tmp_path / "recipe.json"))
    assert {str(each.losses) for each in (*recipes, again)} == {str(again.losses)}
    exported = [export_checkpoint(each, "timm", str(tmp_path / "a.pth")) for each in forms(load_checkpoint().source)]
    assert len(set(exported)) == 1


@pytest.mark.parametrize("name", mobilevit_sdk.__all__)
def test_defaults_fit_into_a_line_of_help(name):
    for parameter in inspect.signature(getattr(mobilevit_sdk, name)).parameters.values():
        shown = repr(parameter.default)
        assert parameter.name == "progress" or len(shown) < 40, f"{parameter.name} = {shown}"


def _texts(path):
    """The texts of a module, docstrings aside; what is computed within one is left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "x" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value


# For a terminal: with what follows `mobilevit verify` up to the end of the code, or of another program.
WHOLE_COMMAND = re.compile(
    r"mobilevit [a-z]+ --\w+|`mobilevit [a-z]+ [^`]+`|python3 -m http\.server --bind|hf download .+|^--[a-z-]+=[^ ].*"
)


def test_no_message_of_the_library_names_an_option_of_the_command_line():
    """They name parameters, which the command line replaces; commands for a terminal are whole."""
    files = [path for path in (REPOSITORY / "mobilevit_sdk").rglob("*.py") if path.parent.name != "cli"]
    files += (REPOSITORY / "converters").rglob("*.py")
    wrong = [
        f"{path.name}: {text}"
        for path in files
        for text in _texts(path)
        if " " in text.strip() and re.search(r"(?<![\w-])--\w", WHOLE_COMMAND.sub("", text))
    ]
    assert wrong == []


def test_the_command_line_names_its_options_where_the_library_names_parameters():
    @verb("cut", "")
    @click.argument("checkpoint")
    @click.option("--to", "formats")
    @click.option("--out", "folder")
    @click.option("--random-weights", type=int)
    def command(**_):
        raise RequestError("`formats`, `out`, `folder`, `random_weights=SEED`, `checkpoint`, `height` and a ` alone")

    result = CliRunner().invoke(command, ["a"])
    assert result.stderr.strip() == (
        "error: --to, --out, --out, --random-weights SEED, CHECKPOINT, `height` and a ` alone"
    )
