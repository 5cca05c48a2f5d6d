"""The wheelhouse: ppctl's own wheel, the lock file, the archive. Downloads are tested on hosts."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from ppctl import __version__, wheelhouse
from ppctl.commands import wheelhouse as commands
from ppctl.errors import PpctlError, UsageError
from ppctl.local_host import LocalHost
from ppctl.output import Output
from ppctl.wheelhouse import Source, Target
from tests.cli import ppctl


def test_the_own_wheel_is_the_same_every_time(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = wheelhouse.own_wheel(tmp_path / "a"), wheelhouse.own_wheel(tmp_path / "b")
    assert first.name == f"ppctl-{__version__}-py3-none-any.whl"
    assert first.read_bytes() == second.read_bytes()


def test_the_own_wheel_has_all_that_ppctl_is_made_of(tmp_path: Path) -> None:
    names = zipfile.ZipFile(wheelhouse.own_wheel(tmp_path)).namelist()
    for needed in (
        "ppctl/__main__.py",
        "ppctl/templates/run-pypi.sh.j2",
        "ppctl/server/requirements.lock",
        "ppctl/server/requirements-cache.lock",
        "ppctl/ansible/playbooks/site.yml",
        "ppctl/ansible/collections/ansible_collections/ppctl/fleet/plugins/modules/ppctl_index.py",
    ):
        assert needed in names
    assert not [name for name in names if name.endswith(".pyc") or "/." in name]


@pytest.mark.e2e
def test_the_own_wheel_installs_and_runs(tmp_path: Path) -> None:
    wheel = wheelhouse.own_wheel(tmp_path)
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "-q", str(tmp_path / "v")], check=True)
    python = str(tmp_path / "v" / "bin" / "python")
    install = [*uv, "pip", "install", "-q", "--no-deps", "--no-index", "--python", python, str(wheel)]
    subprocess.run(install, check=True)
    code = "import ppctl, importlib.metadata as m; print(ppctl.__version__ == m.version('ppctl'))"
    done = subprocess.run([python, "-I", "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "True\n"
    assert (tmp_path / "v" / "bin" / "ppctl").exists()


def test_the_lock_file_names_the_wheels_that_are_there(tmp_path: Path) -> None:
    wheelhouse.own_wheel(tmp_path)
    for name in (
        "PyYAML-6.0.3-cp311-cp311-linux.whl",
        "pyyaml-6.0.3-cp313-cp313-linux.whl",
        "mdurl-1-py3.whl",
    ):
        (tmp_path / name).write_text(name)
    versions = "# made by uv\nmdurl==1\npyyaml==6.0.3\ntomli==2.2 ; python_full_version < '3.11'\n"
    lines = wheelhouse.with_hashes(versions, tmp_path).splitlines()
    assert [line.partition(" ")[0] for line in lines if not line.startswith(" ")] == [
        "mdurl==1",
        "pyyaml==6.0.3",
        f"ppctl=={__version__}",
    ]
    assert sum("--hash=sha256:" in line for line in lines) == 4


def test_the_digest_changes_with_every_file(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("1")
    b.write_text("2")
    before = wheelhouse.digest_of([a, b])
    assert wheelhouse.digest_of([b, a]) == before
    b.write_text("3")
    assert wheelhouse.digest_of([a, b]) != before


def test_the_archive_holds_plain_files_of_nobody(tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_bytes(b"wheel")
    content = wheelhouse.archive(tmp_path, ["a.whl"])
    assert content == wheelhouse.archive(tmp_path, ["a.whl"])
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        (member,) = tar.getmembers()
    assert (member.name, member.size, member.uid, member.mtime) == ("a.whl", 5, 0, 0)


def test_tags_go_from_the_newest_to_the_oldest() -> None:
    tags = Target("3.11", "x86_64").tags
    assert tags[0] == "manylinux_2_28_x86_64" and tags[-1] == "manylinux2010_x86_64"
    assert Target("3.11", "aarch64").tags[-1] == "manylinux2014_aarch64"


def test_sources_exclude_each_other() -> None:
    assert Source().uv == Source().pip == []
    assert Source("https://a/simple").uv == ["--default-index", "https://a/simple"]
    assert Source("https://a/simple").pip == ["--index-url", "https://a/simple"]
    assert Source("", "/w").uv == ["--no-index", "--find-links", "/w"]
    ran = ppctl("wheelhouse", "/nowhere", "--index-url", "https://a", "--find-links", "/w")
    assert ran.code == 2 and "exclude each other" in ran.err


@pytest.mark.parametrize(
    ("python", "message"), [("3", "such as 3.11"), ("3.9", "3.10 or newer"), ("x.y", "such")]
)
def test_a_python_that_cannot_be_is_refused(tmp_path: Path, python: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(tmp_path / "w", python)


def test_a_directory_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("Dear ...")
    with pytest.raises(PpctlError, match="other things"):
        build(tmp_path, "3.11")
    assert [path.name for path in tmp_path.iterdir()] == ["letter"]


def test_what_cannot_be_had_leaves_the_old_wheelhouse(tmp_path: Path) -> None:
    folder, empty = tmp_path / "w", tmp_path / "empty"
    folder.mkdir()
    empty.mkdir()
    (folder / "wheelhouse.json").write_text("{}")
    with pytest.raises(PpctlError):
        build(folder, "3.11", str(empty))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "w"]
    assert (folder / "wheelhouse.json").read_text() == "{}"


def build(folder: Path, python: str, find_links: str = "") -> int:
    return commands.build(
        folder,
        LocalHost(),
        Output(quiet=True),
        pythons=[python],
        platforms=[],
        glibc=28,
        source=Source("", find_links),
    )
