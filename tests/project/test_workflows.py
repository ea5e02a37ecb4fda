"""What GitHub reads beside the action: workflows, issue forms, the citation; and the scripts that workflows run."""

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

GITHUB = REPOSITORY / ".github"
WORKFLOWS = {path.name: yaml.safe_load(path.read_text()) for path in sorted((GITHUB / "workflows").glob("*.yml"))}
JOBS = {(name, job): body for name, workflow in WORKFLOWS.items() for job, body in workflow["jobs"].items()}
STEPS = [(where, step) for where, job in JOBS.items() for step in job["steps"]]
SCHEMAS = {
    "vendor.github-workflows": [*(GITHUB / "workflows").glob("*.yml")],
    "vendor.github-issue-forms": [path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"],
    "vendor.github-issue-config": [GITHUB / "ISSUE_TEMPLATE" / "config.yml"],
    "vendor.citation-file-format": [REPOSITORY / "CITATION.cff"],
}


@pytest.mark.skipif(find_spec("check_jsonschema") is None, reason="check-jsonschema is not installed")
@pytest.mark.parametrize("schema", SCHEMAS)
def test_files_are_valid_by_their_public_schemas(schema):
    assert SCHEMAS[schema]
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, SCHEMAS[schema])]
    subprocess.run(command, check=True)


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="actionlint is not installed")
def test_actionlint_finds_nothing():
    subprocess.run(["actionlint"], cwd=REPOSITORY, check=True)


def test_nothing_that_others_wrote_is_read_as_code():
    assert [step for _, step in STEPS if "${{" in step.get("run", "")] == []


def test_jobs_may_read_the_repository_and_only_what_publishes_may_do_more():
    assert [name for name, workflow in WORKFLOWS.items() if workflow["permissions"] != {"contents": "read"}] == []
    more = {job for job, body in JOBS.items() if "permissions" in body}
    assert more == {("docs.yml", "publish"), ("release.yml", "publish"), ("release.yml", "release")}
    assert all("pull_request" not in WORKFLOWS["release.yml"][True] for _ in more)  # YAML reads `on` as true
    assert [job for job, body in JOBS.items() if "timeout-minutes" not in body] == []


def test_actions_are_pinned_to_a_major_version():
    used = {step["uses"] for _, step in STEPS if "uses" in step} - {"./"}
    assert used
    assert [each for each in used if not re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v\d+|[0-9a-f]{40})", each)] == []


def test_make_targets_and_scripts_that_workflows_run_exist():
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    lines = "\n".join(step.get("run", "") for _, step in STEPS)
    assert (made := set(re.findall(r"^make ([a-z-]+)", lines, re.MULTILINE))) >= {"lint", "test", "demo"}
    assert made <= targets
    assert (scripts := re.findall(r"^(\.ci/[a-z-]+)", lines, re.MULTILINE))
    assert [script for script in scripts if not (REPOSITORY / script).stat().st_mode & 0o100] == []


def test_the_action_runs_in_ci_with_inputs_and_outputs_that_it_has():
    action = yaml.safe_load((REPOSITORY / "action.yml").read_text())
    ((_, step),) = [(where, step) for where, step in STEPS if step.get("uses") == "./"]
    assert set(step["with"]) <= set(action["inputs"])
    values = " ".join(str(value) for _, each in STEPS for value in each.get("env", {}).values())
    assert set(re.findall(rf"steps\.{step['id']}\.outputs\.(\w+)", values)) == set(action["outputs"])


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of what `.ci/release-ready` reads, ready for v1.2.3."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(REPOSITORY / ".ci" / "release-ready", tmp_path / ".ci")
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    (tmp_path / "CITATION.cff").write_text("version: 1.2.3\n")
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [1.2.3] - 2027-01-31\n")
    (tmp_path / "README.md").write_text("pip install mobilevit-sdk\n")
    return tmp_path


def ready(repository: Path, tag: str) -> tuple[int, list[str]]:
    done = subprocess.run([repository / ".ci" / "release-ready", tag], capture_output=True, text=True)
    return done.returncode, done.stderr.splitlines()


def test_a_tag_is_released_only_where_all_files_name_its_version(repository):
    assert ready(repository, "v1.2.3") == (0, [])
    code, said = ready(repository, "v1.2.4")
    assert (code, len(said)) == (1, 3)
    for name, text in (("CHANGELOG.md", "## [1.2.3] - unreleased\n"), ("README.md", "not on PyPI yet")):
        before = (repository / name).read_text()
        (repository / name).write_text(text)
        code, said = ready(repository, "v1.2.3")
        assert (code, len(said)) == (1, 1)
        assert name in said[0]
        (repository / name).write_text(before)


def test_the_version_of_the_citation_is_that_of_the_package():
    (version,) = re.findall(r'^version = "(.+)"$', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)
    assert yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())["version"] == version
