"""`ppctl doctor` on a real index: nothing is wrong; then things are, and what it says mends them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ppctl import checks
from ppctl import index as index_module
from ppctl.checks.base import Severity, Subject
from ppctl.layout import Layout
from ppctl.local_host import LocalHost
from ppctl.machine import Machine
from ppctl.output import Output
from tests.cli import ppctl
from tests.conftest import end_index, pick_port

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    """A user's home for the whole module, which other accounts may pass through."""
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="ppctl-", ignore_cleanup_errors=True) as directory,
    ):
        os.chmod(directory, 0o755)
        live_in(Path(directory), patch)
        yield Path(directory)


def live_in(directory: Path, patch: pytest.MonkeyPatch) -> None:
    """Take `directory` for the user's home."""
    patch.setenv("HOME", str(directory))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "PPCTL_HOME", "PPCTL_DEBUG"):
        patch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _same_home_for_every_test(_own_environment: None, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live_in(base, monkeypatch)


@pytest.fixture(scope="module")
def layout(base: Path) -> Iterator[Layout]:
    """A running embedded index with one user."""
    layout = Layout(base / "index")
    layout.home.mkdir(mode=0o750)
    layout.settings.write_text(f"port: {pick_port()}\npassword: {{bcrypt_cost: 10}}\n")
    up = ppctl("up", "-C", str(layout.home), "--first-user", "ann", "--quiet")
    assert up.code == 0, up.err
    yield layout
    end_index(layout.home)


def examine(layout: Layout) -> list[dict[str, Any]]:
    """Return what is wrong; who runs the tests may be root, which is not of interest."""
    ran = ppctl("doctor", "-C", str(layout.home), "--json")
    findings = [f for f in ran.result["findings"] if f["severity"] != "ok" and f["check"] != "user"]
    assert ran.code == (1 if any(f["severity"] == "problem" for f in findings) else 0)
    return findings


def test_nothing_is_wrong_with_a_new_index(layout: Layout) -> None:
    assert examine(layout) == []


def type_in_shell(command: str) -> None:
    """Do what a person does who follows the advice."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", command], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"


def mend_everything(layout: Layout) -> list[str]:
    """Follow the advice, problem by problem, until nothing is wrong. Returns the checks that found things."""
    seen: list[str] = []
    for _ in range(25):
        findings = examine(layout)
        if not findings:
            return seen
        seen.append(findings[0]["check"])
        type_in_shell(findings[0]["mend"])
    raise AssertionError(f"not mended after {seen}: {examine(layout)}")


def test_modes_and_rests_are_mended(layout: Layout) -> None:
    layout.htpasswd.chmod(0o666)
    layout.run.chmod(0o777)
    layout.settings.chmod(0o666)
    (layout.home / ".ppctl.yml.99999999.tmp").write_text("x")
    upload = layout.packages / ".ppctl-upload-1" / "content"
    upload.parent.mkdir()
    upload.write_text("x")
    os.utime(upload, (0, 0))
    with layout.htpasswd.open("a") as file:
        file.write("nonsense\nmore nonsense\0\n")
    half = layout.releases / "half"
    half.mkdir()
    os.utime(half, (0, 0))
    gone = Path.home() / ".config" / "ppctl" / "indexes" / "gone"
    gone.symlink_to("/nowhere")
    with (layout.logs / "worker-1.log").open("ab") as file:
        file.truncate(20_000_000)
    client = layout.client_files / "pypirc"
    client.parent.mkdir(mode=0o755)
    client.write_text("secret")

    seen = mend_everything(layout)

    assert set(seen) == {
        *("modes", "leftovers", "uploads", "htpasswd", "half-built", "registers", "logs", "client-links"),
    }
    assert layout.htpasswd.read_text().startswith("ann:$2y$10$")
    assert len(layout.htpasswd.read_text().splitlines()) == 1


def test_a_weak_hash_and_a_user_given_twice_are_mended(layout: Layout) -> None:
    before = layout.htpasswd.read_text()
    layout.htpasswd.write_text(f"{before}bob:{{SHA}}x\nbob:secret\n")
    commands = {f["mend"] for f in examine(layout) if f["check"] in ("htpasswd", "passwords")}
    assert commands == {f"ppctl passwd -C {layout.home} bob"}
    type_in_shell(f"echo good-password | {commands.pop()} --password-stdin")
    assert examine(layout) == []


def test_dead_processes_and_dangling_links_are_mended(layout: Layout) -> None:
    os.kill(int((layout.run / "supervisord.pid").read_text()), signal.SIGKILL)
    layout.current.unlink()
    layout.current.symlink_to("nothing")
    layout.server_config.write_text("{}")
    assert {"links", "manager", "drift"} <= {f["check"] for f in examine(layout)}
    mend_everything(layout)


def test_a_broken_release_is_mended(layout: Layout) -> None:
    release = layout.current.resolve()
    [package] = release.glob("lib/python*/site-packages/pypiserver")
    shutil.rmtree(package)
    [finding] = [f for f in examine(layout) if f["check"] == "release"]
    assert "No module named 'pypiserver'" in finding["message"]

    (release / "bin" / "python").unlink()
    (release / "bin" / "python").symlink_to("/no/python")
    [finding] = [f for f in examine(layout) if f["check"] == "release"]
    assert "/no/python, which is gone" in finding["message"]
    type_in_shell(finding["mend"])
    assert examine(layout) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become the account")
def test_packages_as_the_account_itself(base: Path) -> None:
    """find(1) as `nobody`: rights that only the kernel knows all of."""
    layout = Layout(base / "system")
    layout.packages.mkdir(parents=True)
    (layout.packages / "a.whl").touch(0o644)
    layout.settings.write_text("mode: system\naccount: nobody\n")
    subject = Subject(index_module.load(LocalHost(), layout.home), Machine(LocalHost(), Output(quiet=True)))

    def wrong(name: str) -> list[str]:
        check = next(each for each in checks.CHECKS if each.name == name)
        return [f.mend for f in checks.make(check, subject) if f.severity is not Severity.OK]

    [mend] = wrong("packages")
    type_in_shell(mend)
    assert wrong("packages") == []
    [mend] = wrong("package-files")  # a.whl is root's
    type_in_shell(mend)
    assert wrong("package-files") == []
    (layout.packages / "a.whl").chmod(0)
    (layout.packages / "closed").mkdir(0o600)
    [unreadable, _foreign] = wrong("package-files")
    type_in_shell(unreadable)
    assert wrong("package-files") == []
    layout.home.chmod(0o700)
    [mend] = wrong("packages")
    assert mend == f"chmod o+x {layout.home}"
    type_in_shell(mend)
    assert wrong("packages") == []
