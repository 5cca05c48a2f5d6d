"""Checks of the disk below the home, and of the clock."""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Iterator
from pathlib import Path

from ppctl.checks.base import Finding, Subject, follow, listed, problem, warning

MIB = 2**20
WARN_SHARE, WARN_BYTES = 0.10, 1024 * MIB
FULL_SHARE, FULL_BYTES = 0.02, 100 * MIB
CLOCK_SECONDS = 300.0
OLDEST_YEAR = 2024  # older than ppctl itself: a machine without a battery or a time server


def _places(subject: Subject) -> list[Path]:
    """Return the directories that are on file systems of their own: packages may be a mount, or a link."""
    host, home, packages = subject.host, subject.layout.home, subject.layout.packages
    if not follow(host, packages):
        return [home]
    elsewhere = host.file_system(packages).device != host.file_system(home).device
    return [home, packages] if elsewhere else [home]


def room(subject: Subject) -> Iterator[Finding]:
    """Free bytes and inodes."""
    for path in _places(subject):
        found = subject.host.file_system(path)
        quoted = shlex.quote(f"{path}/")
        share = found.free / found.size if found.size else 1.0
        if share < WARN_SHARE or found.free < WARN_BYTES:
            report = problem if share < FULL_SHARE or found.free < FULL_BYTES else warning
            yield report(
                f"only {found.free // MIB} MiB of the disk are free ({share:.0%})",
                where=path,
                mend=f"make room; what takes most: du -xh {quoted} | sort -h | tail",
            )
        share = found.inodes_free / found.inodes if found.inodes else 1.0
        if share < WARN_SHARE:
            report = problem if share < FULL_SHARE else warning
            yield report(
                f"only {found.inodes_free} inodes of the disk are free ({share:.0%})",
                where=path,
                mend=f"make room; where most files are: du -x --inodes {quoted} | sort -n | tail",
            )


def mount(subject: Subject) -> Iterator[Finding]:
    """Mounted read-only, or so that the releases' programs cannot be run."""
    for path in _places(subject):
        found = subject.host.file_system(path)
        where_mounted = f'"$(findmnt -n -o TARGET -T {shlex.quote(str(path))})"'
        remount = f"{'' if subject.host.is_root() else 'sudo '}mount -o remount,"
        if found.read_only:
            yield problem("the disk is mounted read-only", where=path, mend=f"{remount}rw {where_mounted}")
        if found.no_exec and path == subject.layout.home:
            yield problem(
                "the disk is mounted noexec: the releases' programs cannot be run",
                where=path,
                mend=f"{remount}exec {where_mounted}",
            )


def clock(subject: Subject) -> Iterator[Finding]:
    """A clock that is behind breaks TLS, the audit log, and what depends on which file is newer."""
    mend = f"{'' if subject.host.is_root() else 'sudo '}timedatectl set-ntp true"
    now = datetime.datetime.fromtimestamp(subject.now, datetime.timezone.utc)
    if now.year < OLDEST_YEAR:
        yield problem(f"the clock says {now:%Y-%m-%d}", mend=mend)
        return
    layout = subject.layout
    ours = (layout.settings, layout.manifest, layout.htpasswd, layout.audit_log, layout.server_config)
    times = [(found.mtime, path) for path in ours if (found := subject.host.stat(path))]
    future = [path for mtime, path in times if mtime > subject.now + CLOCK_SECONDS]
    if future:
        ahead = max(mtime for mtime, _ in times) - subject.now
        yield warning(
            f"the clock is {ahead / 60:.0f} minutes behind the newest files: {listed(future)}",
            where=layout.home,
            mend=mend,
        )
