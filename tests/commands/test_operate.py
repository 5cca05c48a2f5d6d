"""Processes of an index that is up: logs, restarts, and what is said where no worker runs."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

import pytest

from ppctl import index, packages
from ppctl.commands import operate, remove, status
from ppctl.deployment import deployed
from ppctl.errors import CommandFailed, PpctlError
from ppctl.layout import Layout
from ppctl.machine import WorkerFailed
from ppctl.managers import Process
from tests.engine import HOME, impatient, started
from tests.fakes import FakeManager

__all__ = ["impatient"]


@pytest.mark.usefixtures("impatient")
def test_ctrl_c_ends_a_log_and_nothing_is_said_about_work_to_finish(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left: list[str] = []

    @contextlib.contextmanager
    def follow(_: FakeManager, numbers: list[int], lines: int) -> Iterator[Iterator[str]]:
        def written() -> Iterator[str]:
            yield f"worker {numbers[0]}: one of {lines}"
            raise KeyboardInterrupt

        try:
            yield written()
        finally:
            left.append("the reader of the log")

    world = started()
    monkeypatch.setattr(FakeManager, "follow", follow)
    world.stdout.truncate(0), world.stdout.seek(0)
    found = index.load(world.host, HOME)
    assert operate.logs(found, world.machine(), numbers=(), lines=5, follow=True) == 130
    assert left == ["the reader of the log"]
    assert (world.stdout.getvalue(), capsys.readouterr().err) == ("worker 1: one of 5\n", "")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("times", "fails", "running"),
    [(1, False, [1, 2]), (1, True, [1, 2]), (2, False, [2])],
    ids=["once", "systemctl has heard it, too", "twice"],
)
def test_ctrl_c_leaves_no_worker_stopped(
    monkeypatch: pytest.MonkeyPatch, times: int, fails: bool, running: list[int]
) -> None:
    stop = FakeManager.stop

    def interrupted(manager: FakeManager, number: int) -> None:
        stop(manager, number)
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
        if fails:
            raise CommandFailed(["systemctl", "stop"], -signal.SIGINT, "")

    world = started()
    monkeypatch.setattr(FakeManager, "stop", interrupted)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        operate.restart(index.load(world.host, HOME), world.machine(), numbers=(), wait=True)
    assert signal.getsignal(signal.SIGINT) == before
    assert "interrupted: worker 1 is started again first" in world.stderr.getvalue()
    (group,) = world.groups.values()
    assert sorted(group.running) == running


@pytest.mark.usefixtures("impatient")
def test_a_worker_that_is_started_over_and_over_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends after a second has not failed for supervisord, which starts it again and again."""
    world = started()
    world.kill_worker(1, silent=True)
    machine, shown = world.machine(), []

    def processes(_: FakeManager) -> list[Process]:
        shown.append(Process(1, "running", 100 + len(shown) // 4))
        return shown[-1:]

    monkeypatch.setattr(FakeManager, "processes", processes)
    with pytest.raises(WorkerFailed, match="it ends as soon as it starts"):
        machine.wait_ready(deployed(world.host, Layout(HOME)), 1)
    assert len(shown) == 9


def test_status_of_workers_that_are_stopped_says_what_starts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "_contents", lambda *_: {"packages": 0, "users": 0, "disk_free": 1})
    world = started()
    found = index.load(world.host, HOME)
    assert status.status(found, world.machine()) == 0
    assert "stopped" not in world.stdout.getvalue()
    operate.stop(found, world.machine(), wait=True)
    assert status.status(found, world.machine()) == 1
    assert f"every worker is stopped (ppctl start -C {HOME} starts them)" in world.stdout.getvalue()


@pytest.mark.parametrize("command", ["start", "up"])
def test_without_workers_it_says_what_starts_them(command: str) -> None:
    world = started()
    found = index.load(world.host, HOME)
    if command == "up":
        remove.down(found, world.machine(), wait=True)
    world.host.remove_tree(found.layout.run)
    with pytest.raises(PpctlError, match="no worker of the index is running") as raised:
        packages.projects(found, world.host)
    assert f"ppctl {command} -C" in raised.value.hint


@pytest.mark.usefixtures("impatient")
def test_a_stop_that_fails_is_no_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(manager: FakeManager, number: int) -> None:
        raise CommandFailed(["systemctl", "stop"], 1, "no such unit")

    world = started()
    monkeypatch.setattr(FakeManager, "stop", fails)
    with pytest.raises(CommandFailed, match="no such unit"):
        operate.restart(index.load(world.host, HOME), world.machine(), numbers=(), wait=True)
