"""action.yml and .pre-commit-hooks.yaml: the shell lines of the action's steps are run as GitHub runs them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers import REPOSITORY

yaml = pytest.importorskip("yaml")  # comes with huggingface-hub

from mobilevit_sdk.cli import convert, verify  # noqa: E402
from mobilevit_sdk.parity import read_thresholds  # noqa: E402

ACTION = yaml.safe_load((REPOSITORY / "action.yml").read_text())
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}
GUIDE = REPOSITORY / "docs" / "guides" / "verify-in-ci.md"
HOOKS = yaml.safe_load((REPOSITORY / ".pre-commit-hooks.yaml").read_text())

# Stands for the command: keeps its arguments, a line each, and ends as it is told.
STUB = """#!/usr/bin/env bash
printf '%s\\n' "$@" > "$ARGUMENTS"
exit "${CODE:-0}"
"""


@pytest.fixture
def step(tmp_path):
    """Runs a step with inputs; the exit code, the arguments that the command got, and what it wrote for later steps."""
    for name in ("bin/mobilevit", "bin/python", "environment/bin/python"):
        (path := tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        path.write_text(STUB)
        path.chmod(0o755)
    contexts = {"github.action_path": str(REPOSITORY), "steps.environment.outputs.folder": f"{tmp_path}/environment"}

    def run(name, code=0, **inputs):
        values = {key: str(given["default"]) for key, given in ACTION["inputs"].items()}
        values |= {key.replace("_", "-"): value for key, value in inputs.items()}
        environment = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "ARGUMENTS": str(tmp_path / "arguments")}
        environment |= {"CODE": str(code), "GITHUB_STEP_SUMMARY": "summary", "GITHUB_OUTPUT": str(tmp_path / "output")}
        environment["GITHUB_PATH"] = str(tmp_path / "output")
        for key, value in STEPS[name]["env"].items():
            environment[key] = re.sub(
                r"\$\{\{ (.+?) \}\}",
                lambda found: values[found[1][7:]] if found[1].startswith("inputs.") else contexts[found[1]],
                value,
            )
        script = tmp_path / "step.sh"
        script.write_text(STEPS[name]["run"])
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]  # GitHub's `shell: bash`
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        output = (tmp_path / "output").read_text() if (tmp_path / "output").exists() else ""
        assert done.stderr == ""
        return done.returncode, (tmp_path / "arguments").read_text().splitlines(), output

    return run


def test_without_inputs_the_default_checkpoint_is_converted_and_verified(step):
    assert step("Convert") == (0, ["convert", "--out", "artifacts", "--no-verify"], "")
    arguments = ["verify", "--bisect", "--report", "parity-report", "--summary", "summary", "--", "artifacts"]
    assert step("Verify") == (0, arguments, "passed=true\n")


def test_every_input_reaches_the_command_and_none_is_read_as_code(step):
    hostile = '$(touch hacked) `touch hacked` "; touch hacked; # a b'
    inputs = {"model": "m", "to": "coreml,tflite", "precision": "fp16", "backend": "ane", "image_size": "96"}
    inputs |= {"num_classes": "7", "labels": "my labels.txt", "calibration": "my photos", "recipe": "recipe.json"}
    _, arguments, _ = step("Convert", checkpoint=hostile, **inputs)
    given = [value for pair in (("--" + k.replace("_", "-"), v) for k, v in inputs.items()) for value in pair]
    assert arguments == ["convert", "--out", "artifacts", "--no-verify", *given, "--", hostile]
    _, arguments, _ = step("Verify", images=hostile, checkpoint="-c.pth", baseline="old.json", config="p.toml")
    assert arguments[6:] == [
        "--images",
        hostile,
        "--checkpoint",
        "-c.pth",
        *("--baseline", "old.json"),
        *("--config", "p.toml"),
        "--",
        "artifacts",
    ]
    _, arguments, _ = step("Verify", device_reports=f"a phone.json\n\n{hostile}\n")
    assert arguments[6:] == ["--device-report", "a phone.json", "--device-report", hostile, "--", "artifacts"]
    assert not any("${{" in step.get("run", "") for step in ACTION["runs"]["steps"])


@pytest.mark.parametrize("code", [1, 2, 3])
def test_a_verdict_that_is_not_passed_ends_the_step_with_its_code(step, code):
    found, _, output = step("Verify", code=code)
    assert (found, output) == (code, "passed=false\n")
    assert step("Convert", code=code)[0] == code


def test_the_sdk_of_the_action_is_installed_with_its_toolchains_into_its_environment(step, tmp_path):
    _, arguments, output = step("Install the SDK")
    assert arguments[:3] == ["-m", "pip", "install"]
    assert arguments[-3:] == ["-c", f"{REPOSITORY}/constraints.txt", f"{REPOSITORY}[all]"]
    assert output == f"{tmp_path}/environment/bin\n"  # later steps find it on their path


def test_another_environment_is_restored_once_anything_that_decides_on_it_changes(tmp_path):
    (sdk := tmp_path / "sdk").mkdir()
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(REPOSITORY / name, sdk)

    def key(index="https://example.org/cpu", folder=tmp_path):
        environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "GITHUB_OUTPUT": str(tmp_path / "output"),
        }
        environment |= {"ACTION_PATH": str(sdk), "TORCH_INDEX": index, "RUNNER_TEMP": str(folder)}
        (tmp_path / "output").unlink(missing_ok=True)
        command = ["bash", "-eo", "pipefail", "-c", STEPS["Find the environment"]["run"]]
        subprocess.run(command, env=environment, check=True)
        place, name = (tmp_path / "output").read_text().splitlines()
        assert place == f"folder={folder}/mobilevit-sdk"
        assert re.fullmatch(r"key=mobilevit-sdk-[0-9a-f]{16}", name)
        return name

    keys = [key(), key(index="https://example.org/cuda"), key(folder=tmp_path / "elsewhere")]
    assert key() == keys[0]
    for name in ("pyproject.toml", "constraints.txt"):
        (sdk / name).write_text((sdk / name).read_text() + "#\n")
        keys.append(key())
    assert len({*keys}) == 5


def test_the_options_of_the_steps_exist():
    known = {option for module in (convert, verify) for parameter in module.command.params for option in parameter.opts}
    lines = "".join(STEPS[name]["run"] for name in ("Convert", "Verify"))
    used = set(re.findall(r"(--[a-z][a-z-]*)", lines))
    assert used
    assert used <= known


def test_hooks_run_on_the_files_of_an_artifact_and_with_options_that_exist():
    hooks = {hook["id"]: hook for hook in HOOKS}
    files = re.compile(hooks["mobilevit-verify"]["files"])
    artifact = ["m/x.tflite", "m/x.pte", "m/x.mlpackage/Data/com.apple.CoreML/model.mlmodel", "m/manifest.json"]
    artifact += ["m/x.mlpackage/Data/com.apple.CoreML/weights/weight.bin", "m/reference.safetensors"]
    assert all(files.search(name) for name in artifact)
    assert not files.search("m/train.py")
    hook = hooks["mobilevit-convert"]
    assert re.search(hook["files"], "model.safetensors")
    assert re.search(hook["exclude"], "m/reference.safetensors")
    for hook in HOOKS:
        verb = hook["entry"].split()[1]
        known = {
            option
            for parameter in {"convert": convert, "verify": verify}[verb].command.params
            for option in parameter.opts
        }
        assert {argument for argument in hook["args"] if argument.startswith("-")} <= known


@pytest.mark.skipif(find_spec("check_jsonschema") is None, reason="check-jsonschema is not installed")
def test_the_action_is_valid_by_its_public_schema():
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.github-actions",
        str(REPOSITORY / "action.yml"),
    ]
    subprocess.run(command, check=True)


def blocks(language):
    """Of the guide to the gate in CI."""
    return re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(), re.DOTALL)


def test_the_thresholds_of_the_guide_are_read(tmp_path):
    (block,) = [block for block in blocks("toml") if "tool.mobilevit.parity" in block]
    (config := tmp_path / "pyproject.toml").write_text(block)
    found = read_thresholds(config)
    assert (found["fp32"].sqnr_db, found["fp16"].sqnr_db) == (100, 35)


def test_the_workflow_and_the_hooks_of_the_guide_name_what_there_is():
    documents = [entry for block in blocks("yaml") for entry in yaml.safe_load(block)]
    (step,) = [entry for entry in documents if "checkpoint" in entry.get("with", {})]
    assert set(step["with"]) <= set(ACTION["inputs"])
    (cache,) = [entry for entry in documents if entry.get("uses", "").startswith("actions/cache@")]
    assert documents.index(cache) < documents.index(step)
    assert ACTION["inputs"]["artifacts"]["default"] in cache["with"]["path"].split()
    files = re.findall(r"'([^']+)'", cache["with"]["key"])
    assert {step["with"][name] for name in ("checkpoint", "recipe")} <= set(files)  # what the files are made from
    (repository,) = [entry for entry in documents if "hooks" in entry]
    assert [hook["id"] for hook in repository["hooks"]] == [hook["id"] for hook in HOOKS]
