"""The changes a plan is made of: data that can be shown, and that knows how to come about.

Each is idempotent. What a change needs to know is decided when the plan is made; `apply` only does it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ppctl import releases
from ppctl.deployment import Deployment, Manifest
from ppctl.host import Host
from ppctl.layout import Layout
from ppctl.machine import Machine
from ppctl.managers import Pending
from ppctl.releases import Release


@dataclass(frozen=True)
class Change:
    """One step of a plan: `action` on `target`, in words (`summary`) and as a unified `diff`."""

    action: str
    target: str
    summary: str = ""
    diff: str = ""
    interrupts: str = ""
    bookkeeping: bool = False
    """ppctl's own records: not shown, and no change in the index."""

    def apply(self, machine: Machine) -> None:
        """Bring the change about. Raises PpctlError."""
        raise NotImplementedError

    def to_data(self) -> dict[str, Any]:
        """Return the change as plain data (the JSON envelope's `changes`)."""
        return {
            "action": self.action,
            "target": self.target,
            "summary": self.summary,
            "diff": self.diff,
            "interrupts": self.interrupts,
        }


@dataclass(frozen=True, kw_only=True)
class CreateAccount(Change):
    """Create the service account."""

    home: Path

    def apply(self, machine: Machine) -> None:
        nologin = machine.host.which("nologin") or "/usr/sbin/nologin"
        machine.host.run(
            [
                *("useradd", "--system", "--user-group", "--no-create-home"),
                *("--home-dir", str(self.home), "--shell", nologin, self.target),
            ]
        )


@dataclass(frozen=True, kw_only=True)
class MakeDirectory(Change):
    """Make a directory, or mend its mode and owner."""

    mode: int
    owner: str | None = None
    group: str | None = None

    def apply(self, machine: Machine) -> None:
        machine.host.make_directory(Path(self.target), mode=self.mode, owner=self.owner, group=self.group)


@dataclass(frozen=True, kw_only=True)
class WriteFile(Change):
    """Write a whole file; with `lock`, which its other writers hold, only where nothing is in it by then."""

    content: bytes = field(repr=False)
    mode: int
    owner: str | None = None
    group: str | None = None
    lock: Path | None = None

    def apply(self, machine: Machine) -> None:
        if self.lock is None:
            self._write(machine.host)
            return
        with machine.host.lock(self.lock, purpose="ppctl up"):
            if not machine.host.read(Path(self.target)):
                self._write(machine.host)

    def _write(self, host: Host) -> None:
        path = Path(self.target)
        if not host.stat(path.parent):
            host.make_directory(path.parent, mode=0o755)
        host.write(path, self.content, mode=self.mode, owner=self.owner, group=self.group)


@dataclass(frozen=True, kw_only=True)
class SetAttributes(Change):
    """Mend mode and owner of a file whose content is right."""

    mode: int
    owner: str | None = None
    group: str | None = None

    def apply(self, machine: Machine) -> None:
        machine.host.set_attributes(Path(self.target), mode=self.mode, owner=self.owner, group=self.group)


@dataclass(frozen=True, kw_only=True)
class MakeLink(Change):
    """Make a symbolic link, or point it elsewhere."""

    to: str

    def apply(self, machine: Machine) -> None:
        path = Path(self.target)
        if not machine.host.stat(path.parent):
            machine.host.make_directory(path.parent, mode=0o755)
        machine.host.link(path, self.to)


@dataclass(frozen=True)
class RemovePath(Change):
    """Remove a file or link that ppctl made and that is no longer wanted."""

    def apply(self, machine: Machine) -> None:
        machine.host.remove(Path(self.target))


@dataclass(frozen=True, kw_only=True)
class WriteManifest(Change):
    """Record what ppctl has made and is about to make."""

    manifest: Manifest
    owner: str | None = None

    def apply(self, machine: Machine) -> None:
        path = Path(self.target)
        machine.host.write(path, self.manifest.to_bytes(path.parent), mode=0o640, owner=self.owner)


@dataclass(frozen=True, kw_only=True)
class BuildRelease(Change):
    """Build a release's virtualenv."""

    release: Release
    layout: Layout

    def apply(self, machine: Machine) -> None:
        releases.build(self.release, self.layout, machine.host)


@dataclass(frozen=True, kw_only=True)
class RemoveReleases(Change):
    """Remove releases that are too old to go back to."""

    paths: tuple[Path, ...]

    def apply(self, machine: Machine) -> None:
        for path in self.paths:
            releases.remove(path, machine.host)


@dataclass(frozen=True, kw_only=True)
class LeaveDeployment(Change):
    """Stop an index's processes under the name, manager or mode it had before, and remove their files."""

    deployment: Deployment
    paths: tuple[Path, ...] = ()

    def apply(self, machine: Machine) -> None:
        manager = machine.manager_of(self.deployment)
        manager.unload()
        for path in self.paths:
            machine.host.remove(path)
        manager.forget()


@dataclass(frozen=True, kw_only=True)
class LoadManager(Change):
    """Make the manager take over what is on disk, and wait for the workers that start with it."""

    deployment: Deployment
    pending: Pending
    wait_for: tuple[int, ...]
    wanted: tuple[str, str]
    prefix: str

    def apply(self, machine: Machine) -> None:
        machine.manager_of(self.deployment).load(self.pending)
        for number in self.wait_for:
            machine.wait_ready(self.deployment, number, prefix=self.prefix, wanted=self.wanted)


@dataclass(frozen=True, kw_only=True)
class RestartCache(Change):
    """Start the cache program, anew if it runs."""

    deployment: Deployment
    wanted: tuple[str, str]

    def apply(self, machine: Machine) -> None:
        machine.restart_cache(self.deployment, self.wanted)


@dataclass(frozen=True, kw_only=True)
class LeaveCache(Change):
    """Stop the cache program, and remove its files and what it has fetched."""

    deployment: Deployment
    paths: tuple[Path, ...]

    def apply(self, machine: Machine) -> None:
        manager, layout = machine.manager_of(self.deployment), self.deployment.layout
        manager.unload_cache()
        machine.host.remove(layout.cache_socket)
        machine.host.remove_tree(layout.cache)
        for name in machine.host.list(layout.logs):
            if name.startswith(layout.cache_log.name):
                machine.host.remove(layout.logs / name)
        # What tells that there is something to leave goes last.
        for path in sorted(self.paths, key=lambda path: path == layout.cache_script):
            machine.host.remove(path)
        manager.forget()


@dataclass(frozen=True, kw_only=True)
class RestartWorker(Change):
    """Restart one worker while the others answer."""

    deployment: Deployment
    number: int
    wanted: tuple[str, str]
    prefix: str

    def apply(self, machine: Machine) -> None:
        machine.restart_worker(self.deployment, self.number, prefix=self.prefix, wanted=self.wanted)
