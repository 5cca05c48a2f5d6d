"""What a machine contributes to an index: which manager, which group, which Python; and what it lacks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ppctl import homes, managers, pythons, releases
from ppctl.errors import PpctlError
from ppctl.host import Host, is_trusted
from ppctl.index import Index
from ppctl.managers import supervisor_machine, systemd
from ppctl.releases import Release
from ppctl.settings import ManagerName, Upstream


@dataclass(frozen=True)
class Facts:
    """What the machine contributes: the manager in charge, where it looks, who owns what, which Python."""

    manager: ManagerName
    group: str | None
    release: Release
    register: Path
    unit_directory: Path | None = None
    include_path: Path | None = None
    sandbox: bool = True


def find(found: Index, host: Host) -> Facts:
    """Return what this machine contributes to the index. Raises PpctlError when it lacks something."""
    settings = found.settings
    manager = managers.resolve(settings.manager, host, is_system=found.is_system)
    if settings.server.python:
        _check_writer(found, host)
    python = pythons.choose(settings.server, host, is_system=found.is_system)
    if found.is_system:
        _check_python(python, settings.account, host)
        _check_home(found.home, settings.account, host)
    include_path = None
    if manager is ManagerName.SUPERVISOR and found.is_system:
        include_path = supervisor_machine.include_file(host, f"ppctl-{settings.name}")
    return Facts(
        manager=manager,
        group=found.group(host),
        release=releases.define(
            settings.server,
            python,
            pythons.version_of(python, host),
            cache=settings.upstream is Upstream.CACHE,
        ),
        register=homes.register_of(settings.mode),
        unit_directory=managers.unit_directory(manager, host, is_system=found.is_system),
        include_path=include_path,
        sandbox=found.is_system or systemd.can_sandbox(host),
    )


def _check_writer(found: Index, host: Host) -> None:
    """Raise PpctlError where a program would be run that somebody else has named, be it only to look."""
    path = found.layout.settings
    entry = host.stat(path)
    if entry and not is_trusted(host, entry.owner):
        raise PpctlError(
            f"{path}: server.python: {host.user()} does not run what {entry.owner} has written there",
            f"if it is right: chown root {path}"
            if found.is_system
            else f"run the command as that user: sudo -u {entry.owner} ppctl ...",
        )


def _check_python(python: str, account: str, host: Host) -> None:
    """Raise PpctlError for a Python that the service account cannot run (one in root's home)."""
    closed = _closed_directory(python, host) if python.startswith("/") else None
    if closed:
        raise PpctlError(
            f"server.python: the account {account} cannot reach {python}: {closed} is closed to it",
            "set `server: {python: /usr/bin/python3}` in ppctl.yml",
        )


def _check_home(home: Path, account: str, host: Host) -> None:
    """Raise PpctlError for a home that the service account cannot enter."""
    closed = _closed_directory(home, host)
    if closed:
        raise PpctlError(
            f"{home}: the account {account} cannot reach it: {closed} is closed to others",
            f"open it (chmod o+x {closed}), or choose another home, such as {homes.SYSTEM_HOMES / home.name}",
        )


def _closed_directory(path: str | Path, host: Host) -> Path | None:
    """Return the directory above `path` that not everybody may pass through, or None."""
    for parent in Path(os.path.realpath(path)).parents:
        entry = host.stat(parent)
        if entry and not entry.mode & 0o001:
            return parent
    return None
