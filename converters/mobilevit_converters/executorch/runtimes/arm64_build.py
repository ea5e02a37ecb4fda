"""Builds the program that runs .pte files on an emulated ARM64 machine.

ExecuTorch's Python bindings need torch, which is half a gigabyte for ARM64. Its wheel also carries the runtime as
libraries with C++ headers, so a small program of our own is linked with those. The cross compiler comes from Debian
packages and runs with the C library that it was built for, so it is the same on every Linux.
"""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import copyfile

from mobilevit_converters.emulation import arm64
from mobilevit_converters.emulation.debian import download_from, unpack
from mobilevit_converters.emulation.wheels import install_wheels
from mobilevit_sdk.errors import ToolchainError

SOURCE = Path(__file__).with_name("arm64_runner.cpp")
RUNNER = "runner"
COMPONENTS = ("executorch", "executorch_backend_xnnpack", "executorch_kernels_optimized", "executorch_threadpool")
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux2014_aarch64")
# As the wheel's own CMake files have it.
DEFINITIONS = ("-DC10_USING_CUSTOM_GENERATED_MACROS", "-DET_EVENT_TRACER_ENABLED", "-D_GNU_SOURCE", "-std=c++17")

GCC = "14"  # of Debian's release
COMPILER = (f"g++-{GCC}-aarch64-linux-gnu:amd64", "binutils-aarch64-linux-gnu:amd64")
COMPILER_NEEDS = tuple(
    f"{name}:amd64"
    for name in (
        "libc6",
        "libgmp10",
        "libisl23",
        "libjansson4",
        "libmpc3",
        "libmpfr6",
        "libsframe1",
        "libzstd1",
        "zlib1g",
    )
)
SYSROOT = tuple(
    f"{name}-arm64-cross:all"
    for name in (
        *("libc6", "libc6-dev", "linux-libc-dev"),
        *(f"libgcc-{GCC}-dev", "libgcc-s1", f"libstdc++-{GCC}-dev", "libstdc++6"),
    )
)


def revision() -> str:
    """Of the program, by its source: a cache folder that another release of this SDK filled is not taken for ours."""
    return hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:8]


def build(version: str, folder: Path, on_progress: Callable[[str], None]) -> None:
    """Put the runner and ExecuTorch's libraries into `folder`, a new one. Raises ToolchainError."""
    with tempfile.TemporaryDirectory() as scratch:
        wheel, toolchain = Path(scratch, "wheel"), Path(scratch, "toolchain")
        install_wheels([f"executorch=={version}"], wheel, arm64.PYTHON, platforms=PLATFORMS)
        packages = [*COMPILER, *COMPILER_NEEDS, *SYSROOT]
        for archive in download_from(arm64.RELEASE, packages, Path(scratch), on_progress).values():
            unpack(archive, toolchain)
        on_progress("compiling a program that runs its files")
        folder.mkdir()
        package = wheel / "executorch"
        _compile(toolchain, package, folder / RUNNER)
        for component in COMPONENTS:
            copyfile(package / f"lib/lib{component}.so", folder / f"lib{component}.so")


def _compile(toolchain: Path, package: Path, program: Path) -> None:
    """Compile, assemble and link without the driver `g++`, which would look for its parts outside `toolchain`."""
    target, gcc = toolchain / "usr/aarch64-linux-gnu", toolchain / f"usr/lib/gcc-cross/aarch64-linux-gnu/{GCC}"
    include = package / "include"
    headers = [target / f"include/c++/{GCC}", target / f"include/c++/{GCC}/aarch64-linux-gnu", gcc / "include"]
    headers += [target / "include", include, include / "executorch/runtime/core/portable_type/c10"]
    assembly, objects = toolchain / "runner.s", toolchain / "runner.o"

    def run(tool: str, *arguments: str | Path) -> None:
        libraries = toolchain / "usr/lib/x86_64-linux-gnu"
        loader: list[str | Path] = [libraries / "ld-linux-x86-64.so.2", "--library-path", libraries]
        _run([*loader, toolchain / "usr" / tool, *arguments])

    options = [*DEFINITIONS, "-quiet", "-O1", "-fPIE", "-nostdinc", "-nostdinc++"]
    includes = [option for folder in headers for option in ("-isystem", folder)]
    run(f"libexec/gcc-cross/aarch64-linux-gnu/{GCC}/cc1plus", *options, *includes, SOURCE, "-o", assembly)
    run("bin/aarch64-linux-gnu-as", assembly, "-o", objects)
    run(
        "bin/aarch64-linux-gnu-ld.bfd",
        *(f"--sysroot={toolchain}", "-pie", "-dynamic-linker", "/lib/ld-linux-aarch64.so.1", "--eh-frame-hdr"),
        *("-rpath", "$ORIGIN", "-o", program, target / "lib/Scrt1.o", target / "lib/crti.o", gcc / "crtbeginS.o"),
        *(objects, f"-L{package / 'lib'}", f"-L{gcc}", f"-L{target / 'lib'}"),
        *(
            "--no-as-needed",
            *(f"-l{component}" for component in COMPONENTS),
            "--as-needed",
        ),  # they register kernels when they are loaded
        *("-lstdc++", "-lm", "-lc", "-lgcc_s", "-lgcc", gcc / "crtendS.o", target / "lib/crtn.o"),
    )


def _run(command: Sequence[str | Path]) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        words = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[-300:])
        raise ToolchainError(f"cannot build a program for ARM64: {Path(command[3]).name}: {' '.join(words.split())}")
