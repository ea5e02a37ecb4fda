"""`mobilevit push` against a stand-in for the hub: what arrives, what never leaves, and what is said of refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from app_projects import as_format, files_of, make_artifact, make_package
from click.testing import CliRunner
from stand_in_hub import Hub, standing_in

from mobilevit_sdk import push
from mobilevit_sdk.artifacts.artifact import Artifact, open_artifact
from mobilevit_sdk.cli import main
from mobilevit_sdk.errors import ArtifactError, RequestError

pytest.importorskip("huggingface_hub")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with standing_in(monkeypatch) as running:
        yield running


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return as_format(make_artifact(tmp_path / "files" / "tiny-tflite-fp32"), "tflite")


def test_the_hub_gets_the_files_of_the_manifest_and_the_card_byte_for_byte(artifact, server):
    folder = artifact.path.parent
    for name in (".env", "notes.txt", "report/report.html"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine")
    pushed = push(folder.parent, "someone/birds", private=True)
    names = {f"{folder.name}/{name}" for name in (artifact.path.name, "manifest.json", "reference.safetensors")}
    assert set(server.files) == names | {"README.md"} == set(pushed.files)
    assert all(server.files[name] == (folder.parent / name).read_bytes() for name in names)
    assert server.files["README.md"].startswith(b"---\nlibrary_name: mobilevit-sdk\n")
    assert b"hf download someone/birds" in server.files["README.md"]
    assert pushed.url == f"{server.url}/someone/birds"
    (repository,) = server.repositories
    assert (repository["name"], repository["organization"]) == ("birds", "someone")
    assert repository.get("visibility") == "private" or repository["private"]  # by the library's version
    assert server.tokens == {"Bearer hf_standin"}


def test_a_package_is_uploaded_with_all_of_its_files(tmp_path, server):
    package = make_package(tmp_path / "tiny-coreml")
    push(package, "someone/birds")
    assert set(server.files) == {f"tiny-coreml/{name}" for name in files_of(package.path.parent)} | {"README.md"}


def test_a_card_of_one_s_own_is_taken_as_it_is(artifact, server, tmp_path):
    (tmp_path / "own.md").write_text("---\nlicense: mit\n---\nMine.\n")
    push(artifact, "someone/birds", card=tmp_path / "own.md")
    assert server.files["README.md"] == (tmp_path / "own.md").read_bytes()


def test_a_dry_run_lists_files_and_asks_nobody(artifact, server):
    result = CliRunner().invoke(main, ["push", str(artifact.path.parent), "someone/birds", "--dry-run", "--json"])
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["url"] is None
    assert len(document["files"]) == 4
    assert (server.repositories, server.files) == ([], {})


@pytest.mark.parametrize("name", ["manifest.json", "reference.safetensors", "mobilevit_xxs.fake"])
def test_no_link_is_followed(artifact, server, tmp_path, name):
    place = artifact.path.parent / name
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="is a link or no file"):
        push(artifact.path.parent, "someone/birds")
    assert server.files == {}


def test_no_link_in_a_package_is_followed(tmp_path, server):
    package = make_package(tmp_path / "tiny-coreml")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("secret")
    (package.path / "Data" / "more").symlink_to(tmp_path / "secret")
    with pytest.raises(ArtifactError):
        push(package, "someone/birds")
    assert server.files == {}


def test_changed_and_rejected_artifacts_stay_here(artifact, server):
    artifact.path.write_bytes(b"another file")
    with pytest.raises(ArtifactError, match="not the file that its manifest describes"):
        push(artifact, "someone/birds")
    with pytest.raises(RequestError, match="names no repository"):
        push(artifact, "birds/../../x")
    assert server.repositories == []


@pytest.mark.parametrize(
    ("status", "said"),
    [(401, "does not let you write"), (403, "set HF_TOKEN"), (400, "the hub refused"), (404, "the hub refused")],
)
def test_what_the_hub_refuses_is_one_line_and_exit_code_2(artifact, server, status, said):
    server.status = status
    result = CliRunner().invoke(main, ["push", str(artifact.path.parent), "someone/birds"])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert said in result.stderr.replace("\n", " ")
    assert "Traceback" not in result.stderr


def test_the_command_takes_the_address_and_the_token_from_the_environment(artifact, server):
    environment = os.environ | {"HF_ENDPOINT": server.url, "HF_TOKEN": "hf_other"}
    command = [sys.executable, "-m", "mobilevit_sdk", "push", str(artifact.path.parent), "someone/birds"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"{server.url}/someone/birds\n")
    assert server.tokens == {"Bearer hf_other"}
    assert open_artifact(artifact.path.parent).manifest.spec.labels is not None
    assert msgspec.json.decode(server.files["tiny-tflite-fp32/manifest.json"])["sha256"] == artifact.manifest.sha256
