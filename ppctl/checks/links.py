"""Checks of symbolic links: those of this index, and those that indexes now gone have left."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from ppctl import homes, xdg
from ppctl.checks.base import Finding, NotApplicable, Subject, follow, problem, warning
from ppctl.deployment import read_manifest
from ppctl.errors import PpctlError
from ppctl.host import Host
from ppctl.layout import SETTINGS_NAME
from ppctl.managers import supervisor_machine
from ppctl.settings import ManagerName


def own(subject: Subject) -> Iterator[Finding]:
    """`releases/current` and what `ppctl up` has made outside and inside the home."""
    _ = subject.running
    host, mend = subject.host, subject.ppctl("up")
    made = sorted(read_manifest(host, subject.layout).paths)
    for path in [subject.layout.current, *made]:
        found = host.stat(path)
        if found is None:
            yield problem("is gone; ppctl made it and the index needs it", where=path, mend=mend)
        elif found.kind == "link" and follow(host, path) is None:
            yield problem(f"dangling link: {found.target} does not exist", where=path, mend=mend)
        elif path == subject.layout.current and found.kind != "link":
            # `up` does not remove what it has not made.
            aside = f"mv {shlex.quote(str(path))} {shlex.quote(f'{path}.old')}"
            yield problem(
                f"must be a link, and is a {found.kind}", where=path, mend=f"{subject.as_root(aside)}; {mend}"
            )


def of_others(subject: Subject) -> Iterator[Finding]:
    """Entries in the registers, and files in supervisor's include directory, that lead nowhere."""
    host = subject.host
    mine = read_manifest(host, subject.layout).paths
    for register in (homes.SYSTEM_REGISTER, homes.user_register()):
        for path in _links_in(register, host):
            target = register / _target(path, host)
            if path not in mine and _is_gone(target / SETTINGS_NAME, host):
                yield warning(f"there is no index any more at {target}", where=path, mend=_remove(path, host))
    for path in _links_in(_include_directory(subject), host) if subject.index.is_system else ():
        if path not in mine and _is_gone(path, host):
            yield warning(
                f"dangling link: {_target(path, host)} does not exist", where=path, mend=_remove(path, host)
            )


def _is_gone(path: Path, host: Host) -> bool:
    """Return whether there is nothing at the end of `path`; what is closed to this user is there."""
    try:
        return follow(host, path) is None
    except PpctlError:
        return False


def _include_directory(subject: Subject) -> Path:
    if subject.manager is ManagerName.SUPERVISOR:
        return supervisor_machine.include_directory(subject.host)
    from ppctl.managers.systemd import unit_directory

    return unit_directory(is_system=True)


def client_files(subject: Subject) -> Iterator[Finding]:
    """Client files of this user that are links into the home (`--link`)."""
    host, home = subject.host, Path.home()
    kept = host.list(subject.layout.client_files)
    links = [path for directory in client_directories(home) for path in _links_in(directory, host)]
    mine = [
        path for path in links if subject.layout.client_files in (path.parent / _target(path, host)).parents
    ]
    if not mine and not kept:
        raise NotApplicable
    for path in mine:
        if follow(host, path) is None:
            yield warning(
                f"dangling link: {_target(path, host)} does not exist", where=path, mend=_remove(path, host)
            )
    for name in kept:
        found = host.stat(subject.layout.client_files / name)
        if found and found.mode & 0o077:
            path = subject.layout.client_files / name
            yield warning(
                f"mode {found.mode:04o}: others may read it, and there may be a password in it",
                where=path,
                mend=subject.as_root(f"chmod 600 {shlex.quote(str(path))}"),
            )


def client_directories(home: Path) -> list[Path]:
    """Return where the clients' files are (~/.pypirc, ~/.netrc, pip.conf, uv.toml, …)."""
    base = xdg.config(os.environ, home)
    return [home, home / ".pip", *(base / name for name in ("pip", "uv", "pypoetry", "pdm", "hatch"))]


def _links_in(directory: Path, host: Host) -> list[Path]:
    paths = [directory / name for name in host.list(directory)]
    return [path for path in paths if (found := host.stat(path)) and found.kind == "link"]


def _target(path: Path, host: Host) -> str:
    found = host.stat(path)
    return found.target if found else ""


def _remove(path: Path, host: Host) -> str:
    # The registers and the include directory are root's, the rest is this user's own.
    sudo = "sudo " if path.parts[1] == "etc" and not host.is_root() else ""
    return f"{sudo}rm {shlex.quote(str(path))}"
