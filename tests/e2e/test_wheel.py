"""The built wheel, in a virtualenv outside the checkout, does all that the checkout does."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.e2e import packages, sites
from tests.e2e.clients import Developer
from tests.hosts import CHECKOUT

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that is built from the sdist, not from the checkout."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "uv", "build", "--quiet", "--out-dir", folder, CHECKOUT], check=True, cwd="/"
    )
    return folder


def tracked(*folders: str) -> set[str]:
    done = subprocess.run(
        ["git", "-C", CHECKOUT, "ls-files", *folders], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_wheel_has_every_file(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    wanted = {name for name in tracked("ppctl") if (CHECKOUT / name).is_file()}
    wanted |= {f"ppctl/{name}" for name in tracked("templates")}
    files = [name for name in tracked("ansible") if (CHECKOUT / name).is_file()]
    wanted |= {f"ppctl/{installed(name)}" for name in files}
    assert wanted - inside == set()
    assert {name for name in inside if ".dist-info/" not in name} - wanted == set()


def installed(name: str) -> str:
    """Return where a file of the collection is in a wheel: a folder is there once, by its first name."""
    folder = "ansible/collections/ansible_collections/ppctl/fleet"
    inner = name.partition("/")[2]
    return f"{folder}/{inner}" if (CHECKOUT / folder / inner.partition("/")[0]).is_dir() else name


def test_the_collection_in_the_wheel_can_be_played(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path)
    collection = tmp_path / "ppctl" / "ansible"
    playbook = Path(sys.executable).with_name("ansible-playbook")
    options = ["--inventory", "inventory/example", "--extra-vars", "user=a home=/srv/a password=x"]
    done = subprocess.run(
        [playbook, "--syntax-check", *options, "site.yml", "playbooks/adduser.yml"],
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(collection / "collections"), "LC_ALL": "C.UTF-8"},
        cwd=collection,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_sdist_has_what_its_makefile_and_tests_need(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    # The link ppctl/templates is a folder there; what it links to is left out, as the same once more.
    wanted = tracked("tests") | {name for name in tracked("ppctl") if (CHECKOUT / name).is_file()}
    assert wanted | {f"ppctl/{name}" for name in tracked("templates")} <= inside
    assert {"Makefile", "LICENSE", "README.md", "pyproject.toml"} <= inside


def test_the_installed_wheel_does_the_whole_of_it(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    developer = Developer(tmp_path)
    python = developer.virtualenv("ppctl")
    with sites.here() as site:
        # As the operator, with the machine's own index: it is ppctl's dependencies that are wanted here.
        site.run(sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python), str(wheel))
        site.ppctl_argv = (str(python.parent / "ppctl"),)
        where = site.run(str(python), "-I", "-c", "import ppctl; print(ppctl.__file__)").stdout
        assert where.startswith(str(tmp_path))
        site.ppctl("up")
        site.ppctl("adduser", "ci-bot", "--password-stdin", stdin="a long password\n")
        login = ("--repository-url", f"{site.url}/", "-u", "ci-bot", "-p", "a long password")
        developer.twine(*login, packages.wheel(developer.folder, "alpha-one", "1.0"))
        target = developer.virtualenv("target")
        developer.pip(target, site.simple_url, "alpha-one")
        assert developer.version_of(target, "alpha_one") == "1.0"
        assert "private-pypi" in site.ppctl("pypirc").stdout
        assert "index-url" in site.ppctl("client", "pip").stdout
        site.ppctl("restart")
        assert "nothing to change" in site.ppctl("up").stdout
        assert site.ppctl("status").returncode == 0
        assert site.ppctl("doctor", check=False).returncode in (0, 1)
        assert "_PPCTL_COMPLETE" in site.ppctl("completion", "bash").stdout
        assert site.report("destroy", "--yes", "--purge")["left"] == []
