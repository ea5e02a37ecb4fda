"""Files out of Debian packages, fetched by the system's own apt and unpacked without installing anything or root."""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from shutil import which

from mobilevit_sdk.errors import ToolchainError


def fetch_files(
    package: str, members: Sequence[str], folder: Path, on_progress: Callable[[str], None] = lambda line: None
) -> None:
    """Put the files of `package` whose paths are `members` into `folder`, under their last names.

    apt checks the package's signature and hash. Raises ToolchainError that says what is missing.
    """
    for tool in ("apt-get", "dpkg-deb"):
        if which(tool) is None:
            raise ToolchainError(
                f"there is no {tool} here to fetch the Debian package {package}; take "
                f"{', '.join(members)} from a Debian machine and put the files into {folder.name}"
            )
    with tempfile.TemporaryDirectory() as scratch:
        archive = download(package, Path(scratch), on_progress)
        on_progress(f"unpacking {archive.name}")
        unpack_files(archive, members, folder)


def download(package: str, scratch: Path, on_progress: Callable[[str], None]) -> Path:
    """The package's .deb in `scratch`, from the archives that this system trusts, its dependencies left out."""
    on_progress(f"fetching the Debian package {package}")
    failure = _apt(["download", package], scratch)
    if failure:  # no lists of packages, as in containers, or old ones: fetch lists that belong to us
        on_progress("fetching the lists of packages")
        own_lists = ["-o", f"Dir::State::lists={scratch / 'lists'}/", "-o", f"Dir::Cache={scratch / 'cache'}/"]
        (scratch / "lists" / "partial").mkdir(parents=True)
        (scratch / "cache" / "archives" / "partial").mkdir(parents=True)
        failure = _apt([*own_lists, "update"], scratch) or _apt([*own_lists, "download", package], scratch)
    archives = list(scratch.glob("*.deb"))
    if failure or len(archives) != 1:
        raise ToolchainError(f"apt-get cannot fetch the Debian package {package}: {failure or 'it brought no file'}")
    return archives[0]


def unpack_files(archive: Path, members: Sequence[str], folder: Path) -> None:
    """Write the regular files `members` of a .deb into `folder`; nothing else of it touches the disk."""
    wanted = {PurePosixPath(member): folder / PurePosixPath(member).name for member in members}
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as files:
                for entry in files:
                    target = wanted.get(PurePosixPath(entry.name))
                    content = files.extractfile(entry) if target and entry.isreg() else None
                    if target and content:
                        target.write_bytes(content.read())
                        del wanted[PurePosixPath(entry.name)]
        except tarfile.TarError as error:
            raise ToolchainError(f"{archive.name} is no whole Debian package: {error}") from error
        finally:
            words = process.communicate()[1].decode(errors="replace").strip()
    if process.returncode:
        raise ToolchainError(f"{archive.name} is no whole Debian package: {words}")
    if wanted:
        raise ToolchainError(f"{archive.name} holds no file {', '.join(map(str, wanted))}")


def _apt(arguments: Sequence[str], folder: Path) -> str | None:
    """Run apt-get in `folder`; None where it succeeds, else its last complaint."""
    command = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", *arguments]
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode == 0:
        return None
    complaints = [line for line in done.stderr.splitlines() if line.startswith("E:")]
    return (complaints or done.stderr.splitlines() or ["it failed"])[-1].removeprefix("E:").strip()
