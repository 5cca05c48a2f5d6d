"""The manager `systemd` with a stand-in for systemctl."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ppctl.deployment import Deployment
from ppctl.errors import CommandFailed
from ppctl.local_host import LocalHost
from ppctl.managers.systemd import Systemd
from ppctl.settings import ManagerName, Mode

STAND_IN = """#!/bin/sh
echo "$(cut -d ' ' -f 6 /proc/$$/stat) $*" >>{0}/told
[ "$1" != kill ] && [ -s {0}/says ] || exit 0
head -n 1 {0}/says >&2
sed -i 1d {0}/says
exit 1
"""
"""Fails with each line of the file `says`, one after the other."""


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    """A manager whose systemctl notes what it is told, and its session (proc(5), stat)."""
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(STAND_IN.format(tmp_path))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    deployment = Deployment("pypi", ManagerName.SYSTEMD, Mode.SYSTEM, tmp_path, "127.0.0.1", 3141, 2)
    return Systemd(deployment, LocalHost())


def test_ctrl_c_does_not_reach_what_starts_a_worker_again(manager: Systemd, tmp_path: Path) -> None:
    """A terminal tells each process of its session in the foreground: a start would be lost."""
    manager.stop(1)
    manager.start(1)
    told = [line.split(" ", 1) for line in (tmp_path / "told").read_text().splitlines()]
    assert told[-1][1] == "start --no-block ppctl-pypi@1.service"
    assert str(os.getsid(0)) not in [session for session, _ in told]


def test_a_systemd_that_replaces_itself_is_asked_again(manager: Systemd, tmp_path: Path) -> None:
    """An upgrade of systemd does so (daemon-reexec); what it was told goes on, and nobody answers."""
    (tmp_path / "says").write_text("Failed to wait for response: Connection reset by peer\n")
    manager.stop(1)
    told = [line.split(" ", 1)[1] for line in (tmp_path / "told").read_text().splitlines()]
    assert told[1:] == ["stop ppctl-pypi@1.service"] * 2


def test_what_systemd_refuses_is_not_asked_again(manager: Systemd, tmp_path: Path) -> None:
    (tmp_path / "says").write_text("Failed to start ppctl-pypi@1.service: Unit is masked.\n" * 2)
    with pytest.raises(CommandFailed, match="is masked"):
        manager.start(1)
    assert len((tmp_path / "told").read_text().splitlines()) == 1
