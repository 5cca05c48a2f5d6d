"""Checks of the packages directory, made as the account that the workers run as.

Files are looked for with find(1), run as that account: modes, groups, ACLs and the mount all count, and
only the kernel knows them all.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from ppctl.checks.base import CannotCheck, Finding, NotApplicable, Subject, follow, listed, problem, warning

TIMEOUT = 120.0
# The files of uploads under way (ppctl/server/drafts.py, which cannot be imported outside a release).
UPLOADS = "*/.ppctl-upload-*/*"
LEFTOVER_MINUTES = 60


def writable(subject: Subject) -> Iterator[Finding]:
    """Try as the account whether a file could be made in the directory."""
    path = subject.layout.packages
    found = follow(subject.host, path)
    if found is None and subject.host.stat(subject.layout.manifest) is None:
        raise NotApplicable  # it was never up
    if found is None:
        # What a dangling link is to point at is for the operator to say.
        mend = subject.as_root(f"rm -f {_quoted(path)}; ") + subject.ppctl("up")
        yield problem("the packages directory is gone", where=path, mend=mend)
    elif not _find(subject, path, "-maxdepth", "0", "-writable", "-executable"):
        closed = _first_closed(subject)
        if closed:
            mend = subject.as_root(f"chmod o+x {_quoted(closed)}")
            yield problem(f"the account {subject.account} cannot enter {closed}", where=path, mend=mend)
            return
        change = f"chown {subject.account} {_quoted(path)} && " if found.owner != subject.account else ""
        yield problem(
            f"the account {subject.account} cannot write here: every upload fails",
            where=path,
            mend=_root_shell(subject, f"{change}chmod u+rwx {_quoted(path)}"),
        )


def _first_closed(subject: Subject) -> Path | None:
    """Return the first directory on the way to the packages that the account cannot enter."""
    for path in reversed(subject.layout.packages.parents):
        if not _find(subject, path, "-maxdepth", "0", "-executable"):
            return path
    return None


def readable(subject: Subject) -> Iterator[Finding]:
    """Files that the workers cannot serve, and files that somebody else has put there."""
    path, account = subject.layout.packages, subject.account
    closed = _find(subject, path, "(", "!", "-readable", "-o", "-type", "d", "!", "-executable", ")")
    if closed:
        yield problem(
            f"files that the account {account} cannot read ({len(closed)}): {_names(closed, path)}",
            where=path,
            mend=_root_shell(
                subject, f"chown -R {account} {_quoted(path)}/ && chmod -R u+rX {_quoted(path)}/"
            ),
        )
    foreign = _find(subject, path, "!", "-user", account)
    if foreign:
        yield warning(
            f"files that do not belong to the account {account} ({len(foreign)}): {_names(foreign, path)}",
            where=path,
            mend=_root_shell(subject, f"chown -R {account} {_quoted(path)}/"),
        )


def leftovers(subject: Subject) -> Iterator[Finding]:
    """Uploads that a killed worker has not finished; the next start of a worker removes them, too."""
    path = subject.layout.packages
    old = ["-path", UPLOADS, "-type", "f", "-mmin", f"+{LEFTOVER_MINUTES}"]
    found = _find(subject, path, *old)
    if found:
        argv = ["find", "-H", str(path), *old, "-delete"]
        yield warning(
            f"rests of broken uploads take room ({len(found)}): {_names(found, path)}",
            where=path,
            mend=subject.as_root(shlex.join(argv)),
        )


def _find(subject: Subject, path: Path, *expression: str) -> list[str]:
    """Return the paths at and below `path` that match, as the account sees them."""
    if follow(subject.host, path) is None:
        raise CannotCheck(f"{path} does not exist", subject.ppctl("up"))
    argv = [*subject.as_account(), "find", "-H", str(path), *expression, "-print0"]
    # An exit status of 1 says that a directory could not be read; those are found by `readable`.
    done = subject.host.run(argv, check=False, timeout=TIMEOUT)
    return [found for found in done.stdout.split("\0") if found]


def _names(found: list[str], base: Path) -> str:
    return listed(
        (name.removeprefix(f"{base}/").replace(str(base), "the directory") for name in found), limit=3
    )


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _root_shell(subject: Subject, script: str) -> str:
    """Return what runs `script` as root: only root may give files away."""
    if subject.host.is_root() or "chown" not in script:
        return script
    return f"sudo sh -c {shlex.quote(script)}"
