"""`make up` in a fresh checkout: what a newcomer types, and what they type next, as it is printed."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import UV_CACHE, end_index, pick_port
from tests.e2e import packages
from tests.e2e.clients import Developer
from tests.e2e.sites import Done
from tests.hosts import CHECKOUT

pytestmark = pytest.mark.e2e


@dataclass(frozen=True)
class Newcomer:
    """Somebody with a fresh checkout, in a home directory of their own."""

    folder: Path
    port: int

    @property
    def checkout(self) -> Path:
        return self.folder / "ppctl"

    @property
    def home(self) -> Path:
        return self.folder / "index"

    def make(self, *arguments: str) -> Done:
        env = {
            # The machine's own pip settings stay: ppctl's dependencies come from wherever it gets them.
            **{key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "MAKE"))},
            "HOME": str(self.folder),
            "PPCTL_HOME": str(self.home),
            "UV_CACHE_DIR": UV_CACHE,
        }
        return subprocess.run(
            ["make", "--no-print-directory", f"PYTHON={sys.executable}", *arguments],
            cwd=self.checkout,
            env=env,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=600,
            check=False,
        )

    def up(self) -> Done:
        return self.make("up", f"PORT={self.port}", "NAME=newcomer")


@pytest.fixture(scope="module")
def newcomer() -> Iterator[Newcomer]:
    # Not pytest's own folder: a home's path must leave room for the names of UNIX sockets.
    one = Newcomer(Path(tempfile.mkdtemp(prefix="ppctl-make-")), pick_port())
    copy_checkout(one.checkout)
    try:
        yield one
    finally:
        end_index(one.home)
        shutil.rmtree(one.folder, ignore_errors=True)


def copy_checkout(target: Path) -> None:
    """Copy what a clone would have, as it is in the working tree."""
    names = subprocess.run(["git", "-C", CHECKOUT, "ls-files", "-z"], capture_output=True, check=True).stdout
    for name in names.decode().rstrip("\0").split("\0"):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(CHECKOUT / name):
            shutil.copy2(CHECKOUT / name, target / name, follow_symlinks=False)


def test_a_missing_python3_venv_gets_a_clear_message(newcomer: Newcomer) -> None:
    python = newcomer.folder / "python3"
    python.write_text(
        f'#!/bin/sh\ncase "$*" in *ensurepip*) exit 1;; esac\nexec {shlex.quote(sys.executable)} "$@"\n'
    )
    python.chmod(0o755)
    done = newcomer.make("up", f"PYTHON={python}")
    assert done.returncode == 2
    assert "error: the Python module venv is missing" in done.stderr
    assert "hint: apt install python3-venv" in done.stderr
    assert not (newcomer.checkout / ".venv").exists(), "half a virtualenv is worse than none"
    assert not newcomer.home.exists()


def test_a_busy_port_gets_a_clear_message(newcomer: Newcomer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = newcomer.make("up", f"PORT={port}")
    assert done.returncode == 2
    assert f"127.0.0.1:{port} is taken by" in done.stderr
    assert f"(pid {os.getpid()})" in done.stderr
    assert f"make up PORT={port + 1}" in done.stderr
    assert "first user" not in done.stdout


@pytest.fixture(scope="module")
def printed(newcomer: Newcomer) -> str:
    """What `make up` shows with another port, after the one that was taken."""
    done = newcomer.up()
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_make_up_starts_an_index_and_shows_the_password_once(newcomer: Newcomer, printed: str) -> None:
    assert f"index pypi is up: http://127.0.0.1:{newcomer.port}" in printed
    assert "first user: newcomer" in printed
    assert printed.count("shown only now") == 1


def test_the_printed_lines_work_as_printed(newcomer: Newcomer, printed: str, tmp_path: Path) -> None:
    typed = [line.strip() for line in printed.partition("what to type next:")[2].splitlines() if line.strip()]
    line = {words[0]: " ".join(words) for words in map(str.split, typed)}
    password = next(words[1] for words in map(str.split, printed.splitlines()) if words[:1] == ["password:"])
    developer = Developer(tmp_path)
    dist = developer.home / "dist"
    dist.mkdir()
    packages.wheel(dist, "alpha-one", "1.0")
    packages.sdist(dist, "beta-two", "2.0")
    developer.run("sh", "-c", line["twine"], TWINE_PASSWORD=password)
    for tool in ("pip", "uv"):
        developer.run(sys.executable, "-m", "venv", tmp_path / tool)
        python = tmp_path / tool / "bin" / "python"
        shown = line[tool].replace("PACKAGE", "alpha-one beta-two")
        path = f"{python.parent}:{developer.env['PATH']}"
        developer.run("sh", "-c", shown, PATH=path, VIRTUAL_ENV=str(tmp_path / tool))
        assert developer.version_of(python, "beta_two") == "2.0"


def test_a_second_make_up_changes_nothing_and_says_so(newcomer: Newcomer, printed: str) -> None:
    # With and without the port: it is in ppctl.yml by now.
    for done in (newcomer.up(), newcomer.make("up", "NAME=newcomer")):
        assert done.returncode == 0
        assert done.stdout.startswith("nothing to change: index pypi is as")
        assert "password" not in done.stdout


def test_another_port_is_not_ignored(newcomer: Newcomer, printed: str) -> None:
    done = newcomer.make("up", f"PORT={newcomer.port + 1}")
    assert done.returncode == 2
    assert "another `port`" in done.stderr


NOWHERE = "PIP_INDEX_URL=http://127.0.0.1:9/simple/"


def test_pips_mirror_is_uvs_too(newcomer: Newcomer, printed: str, tmp_path: Path) -> None:
    (newcomer.checkout / "pyproject.toml").touch()
    done = newcomer.make("up", NOWHERE, f"UV_CACHE_DIR={tmp_path}")
    assert done.returncode == 2
    assert "error: what ppctl needs is not on this machine" in done.stderr
    assert "cannot be reached (http://127.0.0.1:9)" in done.stderr


def test_what_is_there_needs_no_network(newcomer: Newcomer, printed: str) -> None:
    (newcomer.checkout / "pyproject.toml").touch()
    done = newcomer.make("up", "HTTP_PROXY=http://127.0.0.1:9", "HTTPS_PROXY=http://127.0.0.1:9")
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_a_network_two_lines_say_what_to_do(newcomer: Newcomer) -> None:
    done = newcomer.make("up", NOWHERE, "VENV=.venv-none")
    assert done.returncode == 2
    assert "error: uv is not on this machine, and the package index cannot be reached" in done.stderr
    assert "make wheels" in done.stderr
    assert "WARNING" not in done.stderr


def test_from_a_directory_of_wheels_without_a_network(newcomer: Newcomer, tmp_path: Path) -> None:
    assert newcomer.make("wheels").returncode == 0
    other = Newcomer(Path(tempfile.mkdtemp(prefix="ppctl-make-")), pick_port())
    copy_checkout(other.checkout)
    (newcomer.checkout / "wheels").rename(other.checkout / "wheels")
    try:
        done = other.make("up", NOWHERE, f"PORT={other.port}", f"UV_CACHE_DIR={tmp_path}")
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"index pypi is up: http://127.0.0.1:{other.port}" in done.stdout
    finally:
        end_index(other.home)
        shutil.rmtree(other.folder, ignore_errors=True)


def test_make_down_stops_it(newcomer: Newcomer, printed: str) -> None:
    assert newcomer.make("down").returncode == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", newcomer.port))


def test_make_fleet_brings_ansible_and_a_wheelhouse(newcomer: Newcomer) -> None:
    done = newcomer.make("fleet")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (newcomer.checkout / ".venv/bin/ansible-playbook").exists()
    assert (newcomer.checkout / "wheelhouse/wheelhouse.json").exists()
