"""Checks of the home's files: who may read and change them, what was left behind, how large they are."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ppctl import releases
from ppctl.checks.base import Finding, NotApplicable, Subject, follow, listed, problem, warning
from ppctl.deployment import read_manifest
from ppctl.host import FileInfo
from ppctl.settings import ManagerName, size_in_bytes

BUILD_SECONDS = 900.0  # a release that somebody is building right now is not half-built
MB = 1 << 20
WRITABLE, READABLE, OPEN = 0o022, 0o007, 0o077


@dataclass(frozen=True)
class _Rule:
    """Bits that the mode of `path` must not have, and what somebody could do otherwise."""

    path: Path
    forbidden: int
    danger: str
    own: bool = True
    """In system mode it belongs to root, so that a broken-in server cannot change it."""


def _rules(subject: Subject) -> list[_Rule]:
    layout = subject.layout
    change = "others may change what the workers do"
    run = READABLE | 0o020 if subject.index.is_system else OPEN
    return [
        _Rule(layout.home, WRITABLE, "others may replace every file in it"),
        _Rule(layout.settings, WRITABLE, "others may change the settings"),
        _Rule(layout.htpasswd, WRITABLE | READABLE, "others may read or change the password hashes"),
        _Rule(layout.permissions, WRITABLE | READABLE, "others may change what users may do"),
        _Rule(layout.manifest, WRITABLE, "others decide which files ppctl removes"),
        _Rule(layout.audit_log, WRITABLE | READABLE, "others may read or change the audit log"),
        _Rule(layout.run_script, WRITABLE, change),
        _Rule(layout.cache_script, WRITABLE, change),
        _Rule(layout.cache_config, WRITABLE, change),
        _Rule(layout.cache, WRITABLE, "others may change what clients install", own=False),
        _Rule(layout.upstream_login, WRITABLE | READABLE, "others may read the login for the other index"),
        _Rule(layout.server_config, WRITABLE, change),
        _Rule(layout.supervisor_program, WRITABLE, change),
        _Rule(layout.supervisord_conf, WRITABLE, change),
        _Rule(layout.releases, WRITABLE, change),
        _Rule(layout.logs, WRITABLE, "others may put links there that supervisord follows"),
        _Rule(layout.run, run, "others may reach the control sockets", own=False),
        _Rule(layout.packages, 0o002, "everybody on this machine may add packages", own=False),
    ]


def modes(subject: Subject) -> Iterator[Finding]:
    """Modes and owners that let others in."""
    for rule in _rules(subject):
        found = subject.host.stat(rule.path)
        if found is None or found.kind == "link":
            continue  # what must be there is found by others; a link has no mode
        path = shlex.quote(str(rule.path))
        bad = found.mode & rule.forbidden
        if bad:
            mend = subject.as_root(f"chmod {_without(bad)} {path}")
            yield problem(f"mode {found.mode:04o}: {rule.danger}", where=rule.path, mend=mend)
        if rule.own and subject.index.is_system and found.owner != "root":
            yield problem(
                f"belongs to {found.owner} instead of root: {rule.danger}",
                where=rule.path,
                mend=subject.as_root(f"chown root {path}"),
            )


def _without(bits: int) -> str:
    """Return the symbolic mode that takes `bits` away (chmod(1)): `g-w,o-rwx`."""
    parts = []
    for who, shift in (("g", 3), ("o", 0)):
        letters = "".join(letter for letter, bit in (("r", 4), ("w", 2), ("x", 1)) if bits >> shift & bit)
        if letters:
            parts.append(f"{who}-{letters}")
    return ",".join(parts)


def parents(subject: Subject) -> Iterator[Finding]:
    """Who may write into a directory may rename what is in it, unless it is sticky (like /tmp)."""
    for path in subject.layout.home.parents:
        found = follow(subject.host, path)
        if found and found.mode & 0o002 and not found.mode & 0o1000:
            yield problem(
                f"mode {found.mode:04o}: everybody may put something else in the home's place",
                where=path,
                mend=f"{_sudo(found, subject)}chmod o-w {shlex.quote(str(path))}",
            )


def _sudo(found: FileInfo, subject: Subject) -> str:
    return "" if subject.host.is_root() or found.owner == subject.host.user() else "sudo "


def leftovers(subject: Subject) -> Iterator[Finding]:
    """Temporary files whose process does not run any more."""
    host, layout = subject.host, subject.layout
    outside = {path.parent for path in read_manifest(host, layout).paths}
    places = {layout.home, layout.releases, layout.client_files, *outside}
    left = [path for directory in sorted(places) for path in host.leftovers(directory)]
    if left:
        yield warning(
            f"left by a ppctl that was killed: {listed(left)}",
            where=layout.home,
            mend=subject.as_root(f"rm {shlex.join(map(str, left))}"),
        )


def half_built(subject: Subject) -> Iterator[Finding]:
    """Releases whose building was interrupted; `up` builds them anew or removes them."""
    host, layout = subject.host, subject.layout
    for name in releases.installed(layout, host):
        path = layout.releases / name
        found = host.stat(path)
        building = found is not None and subject.now - found.mtime < BUILD_SECONDS
        if not building and not releases.is_complete(name, layout, host):
            yield warning("a release that was never finished", where=path, mend=subject.ppctl("up"))


def logs(subject: Subject) -> Iterator[Finding]:
    """Log files that have outgrown the settings: nobody rotates them."""
    if subject.manager is not ManagerName.SUPERVISOR:
        raise NotApplicable  # the journal looks after itself
    size = subject.settings.logs.max_size
    limit = size_in_bytes(size)
    for name in subject.host.list(subject.layout.logs):
        path = subject.layout.logs / name
        found = subject.host.stat(path)
        # supervisor rotates after a write, so a file may be a little larger than the limit.
        allowed = 1.2 * (5 * MB if name.startswith("supervisord") else limit)
        if found and found.kind == "file" and found.size > allowed:
            yield warning(
                f"has {found.size / MB:.0f} MB and is not rotated (logs.max_size: {size})",
                where=path,
                mend=subject.as_root(f"truncate --size=0 {shlex.quote(str(path))}"),
            )
