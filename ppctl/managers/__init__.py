"""Managers: what keeps the workers alive. Each is a module behind one Protocol, registered here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ppctl.deployment import Deployment
from ppctl.errors import PpctlError
from ppctl.host import Host
from ppctl.settings import ManagerName
from ppctl.workers import Report

CACHE = 0
"""Stands for the cache program where a worker has its number."""


@dataclass(frozen=True)
class Process:
    """One worker as its manager sees it. `state` is running, starting, stopping, stopped or failed."""

    number: int
    state: str
    pid: int = 0
    since: float = 0.0
    detail: str = ""

    @property
    def is_up(self) -> bool:
        """Whether the manager has it running, or is about to."""
        return self.state in ("running", "starting")


@dataclass(frozen=True)
class Pending:
    """What the manager has yet to take over. `interrupts` says for how long and why nobody is answered."""

    summary: str
    interrupts: str = ""
    restarts_workers: bool = False
    closes_socket: bool = False


class Manager(Protocol):
    """The manager of one deployment. Methods raise PpctlError when it cannot be reached or says no."""

    def pending(self, unit: str, reports: dict[int, Report], *, files_change: bool) -> Pending | None:
        """Return what the manager has to take over, or None when it runs configuration `unit` already.

        `files_change`: the plan writes some of the manager's files before `load`.
        """

    def holds_socket(self) -> bool:
        """Return whether the manager has the index's socket open, also when no worker answers."""

    def load(self, pending: Pending) -> None:
        """Take over the configuration that is on disk, as `pending` says, and start what does not run."""

    def unload(self) -> None:
        """Stop every worker and forget the index; nothing to do is fine."""

    def forget(self) -> None:
        """Make the manager notice that the index's files are gone (after `unload`)."""

    def processes(self) -> list[Process]:
        """Return the workers as the manager sees them, by number; stopped ones included."""

    def start(self, number: int) -> None:
        """Start worker `number` unless it runs; one that still stops, when it has. It may not answer yet."""

    def stop(self, number: int) -> None:
        """Stop worker `number` gracefully and wait until it has ended."""

    def start_all(self) -> None:
        """Start what does not run."""

    def stop_all(self) -> None:
        """Stop every worker gracefully and close the socket."""

    def log(self, number: int, lines: int) -> str:
        """Return the last `lines` lines that worker `number` has written; CACHE: the cache program."""

    def follow(self, numbers: list[int], lines: int) -> contextlib.AbstractContextManager[Iterator[str]]:
        """Return an endless iterator of `worker N: line`, beginning with the last `lines` of each."""

    # The cache program runs beside the workers; what is said of all processes above means it, too.

    def cache(self) -> Process | None:
        """Return the cache program as the manager sees it, None when it knows of none."""

    def load_cache(self) -> None:
        """Take over the cache program's configuration that is on disk, and start it anew."""

    def unload_cache(self) -> None:
        """Stop the cache program and forget it; nothing to do is fine."""


def label(number: int) -> str:
    """Return what a process is called before the lines of its log."""
    return "cache" if number == CACHE else f"worker {number}"


def get(deployment: Deployment, host: Host) -> Manager:
    """Return the manager of `deployment`."""
    from ppctl.managers import supervisor, systemd

    known: dict[ManagerName, Callable[[Deployment, Host], Manager]] = {
        ManagerName.SUPERVISOR: supervisor.Supervisor,
        ManagerName.SYSTEMD: systemd.Systemd,
    }
    return known[deployment.manager](deployment, host)


def resolve(asked: ManagerName, host: Host, *, is_system: bool) -> ManagerName:
    """Return the manager that `asked` means on this machine. Raises PpctlError when it is not installed."""
    from ppctl.managers import supervisor_machine, systemd

    if asked is ManagerName.AUTO:
        if not is_system or supervisor_machine.is_installed(host):
            return ManagerName.SUPERVISOR
        asked = ManagerName.SYSTEMD
    if asked is ManagerName.SUPERVISOR and is_system and not supervisor_machine.is_installed(host):
        raise PpctlError(
            f"manager: {supervisor_machine.NOT_INSTALLED}",
            "apt install supervisor, or set `manager: systemd` in ppctl.yml",
        )
    if asked is ManagerName.SYSTEMD and not systemd.is_running(host):
        raise PpctlError(
            "manager: systemd does not run on this machine (PID 1 is something else)",
            "set `manager: supervisor` in ppctl.yml",
        )
    return asked


def unit_directory(manager: ManagerName, host: Host, *, is_system: bool) -> Path | None:
    """Return the directory in which the manager looks for an index's configuration; None: in its home."""
    from ppctl.managers import supervisor_machine, systemd

    if manager is ManagerName.SYSTEMD:
        return systemd.unit_directory(is_system=is_system)
    return supervisor_machine.include_directory(host) if is_system else None
