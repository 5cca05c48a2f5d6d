"""What checks are made of: what they look at (`Subject`) and what they find (`Finding`)."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from ppctl import desired, facts, homes, managers, releases
from ppctl.deployment import Deployment, read_manifest
from ppctl.desired import Desired
from ppctl.errors import PpctlError
from ppctl.host import FileInfo, Host
from ppctl.index import Index
from ppctl.layout import Layout
from ppctl.machine import Machine
from ppctl.managers import Process
from ppctl.settings import ManagerName, Settings
from ppctl.workers import Report

MAX_LINKS = 40  # like the kernel (path_resolution(7))


class Severity(str, Enum):
    """How bad a finding is; in the order in which findings are shown."""

    PROBLEM = "problem"
    WARNING = "warning"
    SKIPPED = "skipped"
    OK = "ok"


@dataclass(frozen=True)
class Finding:
    """What a check has found. `where` is a file, if need be with its key; `mend` what to type."""

    severity: Severity
    message: str
    where: str = ""
    mend: str = ""
    check: str = ""

    def to_data(self) -> dict[str, str]:
        """Return the finding as plain data (the JSON envelope's `findings`)."""
        return {
            "check": self.check,
            "severity": self.severity.value,
            "where": self.where,
            "message": self.message,
            "mend": self.mend,
        }


@dataclass(frozen=True)
class Check:
    """A check: `function` yields what is wrong; when it yields nothing, `fine` is what is right."""

    name: str
    fine: str
    function: Callable[[Subject], Iterable[Finding]]


class NotApplicable(Exception):
    """There is nothing that this check could look at in an index like this one."""


class CannotCheck(PpctlError):
    """The check cannot be made here and now; the message says why, the hint how it could."""


def problem(message: str, *, where: object = "", mend: str = "") -> Finding:
    """Return a finding that keeps the index from working, or that lets strangers in."""
    return Finding(Severity.PROBLEM, message, str(where), mend)


def warning(message: str, *, where: object = "", mend: str = "") -> Finding:
    """Return a finding that will become a problem, or that somebody may have wanted."""
    return Finding(Severity.WARNING, message, str(where), mend)


@dataclass
class Subject:
    """The index that is examined, on its machine. What several checks ask for is looked up once."""

    index: Index
    machine: Machine
    now: float = field(default_factory=time.time)
    ask_upstream: bool = False
    """Whether the other index may be asked which projects it has."""

    @property
    def settings(self) -> Settings:
        """What the operator asked for."""
        return self.index.settings

    @property
    def layout(self) -> Layout:
        """The paths of the home."""
        return self.index.layout

    @property
    def host(self) -> Host:
        """The machine's files and programs."""
        return self.machine.host

    @functools.cached_property
    def deployment(self) -> Deployment | None:
        """How the index is deployed, None when it is not up, or never was."""
        return None if self.is_unfinished else self._newest

    @functools.cached_property
    def is_unfinished(self) -> bool:
        """Whether the first `up` was begun, and did not come to a release that workers could start from."""
        if self._newest is None or releases.current(self.layout, self.host):
            return False
        return not self.machine.reports(self._newest)

    @functools.cached_property
    def _newest(self) -> Deployment | None:
        found = read_manifest(self.host, self.layout).deployments
        return found[-1] if found else None

    @property
    def running(self) -> Deployment:
        """How the index is deployed. Raises CannotCheck when it is not up."""
        if self.deployment is None:
            raise CannotCheck("the index is not up", self.ppctl("up"))
        return self.deployment

    @functools.cached_property
    def reports(self) -> dict[int, Report]:
        """What the workers say of themselves, by number; silent ones are left out."""
        return self.machine.reports(self.deployment) if self.deployment else {}

    @functools.cached_property
    def processes(self) -> list[Process]:
        """The workers as their manager sees them. Raises PpctlError when it cannot be asked."""
        return self.machine.manager_of(self.running).processes()

    @functools.cached_property
    def desired(self) -> Desired:
        """What the settings ask for. Raises PpctlError when this machine cannot provide it."""
        return desired.build(self.index, facts.find(self.index, self.host))

    @property
    def manager(self) -> ManagerName:
        """The manager in charge, or that would be. Raises PpctlError when it is not installed."""
        if self.deployment:
            return self.deployment.manager
        return managers.resolve(self.settings.manager, self.host, is_system=self.index.is_system)

    @property
    def release(self) -> Path:
        """The directory of the current release. Raises CannotCheck when there is none."""
        name = releases.current(self.layout, self.host)
        if not name or not self.host.stat(self.layout.releases / name):
            raise CannotCheck("there is no current release", self.ppctl("up"))
        return self.layout.releases / name

    @property
    def account(self) -> str:
        """The account that the workers run as."""
        if self.index.is_system:
            return self.settings.account
        home = self.host.stat(self.layout.home)
        return home.owner if home else self.host.user()

    def as_account(self) -> list[str]:
        """Return what to put in front of a program so that it runs as the workers' account.

        Raises CannotCheck when this user cannot become that account.
        """
        # Not from the working directory: the account need not be able to enter it.
        here = ["env", "--chdir=/"]
        if self.account == self.host.user():
            return here
        if not self.host.is_root():
            become = "" if self.index.is_system else f"sudo -u {self.account} "
            raise CannotCheck(
                f"only root can try what the account {self.account} may do", become + self.ppctl("doctor")
            )
        if not self.host.account_exists(self.account):
            raise CannotCheck(f"there is no account {self.account} yet", self.ppctl("up"))
        group = self.host.primary_group(self.account)
        return [*here, "setpriv", f"--reuid={self.account}", f"--regid={group}", "--init-groups"]

    def ppctl(self, *words: str) -> str:
        """Return the ppctl command line that means this index."""
        return self.as_root(homes.command(self.layout.home, *words))

    def edit(self, change: str) -> str:
        """Return what to type when the settings are to be changed."""
        return f"{change} in {self.layout.settings}, then: {self.ppctl('up')}"

    def as_root(self, command: str) -> str:
        """Return `command` as this user has to type it: with sudo if the index is the machine's."""
        return f"sudo {command}" if self.index.is_system and not self.host.is_root() else command


def follow(host: Host, path: Path) -> FileInfo | None:
    """Return what is at `path` with links followed, None where they lead nowhere."""
    for _ in range(MAX_LINKS):
        found = host.stat(path)
        if found is None or found.kind != "link":
            return found
        path = path.parent / found.target
    return None


def is_refusal(error: PpctlError) -> bool:
    """Return whether `error` says that this user may not look, not that something is wrong."""
    return isinstance(error, CannotCheck) or isinstance(error.__cause__, PermissionError)


def listed(items: Iterable[object], limit: int = 5) -> str:
    """Return the first few of `items` in words, and how many more there are."""
    texts = [str(item) for item in items]
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more
