"""A developer's machine: a home directory of its own, and real servers on loopback."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ppctl.__main__ import main
from tests.conftest import pick_port

USER, PASSWORD = "ann", 's3 cr%t:@/?#"\\+'
_PREFIXES = ("PIP_", "UV_", "TWINE_", "POETRY_", "PDM_", "HATCH_", "XDG_", "PPCTL_", "NETRC")


@pytest.fixture
def user_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home directory, and an environment in which no client is set up."""
    for name in list(os.environ):
        if name.startswith(_PREFIXES):
            monkeypatch.delenv(name)
    made = tmp_path / "developer"
    made.mkdir()
    monkeypatch.setenv("HOME", str(made))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    monkeypatch.chdir(made)
    return made


@dataclass
class Ppctl:
    """Runs ppctl in this process and keeps what it printed."""

    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch
    out: str = ""
    err: str = ""

    def __call__(self, *argv: str, stdin: str = "") -> int:
        self.monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        self.capsys.readouterr()
        code = main(list(argv))
        self.out, self.err = self.capsys.readouterr()
        return code


@pytest.fixture
def ppctl(user_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ppctl:
    return Ppctl(capsys, monkeypatch)


@dataclass(frozen=True)
class Server:
    """A stock pypi-server."""

    url: str
    packages: Path


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


@pytest.fixture(scope="session")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    from passlib.apache import HtpasswdFile

    started: dict[str, tuple[Server, subprocess.Popen[bytes]]] = {}

    def start(login: str) -> Server:
        if login in started:
            return started[login][0]
        base = tmp_path_factory.mktemp("server")
        packages = base / "packages"
        packages.mkdir()
        users = HtpasswdFile(str(base / "htpasswd"), new=True, default_scheme="ldap_sha1")
        users.set_password(USER, PASSWORD)
        users.save()
        port = pick_port()
        program = Path(sys.executable).with_name("pypi-server")
        options = ["-i", "127.0.0.1", "-p", str(port), "-a", login, "-P", str(base / "htpasswd")]
        process = subprocess.Popen(
            [str(program), "run", *options, "--disable-fallback", str(packages)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        server = Server(f"http://127.0.0.1:{port}", packages)
        started[login] = (server, process)
        deadline = time.monotonic() + 120
        while not _answers(f"{server.url}/health"):
            assert process.poll() is None and time.monotonic() < deadline, "pypi-server does not start"
            time.sleep(0.05)
        return server

    yield start
    for _, process in started.values():
        process.kill()
        process.wait()


@pytest.fixture
def open_server(start_server: Callable[[str], Server]) -> Iterator[Server]:
    """Reading is open, uploading takes a login."""
    yield from _emptied(start_server("update"))


@pytest.fixture
def closed_server(start_server: Callable[[str], Server]) -> Iterator[Server]:
    """Everything takes a login."""
    yield from _emptied(start_server("update,list,download"))


def _emptied(server: Server) -> Iterator[Server]:
    yield server
    for path in server.packages.iterdir():
        path.unlink()


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A real wheel of a project `demo-x`."""
    import zipfile

    path = tmp_path / "demo_x-1.0-py3-none-any.whl"
    info = "demo_x-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("demo_x.py", "")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: demo-x\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(
            f"{info}/RECORD", f"demo_x.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )
    return path
