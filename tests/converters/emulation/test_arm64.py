"""The ARM builds of the runtimes on an emulated machine: what they answer, and what is said where they cannot."""

from __future__ import annotations

import json
import platform
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from debian_packages import needs_dpkg, write_deb
from mobilevit_converters.emulation import arm64
from mobilevit_converters.executorch import converter as executorch
from mobilevit_converters.executorch.runtimes import arm64_build
from mobilevit_converters.executorch.runtimes.arm64 import ExecuTorchARM64Runtime
from mobilevit_converters.tflite import converter as tflite
from mobilevit_converters.tflite.runtimes.arm64 import LiteRTARM64Runtime
from phone_files import SharedFiles

from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.cli import main
from mobilevit_sdk.errors import ArtifactError, RequestError, ToolchainError
from mobilevit_sdk.formats.runtime import OnRequestRuntime, TimedRuntime
from mobilevit_sdk.parity import verify

RUNTIMES = {"tflite": LiteRTARM64Runtime(), "executorch": ExecuTorchARM64Runtime()}
CPU = {"tflite": tflite.runtimes[0], "executorch": executorch.runtimes[0]}
MISSING = [str(found.reason) for each in RUNTIMES.values() if not (found := each.availability())]
needs_machine = pytest.mark.skipif(bool(MISSING), reason=f"arm64: {'; '.join(MISSING)}")
emulating = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"), reason="ARM64 is emulated on Linux x86_64"
)


@pytest.fixture(scope="module")
def artifacts(phone_files: SharedFiles) -> dict[str, Artifact]:
    """A small network in both formats, by format."""
    return {format: phone_files.artifact(format, "fp32") for format in RUNTIMES}


@needs_machine
@pytest.mark.parametrize("name", RUNTIMES)
def test_the_arm_build_answers_as_pytorch(name, artifacts):
    (verdict,) = verify([artifacts[name]], runtimes=["arm64"])
    assert (verdict.status, verdict.reason) == ("passed", None)
    assert verdict.agreement.sqnr_db.worst >= 90
    assert verdict.agreement.cases == 27


@needs_machine
@pytest.mark.parametrize("name", RUNTIMES)
def test_it_computes_with_kernels_of_its_own(name, artifacts):
    """The same file, another order of summation: it is not this machine's build that answers."""
    path, image = artifacts[name].path, artifacts[name].reference().cases[0].image
    arm, here = (runtime.load(path)(image) for runtime in (RUNTIMES[name], CPU[name]))
    assert arm.tolist() != here.tolist()
    np.testing.assert_allclose(arm, here, rtol=1e-3, atol=1e-5)


@needs_machine
@pytest.mark.parametrize("name", RUNTIMES)
def test_pixels_are_read_in_their_order_any_memory_layout_and_no_other_type(name, artifacts):
    image = artifacts[name].reference().cases[0].image
    answer = RUNTIMES[name].load(artifacts[name].path)
    np.testing.assert_array_equal(answer(image), answer(np.asfortranarray(image)))
    assert np.abs(answer(image) - answer(image[::-1])).max() > 1e-3
    for wrong in (image[:, :-1], image.astype(np.float32), image.transpose(1, 2, 0)):
        with pytest.raises(RequestError, match=r"takes uint8 of shape \(3, 36, 36\), not"):
            answer(wrong)


@needs_machine
def test_a_program_that_executorch_refuses_is_the_files_fault(artifacts, tmp_path):
    content = artifacts["executorch"].path.read_bytes()
    assert content.count(b"XnnpackBackend") == 1
    path = tmp_path / "model.pte"
    path.write_bytes(content.replace(b"XnnpackBackend", b"NotARealOneYet"))
    with pytest.raises(
        ArtifactError,
        match=r"^ExecuTorch 1\.\S+ for ARM64: ExecuTorch cannot load it: Error::NotFound \(.*NotARealOneYet",
    ):
        RUNTIMES["executorch"].load(path)


