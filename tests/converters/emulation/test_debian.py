"""Files out of Debian packages: those that were asked for, whole, and nothing else."""

from __future__ import annotations

import shutil

import pytest
from debian_packages import needs_dpkg, write_deb
from mobilevit_converters.emulation import debian

from mobilevit_sdk.errors import ToolchainError


@needs_dpkg
def test_only_what_was_asked_for_is_written_and_only_into_the_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    hostile = {"../escaped": b"no", "/etc/escaped": b"no", "./usr/lib/../lib/wanted": b"another"}
    deb = write_deb(tmp_path / "p.deb", {**hostile, "./usr/lib/wanted": b"yes", "./usr/lib/other": b"no"})
    debian.unpack_files(deb, ["usr/lib/wanted"], tmp_path / "folder")
    assert {path.name for path in tmp_path.rglob("*")} == {"p.deb", "folder", "wanted"}
    assert (tmp_path / "folder" / "wanted").read_bytes() == b"yes"


@needs_dpkg
@pytest.mark.parametrize("files", [{"./usr/lib/other": b"no"}, {"./usr/lib/wanted": "/etc/passwd"}])
def test_a_package_without_the_file_is_named_and_a_link_is_no_file(files, tmp_path):
    deb = write_deb(tmp_path / "p.deb", files)
    with pytest.raises(ToolchainError, match=r"p\.deb holds no file usr/lib/wanted"):
        debian.unpack_files(deb, ["usr/lib/wanted"], tmp_path)
    assert list(tmp_path.iterdir()) == [deb]


@needs_dpkg
@pytest.mark.parametrize("kept", [0, 40, 0.5, 0.99])
def test_a_truncated_package_is_refused(kept, tmp_path):
    whole = write_deb(tmp_path / "p.deb", {"./usr/lib/first": bytes(range(256)) * 400, "./usr/lib/wanted": b"yes"})
    content = whole.read_bytes()
    whole.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(ToolchainError, match=r"p\.deb is not a complete Debian package"):
        debian.unpack_files(whole, ["usr/lib/wanted"], tmp_path)


@needs_dpkg
def test_foreign_bytes_are_refused(tmp_path):
    (tmp_path / "p.deb").write_bytes(b"<html>not found</html>" * 1000)
    with pytest.raises(ToolchainError, match=r"p\.deb is not a complete Debian package"):
        debian.unpack_files(tmp_path / "p.deb", ["usr/lib/wanted"], tmp_path)


def test_without_apt_the_files_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(debian, "which", lambda tool: None)
    with pytest.raises(
        ToolchainError, match=r"apt-get is not installed, .* chromium-common; take usr/lib/a, usr/lib/b"
    ):
        debian.fetch_files("chromium-common", ["usr/lib/a", "usr/lib/b"], tmp_path)


def test_where_the_system_has_no_lists_of_packages_own_ones_are_fetched(tmp_path, monkeypatch):
    calls = []

    def apt(arguments, folder):
        calls.append(arguments)
        if arguments[0] == "download":
            return "Unable to locate package one"
        if arguments[-2] == "download":
            (folder / "one_1.0.deb").touch()
        return None

    monkeypatch.setattr(debian, "_apt", apt)
    said = []
    assert debian.download("one", tmp_path, said.append) == tmp_path / "one_1.0.deb"
    assert [call[-1] for call in calls] == ["one", "update", "one"]
    assert all(f"Dir::State::lists={tmp_path}/lists/" in call for call in calls[1:])  # the system's stay as they are
    assert said == ["fetching the Debian package one", "fetching the lists of packages"]


