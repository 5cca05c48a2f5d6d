"""The changes of a plan that make directories, files and links what they are to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ppctl.changes import Change, MakeDirectory, MakeLink, SetAttributes, WriteFile
from ppctl.desired import Desired
from ppctl.entries import Directory, File, Link
from ppctl.errors import PpctlError
from ppctl.host import FileInfo, Host


def directories(all_wanted: Iterable[Directory], host: Host) -> Iterator[Change]:
    """Yield what makes and mends the directories. Raises PpctlError where something else is in the way."""
    for wanted in all_wanted:
        found = host.stat(wanted.path)
        if found and found.kind == "link":
            continue  # an operator's own: packages on another disk
        if found and found.kind != "directory":
            raise PpctlError(
                f"{wanted.path}: a directory must be here, and this is a {found.kind}",
                f"move it away: mv {wanted.path} {wanted.path}.old",
            )
        summary = _attributes_differ(wanted, found)
        if found is None or summary:
            yield MakeDirectory(
                "mend" if found else "create",
                str(wanted.path),
                summary,
                mode=wanted.mode,
                owner=wanted.owner,
                group=wanted.group,
            )


def _attributes_differ(wanted: Directory | File, found: FileInfo | None) -> str:
    """Return in words how mode and owner differ, '' when they do not."""
    if found is None:
        return ""
    problems = []
    if found.mode != wanted.mode:
        problems.append(f"mode {found.mode:04o} -> {wanted.mode:04o}")
    if wanted.owner and found.owner != wanted.owner:
        problems.append(f"owner {found.owner} -> {wanted.owner}")
    if wanted.group and found.group != wanted.group:
        problems.append(f"group {found.group} -> {wanted.group}")
    return ", ".join(problems)


def files(all_wanted: Iterable[File], host: Host) -> Iterator[Change]:
    """Yield what writes and mends the files. Raises PpctlError where a directory is in the way."""
    for wanted in all_wanted:
        found = host.stat(wanted.path)
        if found and found.kind == "directory":
            raise PpctlError(
                f"{wanted.path}: a file must be here, and this is a directory",
                f"move it away: mv {wanted.path} {wanted.path}.old",
            )
        attributes: dict[str, Any] = {"mode": wanted.mode, "owner": wanted.owner, "group": wanted.group}
        # A link in place of a file is replaced: reading through it would hide that it is one.
        old = host.read(wanted.path) if found and found.kind == "file" else None
        if old is None or (not wanted.lock and old != wanted.content):
            if found and found.kind == "link" and wanted.lock:
                continue
            yield WriteFile(
                "update" if found else "create",
                str(wanted.path),
                diff=_diff(wanted.path, old, wanted.content),
                content=wanted.content,
                lock=wanted.lock,
                **attributes,
            )
        elif summary := _attributes_differ(wanted, found):
            yield SetAttributes("mend", str(wanted.path), summary, **attributes)


def _diff(path: Path, old: bytes | None, new: bytes) -> str:
    """Return the unified diff from `old` (None: no file) to `new`."""
    before = (old or b"").decode("utf-8", "replace").splitlines(keepends=True)
    after = new.decode("utf-8", "replace").splitlines(keepends=True)
    source = "/dev/null" if old is None else str(path)
    lines = difflib.unified_diff(before, after, source, str(path))
    return "".join(line if line.endswith("\n") else line + "\n" for line in lines)


def links(desired: Desired, host: Host) -> Iterator[Change]:
    """Yield what makes the links. Raises PpctlError where something else, or another index, is in the way."""
    layout, release = desired.deployment.layout, desired.release
    wanted = [Link(layout.current, release.id), *desired.links]
    for link in wanted:
        found = host.stat(link.path)
        if found and found.kind != "link":
            raise PpctlError(
                f"{link.path}: a link must be here, and this is a {found.kind}",
                f"move it away: mv {link.path} {link.path}.old",
            )
        if link.path.parent == desired.links[0].path.parent and found and found.target != link.target:
            _check_name_is_free(link, found, host)
        if found is None or found.target != link.target:
            diff = f"-{link.path} -> {found.target}\n" if found else ""
            yield MakeLink(
                "update" if found else "create",
                str(link.path),
                f"-> {link.target}",
                diff=f"{diff}+{link.path} -> {link.target}\n",
                to=link.target,
            )


def _check_name_is_free(link: Link, found: FileInfo, host: Host) -> None:
    """Two indexes of one name would take each other's units and links."""
    other = Path(found.target)
    if host.stat(other / "ppctl.yml"):
        raise PpctlError(
            f"name: another index on this machine is called {link.path.name}: {other}",
            "give this one another `name` in ppctl.yml",
        )