@needs_machine
def test_a_crash_inside_is_told(artifacts, tmp_path, monkeypatch):
    broken = tmp_path / "runner"
    runner = arm64_build.RUNNER
    folder = next(path for path in arm64.part("").iterdir() if (path / runner).is_file())
    shutil.copytree(folder, tmp_path / "copy")
    broken = tmp_path / "copy" / runner
    (tmp_path / "copy" / "libexecutorch_threadpool.so").write_bytes(b"no library")
    monkeypatch.setattr("mobilevit_converters.executorch.runtimes.arm64._runner", lambda: broken)
    with pytest.raises(ToolchainError, match=r"ended early with exit code 127: .*libexecutorch_threadpool\.so"):
        RUNTIMES["executorch"].load(artifacts["executorch"].path)


def test_it_runs_where_it_is_named_and_not_otherwise(artifacts, monkeypatch):
    monkeypatch.setattr(LiteRTARM64Runtime, "availability", lambda self: CPU["tflite"].availability())
    verdicts = {verdict.runtime: verdict for verdict in verify([artifacts["tflite"]])}
    assert verdicts["litert-cpu"].status == "passed"
    assert "arm64" not in verdicts


@pytest.mark.parametrize("name", RUNTIMES)
def test_it_waits_to_be_asked_for_and_is_never_timed(name):
    assert isinstance(RUNTIMES[name], OnRequestRuntime)
    assert not isinstance(RUNTIMES[name], TimedRuntime)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A Linux on x86-64 with an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    return tmp_path / "mobilevit-sdk"


@pytest.mark.parametrize("name", RUNTIMES)
def test_the_reason_names_the_command_that_fetches_it(name, machine):
    reason = RUNTIMES[name].availability().reason
    assert "for ARM64 is not installed: mobilevit doctor --install arm64" in reason


@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.parametrize(
    ("system", "processor", "told"),
    [
        ("Linux", "aarch64", "this machine is ARM64 itself"),
        ("Darwin", "arm64", "this machine is ARM64 itself"),
        ("Windows", "AMD64", "emulated on Linux x86_64, and this is Windows AMD64"),
    ],
)
def test_a_machine_that_cannot_or_need_not_emulate_says_so(name, system, processor, told, machine, monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: processor)
    assert told in RUNTIMES[name].availability().reason
    result = CliRunner().invoke(main, ["doctor", "--install", "arm64", "--json"])
    assert result.exit_code == 3
    assert told in json.loads(result.stdout)["error"]


@emulating
@needs_dpkg
def test_packages_without_a_machine_that_works_leave_nothing_behind(machine, monkeypatch):
    """Each package is there, whole, and holds something else."""

    def download(release, packages, scratch, on_progress):
        emulator = {f"./{arm64.EMULATOR_FILE}": b"\x7fELF and no more"}
        return {name: write_deb(scratch / f"{name.split(':')[0]}_1:10.0+x_all.deb", emulator) for name in packages}

    monkeypatch.setattr(arm64, "download_from", download)
    result = CliRunner().invoke(main, ["doctor", "--install", "arm64"])
    assert result.exit_code == 3
    assert "does not run on QEMU 1:10.0 here" in result.stderr
    assert list((machine / "arm64").iterdir()) == []


@needs_machine
def test_what_is_there_and_works_is_not_fetched_again(monkeypatch):
    for module in ("mobilevit_converters.emulation.arm64", "mobilevit_converters.executorch.runtimes.arm64_build"):
        monkeypatch.setattr(f"{module}.download_from", None)
    for module in (
        "mobilevit_converters.tflite.runtimes.arm64",
        "mobilevit_converters.executorch.runtimes.arm64_build",
    ):
        monkeypatch.setattr(f"{module}.install_wheels", None)
    result = CliRunner().invoke(main, ["doctor", "--install", "arm64", "--json"])
    assert result.exit_code == 0, result.stderr
    rows = {row["format"]: row for row in json.loads(result.stdout)["runtimes"]}
    assert {name: (row["name"], row["reason"]) for name, row in rows.items()} == dict.fromkeys(
        RUNTIMES, ("arm64", None)
    )
    assert all("on QEMU 10." in row["version"] and Path(row["path"]).is_dir() for row in rows.values())


@needs_machine
def test_a_compiler_that_complains_is_told(tmp_path, monkeypatch):
    with pytest.raises(ToolchainError, match=r"^cannot build a program for ARM64: cat: .*no_such_file"):
        arm64_build._run(["env", "--", "LANG=C", "cat", "/no_such_file"])
