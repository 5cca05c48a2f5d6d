"""The manager `systemd` with a stand-in for systemctl."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ppctl.deployment import Deployment
from ppctl.local_host import LocalHost
from ppctl.managers.systemd import Systemd
from ppctl.settings import ManagerName, Mode


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    """A manager whose systemctl notes what it is told, and its session (proc(5), stat)."""
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$(cut -d " " -f 6 /proc/$$/stat) $*" >>{tmp_path}/told\n')
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