def test_a_package_that_apt_does_not_know_is_one_line_with_its_complaint(tmp_path, monkeypatch):
    def apt(arguments, folder):
        return None if arguments[-1] == "update" else "Unable to locate package one"

    monkeypatch.setattr(debian, "_apt", apt)
    with pytest.raises(ToolchainError, match=r"^apt-get cannot fetch .* one: Unable to locate package one$"):
        debian.download("one", tmp_path, lambda line: None)


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="apt-get is not here")
def test_the_complaint_is_the_last_error_of_apt(tmp_path):
    assert "no-such-package-at-all" in (debian._apt(["download", "no-such-package-at-all"], tmp_path) or "")
    assert debian._apt(["--version"], tmp_path) is None


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """What apt is asked to do; sites and releases that it knows, and packages that it brings."""

    class Archive:
        sites, having, calls = ["http://mirror.example/ubuntu", "http://mirror.example/debian"], {"debian"}, []

        def apt(self, arguments, folder):
            self.calls.append((arguments, (folder / "sources.list").read_text()))
            site = self.calls[-1][1].split()[3]
            if arguments[-1] == "update":
                return None if site.split("/")[-1] in self.having else f"{site} does not have a Release file"
            packages = arguments[arguments.index("download") + 1 :]
            for package in packages[: self.brings]:
                name, architecture = package.split(":")
                (folder / f"{name}_1%3a2.0-1_{architecture}.deb").touch()
            return None

        brings = 9

    found = Archive()
    found.calls = []
    monkeypatch.setattr(debian, "_apt", found.apt)
    monkeypatch.setattr(debian, "_sites", lambda: found.sites)
    monkeypatch.setattr(debian, "which", lambda tool: tool)
    monkeypatch.setattr(debian, "KEYRING", str(tmp_path / "keyring.gpg"))
    (tmp_path / "keyring.gpg").touch()
    (tmp_path / "scratch").mkdir()
    return found


def test_packages_of_another_release_come_from_the_first_site_that_has_it(archive, tmp_path):
    found = debian.download_from("trixie", ["one:arm64", "two:amd64", "three:all"], tmp_path / "scratch")
    assert {name: path.name for name, path in found.items()} == {
        "one:arm64": "one_1%3a2.0-1_arm64.deb",
        "two:amd64": "two_1%3a2.0-1_amd64.deb",
        "three:all": "three_1%3a2.0-1_all.deb",
    }
    assert debian.version_of(found["one:arm64"]) == "2.0-1"
    signed = f"[arch=amd64,arm64 signed-by={tmp_path}/keyring.gpg]"
    assert [sources for _, sources in archive.calls] == [
        f"deb {signed} http://mirror.example/ubuntu trixie main\n",
        *[f"deb {signed} http://mirror.example/debian trixie main\n"] * 2,
    ]
    lists = f"Dir::State::lists={tmp_path}/scratch/lists/"
    assert all(lists in arguments for arguments, _ in archive.calls)  # the system's stay as they are


def test_a_release_that_no_site_has_is_one_line(archive, tmp_path):
    archive.having = set()
    with pytest.raises(ToolchainError, match=r"^apt-get cannot fetch from Debian trixie: .*/debian does not have a Re"):
        debian.download_from("trixie", ["one:arm64"], tmp_path / "scratch")


def test_a_package_that_does_not_come_is_named(archive, tmp_path):
    archive.brings = 1
    with pytest.raises(ToolchainError, match=r"Debian trixie: it brought no two:arm64$"):
        debian.download_from("trixie", ["one:arm64", "two:arm64"], tmp_path / "scratch")


def test_a_system_without_debians_keys_gets_them_by_its_own(archive, tmp_path, monkeypatch):
    (tmp_path / "keyring.gpg").unlink()
    monkeypatch.setattr(debian, "fetch_files", lambda package, members, folder, say: say(f"{package}: {members}"))
    said = []
    debian.download_from("trixie", ["one:arm64"], tmp_path / "scratch", said.append)
    assert said[0] == f"debian-archive-keyring: ['{tmp_path}/keyring.gpg']"
    assert f"signed-by={tmp_path}/scratch/keyring.gpg" in archive.calls[0][1]


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="apt-get is not here")
def test_the_sites_are_those_of_this_system_and_at_last_debian():
    sites = debian._sites()
    assert sites[-1] == debian.MIRROR or debian.MIRROR in sites
    assert len(set(sites)) == len(sites)
    assert not any("/dists/" in site or "'" in site for site in sites)


@needs_dpkg
def test_a_whole_package_is_unpacked_and_half_of_one_is_told(tmp_path):
    deb = write_deb(tmp_path / "p.deb", {"./usr/lib/a": b"a", "./usr/lib/b": "a"})
    debian.unpack(deb, tmp_path / "root")
    assert (tmp_path / "root/usr/lib/b").read_bytes() == b"a"
    deb.write_bytes(deb.read_bytes()[:200])
    with pytest.raises(ToolchainError, match=r"^p\.deb cannot be unpacked: "):
        debian.unpack(deb, tmp_path / "other")
