"""Files out of Debian packages, fetched by the system's own apt and unpacked without installing anything or root."""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from shutil import which
from urllib.parse import urlsplit

from mobilevit_sdk.errors import ToolchainError

MIRROR = "http://deb.debian.org/debian"  # Debian's own, for systems without one
KEYRING_PACKAGE, KEYRING = "debian-archive-keyring", "usr/share/keyrings/debian-archive-keyring.gpg"


def fetch_files(
    package: str, members: Sequence[str], folder: Path, on_progress: Callable[[str], None] = lambda line: None
) -> None:
    """Put the files of `package` whose paths are `members` into `folder`, under their last names.

    apt checks the package's signature and hash. Raises ToolchainError that says what is missing.
    """
    advice = f"take {', '.join(members)} from a Debian machine and put the files into {folder.name}"
    _need_tools(f"the Debian package {package}; {advice}")
    with tempfile.TemporaryDirectory() as scratch:
        archive = download(package, Path(scratch), on_progress)
        on_progress(f"unpacking {archive.name}")
        unpack_files(archive, members, folder)


def download(package: str, scratch: Path, on_progress: Callable[[str], None]) -> Path:
    """The package's .deb in `scratch`, from the archives that this system trusts, its dependencies left out."""
    on_progress(f"fetching the Debian package {package}")
    failure = _apt(["download", package], scratch)
    if failure:  # no package lists, as in containers, or old ones: fetch lists of our own
        on_progress("fetching the lists of packages")
        own_lists = _own_lists(scratch)
        failure = _apt([*own_lists, "update"], scratch) or _apt([*own_lists, "download", package], scratch)
    archives = list(scratch.glob("*.deb"))
    if failure or len(archives) != 1:
        raise ToolchainError(f"apt-get cannot fetch the Debian package {package}: {failure or 'it brought no file'}")
    return archives[0]


def download_from(
    release: str, packages: Sequence[str], scratch: Path, on_progress: Callable[[str], None] = lambda line: None
) -> dict[str, Path]:
    """The .deb of each of `packages`, such as "libc6:arm64" or "tzdata:all", in `scratch`.

    This system may be of another release. They come from this system's own mirror, if Debian's `release` is there too,
    or else from Debian; apt checks signatures and hashes. Raises ToolchainError.
    """
    _need_tools(f"Debian's {release}")
    keyring = Path("/", KEYRING)
    if not keyring.is_file():  # as on Ubuntu, which has a package of it
        fetch_files(KEYRING_PACKAGE, [KEYRING], scratch, on_progress)
        keyring = scratch / keyring.name
    architectures = sorted({package.split(":")[1] for package in packages} - {"all"})
    sources = scratch / "sources.list"
    options = [*_own_lists(scratch), "-o", f"Dir::Etc::sourcelist={sources}", "-o", "Dir::Etc::sourceparts=-"]
    for each in architectures:
        options += ["-o", f"APT::Architectures::={each}"]
    on_progress(f"fetching the lists of packages of Debian {release}")
    failure: str | None = None
    for site in _sites():
        chosen = f"arch={','.join(architectures)} signed-by={keyring}"
        sources.write_text(f"deb [{chosen}] {site} {release} main\n", encoding="utf-8")
        if not (failure := _apt([*options, "--error-on=any", "update"], scratch)):
            break
    on_progress(f"fetching {len(packages)} packages of Debian {release}")
    failure = failure or _apt([*options, "download", *packages], scratch)
    found = {
        f"{name}:{architecture}": path for path in scratch.glob("*.deb") for name, _, architecture in [_parts(path)]
    }
    missing = set(packages) - set(found)
    if failure or missing:
        why = failure or f"it brought no {', '.join(sorted(missing))}"
        raise ToolchainError(f"apt-get cannot fetch from Debian {release}: {why}")
    return found


def version_of(archive: Path) -> str:
    """The package's version, without Debian's epoch, from the name that apt gives the file."""
    return _parts(archive)[1].split("%3a")[-1]


def unpack(archive: Path, folder: Path) -> None:
    """Write all files of a .deb that apt has checked into `folder`. Raises ToolchainError."""
    done = subprocess.run(["dpkg-deb", "--extract", str(archive), str(folder)], capture_output=True, text=True)
    if done.returncode:
        raise ToolchainError(f"{archive.name} cannot be unpacked: {' '.join(done.stderr.split())}")


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
            raise ToolchainError(f"{archive.name} is not a complete Debian package: {error}") from error
        finally:
            words = process.communicate()[1].decode(errors="replace").strip()
    if process.returncode:
        raise ToolchainError(f"{archive.name} is not a complete Debian package: {words}")
    if wanted:
        raise ToolchainError(f"{archive.name} holds no file {', '.join(map(str, wanted))}")


def _apt(arguments: Sequence[str], folder: Path) -> str | None:
    """Run apt-get in `folder`; None where it succeeds, else its last error."""
    command = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", *arguments]
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode == 0:
        return None
    complaints = [line for line in done.stderr.splitlines() if line.startswith("E:")]
    return (complaints or done.stderr.splitlines() or ["it failed"])[-1].removeprefix("E:").strip()


def _parts(archive: Path) -> tuple[str, str, str]:
    """Name, version and architecture, which are the file's name."""
    name, version, architecture = archive.stem.split("_")
    return name, version, architecture


def _sites() -> list[str]:
    """This system's own mirrors, as far as apt knows any, and Debian's at the end."""
    done = subprocess.run(
        ["apt-get", "--print-uris", "update"], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    addresses = [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("'")]
    sites = [each.split("/dists/")[0] for each in addresses if "/dists/" in each]
    return list(
        dict.fromkeys([*(site for site in sites if urlsplit(site).scheme in ("http", "https", "file")), MIRROR])
    )


def _own_lists(scratch: Path) -> list[str]:
    """Options that let apt keep its lists of packages in `scratch`, so that the system's stay as they are."""
    for folder in ("lists", "cache/archives"):
        (scratch / folder / "partial").mkdir(parents=True)
    return ["-o", f"Dir::State::lists={scratch / 'lists'}/", "-o", f"Dir::Cache={scratch / 'cache'}/"]


def _need_tools(what: str) -> None:
    for tool in ("apt-get", "dpkg-deb"):
        if which(tool) is None:
            raise ToolchainError(f"{tool} is not installed, which fetches {what}")
