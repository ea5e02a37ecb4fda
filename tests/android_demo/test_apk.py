"""What the check of the APK refuses. It runs where `make apk` has made one."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import platformdirs
import pytest

from mobilevit_sdk.demos import demo_folder

ANDROID = demo_folder("android_demo")
APK = ANDROID / "app/target/mobilevit.apk"
KEY = platformdirs.user_cache_path("mobilevit-sdk") / "android-debug.keystore"
TOOLS = ("aapt", "zipalign", "apksigner", "dexdump")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not APK.is_file(), reason="make apk has not made one"),
    pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason=f"needs {', '.join(TOOLS)}"),
]


def check(apk: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ANDROID / "apk/check.sh", apk], capture_output=True, text=True, check=False)


def changed(folder: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """The APK with each file as `change` returns it, None for none, aligned and signed anew."""
    raw, aligned, signed = (folder / f"{name}.apk" for name in ("raw", "aligned", "signed"))
    with zipfile.ZipFile(APK) as source, zipfile.ZipFile(raw, "w") as target:
        for info in source.infolist():
            content = change(info.filename, source.read(info))
            if content is not None:
                target.writestr(info, content)
    subprocess.run(["zipalign", "-p", "4", raw, aligned], check=True)
    command = ["apksigner", "sign", "--ks", KEY, "--ks-pass", "pass:android", "--min-sdk-version", "26"]
    subprocess.run([*command, "--out", signed, aligned], check=True, capture_output=True)
    return signed


def test_what_make_apk_makes_passes() -> None:
    result = check(APK)
    assert result.returncode == 0, result.stderr
    assert "runtimes: TFLite" in result.stdout


def test_an_apk_that_was_edited_after_signing_is_refused(tmp_path: Path) -> None:
    edited = tmp_path / "edited.apk"
    content = bytearray(APK.read_bytes())
    content[len(content) // 2] ^= 1
    edited.write_bytes(content)
    assert "the signature is not valid" in check(edited).stderr


def test_a_runtime_without_its_library_is_refused(tmp_path: Path) -> None:
    apk = changed(tmp_path, lambda name, content: None if name.startswith("lib/x86_64/") else content)
    assert "no TFLite library for x86_64" in check(apk).stderr


def test_a_class_that_the_manifest_names_and_the_dex_file_lacks_is_refused(tmp_path: Path) -> None:
    def renamed(name: str, content: bytes) -> bytes:
        if name != "classes.dex":
            return content
        dex = bytearray(content.replace(b"Ldev/mobilevit/demo/ReportProvider;", b"Ldev/mobilevit/demo/ReportProvideq;"))
        dex[12:32] = hashlib.sha1(dex[32:]).digest()
        dex[8:12] = zlib.adler32(dex[12:]).to_bytes(4, "little")
        return bytes(dex)

    assert "names dev.mobilevit.demo.ReportProvider" in check(changed(tmp_path, renamed)).stderr


def test_a_damaged_dex_file_is_refused(tmp_path: Path) -> None:
    apk = changed(tmp_path, lambda name, content: content[:-99] if name == "classes.dex" else content)
    assert "classes.dex is damaged" in check(apk).stderr
