"""Processes of an index that is up: logs, restarts, and what is said where no worker runs."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ppctl import index, packages
from ppctl.commands import operate, remove, status
from ppctl.deployment import deployed
from ppctl.errors import CommandFailed, PpctlError
from ppctl.layout import Layout
from ppctl.machine import READY_SECONDS, WorkerFailed
from ppctl.managers import Process
from tests.engine import HOME, configure, impatient, started, up
from tests.fake_host import FakeHost
from tests.fakes import FakeManager
from tests.turns import behind_another

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
    ("sent", "fails", "running"),
    [
        ([signal.SIGINT], False, [1, 2]),
        ([signal.SIGINT], True, [1, 2]),
        ([signal.SIGINT, signal.SIGINT], False, [2]),
        ([signal.SIGTERM], False, [1, 2]),
        ([signal.SIGHUP, signal.SIGHUP], False, [1, 2]),
        ([signal.SIGHUP, signal.SIGTERM], False, [2]),
    ],
    ids=["once", "systemctl has heard it, too", "twice", "TERM", "the terminal has gone", "and then TERM"],
)
def test_ctrl_c_leaves_no_worker_stopped(
    monkeypatch: pytest.MonkeyPatch, sent: list[signal.Signals], fails: bool, running: list[int]
) -> None:
    stop = FakeManager.stop

    def interrupted(manager: FakeManager, number: int) -> None:
        assert all(signal.getsignal(each) is not signal.SIG_DFL for each in sent), "it would end the tests"
        stop(manager, number)
        for each in sent:
            os.kill(os.getpid(), each)
        if fails:
            raise CommandFailed(["systemctl", "stop"], -signal.SIGINT, "")

    world = started()
    monkeypatch.setattr(FakeManager, "stop", interrupted)
    before = [signal.getsignal(each) for each in sent]
    with pytest.raises(KeyboardInterrupt):
        operate.restart(index.load(world.host, HOME), world.machine(), numbers=(), wait=True)
    assert [signal.getsignal(each) for each in sent] == before
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


def test_status_counts_packages_without_what_belongs_to_them(tmp_path: Path) -> None:
    packages = ["foo-1.0.zip", "sub/bar-1.0.zip"]
    beside = ["foo-1.0.zip.asc", "sub/bar-1.0.zip.provenance", ".ppctl-names", ".ppctl-upload-1/content"]
    for name in (*packages, *beside):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert status._count_files(tmp_path) == 2


def test_what_workers_say_does_nothing_to_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was taken over says what it likes, of its release and in its log."""
    monkeypatch.setattr(status, "_contents", lambda *_: {"packages": 0, "users": 0, "disk_free": 1})
    world = started()
    found, machine = index.load(world.host, HOME), world.machine()
    (group,) = world.groups.values()
    for running in group.running.values():
        running.release = "\x1b[2J"
    monkeypatch.setattr(FakeManager, "log", lambda *_: "one\x1b[2J\ntwo")
    status.status(found, machine)
    operate.logs(found, machine, numbers=(1,), lines=5, follow=False)
    said = world.stdout.getvalue()
    assert "\x1b" not in said and said.count("\\x1b[2J") == 3 and "worker 1: two\n" in said


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
def test_a_stop_that_fails_and_was_heard_all_the_same_leaves_no_worker_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """D-Bus answers late, or systemd itself is being replaced: its job goes on, and systemctl has failed."""
    stop = FakeManager.stop

    def fails(manager: FakeManager, number: int) -> None:
        stop(manager, number)
        raise CommandFailed(["systemctl", "stop"], 1, "Connection timed out")

    world = started()
    monkeypatch.setattr(FakeManager, "stop", fails)
    with pytest.raises(CommandFailed, match="Connection timed out"):
        operate.restart(index.load(world.host, HOME), world.machine(), numbers=(), wait=True)
    (group,) = world.groups.values()
    assert sorted(group.running) == [1, 2]


@pytest.mark.usefixtures("impatient")
def test_a_manager_that_does_not_answer_just_now_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = started()
    world.kill_worker(1, silent=True)
    machine, asked = world.machine(), []

    def processes(manager: FakeManager) -> list[Process]:
        asked.append(1)
        if len(asked) == 2:
            next(iter(world.groups.values())).running[1].answers = True
        raise CommandFailed(["systemctl", "show"], 1, "Connection timed out")

    monkeypatch.setattr(FakeManager, "processes", processes)
    machine.wait_ready(deployed(world.host, Layout(HOME)), 1)
    assert len(asked) == 2


@pytest.mark.usefixtures("impatient")
def test_a_worker_that_still_finishes_its_transfers_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd starts it when it has: that may take longer than a start."""
    world = started()
    world.kill_worker(1, silent=True)
    machine, asked = world.machine(), []

    def processes(manager: FakeManager) -> list[Process]:
        asked.append(1)
        if len(asked) == 10 * READY_SECONDS:
            next(iter(world.groups.values())).running[1].answers = True
        return [Process(1, "stopping", 7)]

    monkeypatch.setattr(FakeManager, "processes", processes)
    machine.wait_ready(deployed(world.host, Layout(HOME)), 1)
    assert len(asked) == 10 * READY_SECONDS


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("command", ["restart", "stop"])
def test_what_was_changed_while_it_waited_counts(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """Another ppctl gives the index another name, and so other processes."""
    world = started()
    found = index.load(world.host, HOME)
    behind_another(monkeypatch, FakeHost, lambda: up(configure(world, name="other", workers=3)))
    if command == "stop":
        operate.stop(found, world.machine(), wait=True)
        assert world.workers() == {}
    else:
        operate.restart(found, world.machine(), numbers=(), wait=True)
        (((name, *_), group),) = world.groups.items()
        assert (name, sorted(worker.pid for worker in group.running.values())) == (
            "other",
            [5006, 5007, 5008],
        )
