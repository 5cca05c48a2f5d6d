"""The package commands: what people and programs are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ppctl import packages, users
from ppctl.errors import PpctlError
from ppctl.host import Host
from ppctl.index import Index
from ppctl.output import Output, counted
from ppctl.server.permissions import check_pattern
from ppctl.server.spelling import normal
from ppctl.server.text import printable
from ppctl.server.upstream import is_private


def list_packages(index: Index, host: Host, out: Output, name: str | None, *, former: bool = False) -> int:
    """Show all projects (`former`: those that were here), or the files of one. Returns the exit code."""
    if name is None:
        names = packages.projects(index, host, former=former)
        for each in names:
            out.text(printable(each))
        return out.result({"former" if former else "projects": names})
    found = packages.project(index, host, name)
    if found["status"] != "active":
        out.info(f"{printable(found['project'])} is {found['status']}{_because(found['reason'])}")
    rows = [
        [printable(file["path"]), printable(file["version"]), str(file["size"]), _yanked(file["yanked"])]
        for file in found["files"]
    ]
    out.table(["file", "version", "bytes", "yanked"], rows)
    return out.result(found)


def yank(index: Index, host: Host, out: Output, name: str, version: str, *, reason: str) -> int:
    """Yank a version. Returns the exit code."""
    changed, files = packages.change(index, host, "yank", name, version=version, reason=reason)
    what = f"{printable(name)} {printable(version)}"
    out.info(
        f"yanked {what}{_because(reason)}: only installed where it is asked for by this very version"
        if changed
        else f"{what} is yanked already, for this reason"
    )
    return out.result({"changed": changed, "files": files})


def unyank(index: Index, host: Host, out: Output, name: str, version: str) -> int:
    """Take a yank back. Returns the exit code."""
    changed, files = packages.change(index, host, "unyank", name, version=version)
    what = f"{printable(name)} {printable(version)}"
    out.info(f"{what} is no longer yanked" if changed else f"{what} was not yanked")
    return out.result({"changed": changed, "files": files})


def status(index: Index, host: Host, out: Output, name: str, value: str, *, reason: str) -> int:
    """Say what a project's status is. Returns the exit code."""
    changed, files = packages.change(index, host, "status", name, status=value, reason=reason)
    out.info(f"{printable(name)} is {value}{'' if changed else ' already'}{_because(reason)}")
    return out.result({"changed": changed, "files": files})


def owner(index: Index, host: Host, out: Output, name: str, user: str | None, *, nobody: bool) -> int:
    """Say who owns a project, or make somebody its owner. Returns the exit code."""
    changed, already = False, ""
    if user is not None:
        users.find(index, host, user)
    if user is not None or nobody:
        changed, _ = packages.change(index, host, "owner", name, user=user or "")
        already = "" if changed else " already"
    else:
        user = packages.project(index, host, name)["owner"]
    out.info(f"{printable(name)} belongs to {printable(user or 'nobody')}{already}")
    if changed and not index.settings.ownership:
        out.warn("it counts with `ownership: true` in ppctl.yml")
    return out.result({"changed": changed, "project": name, "owner": user})


def remove(
    index: Index, host: Host, out: Output, name: str, version: str, *, confirm: Callable[[str], bool]
) -> int:
    """Remove the files of a version, for good. Returns the exit code."""
    going = packages.project(index, host, name, version)["files"]
    what = f"{printable(name)} {printable(version)} ({counted(len(going), 'file')})"
    if not confirm(f"remove {what} for good (to hide it, yank it)?"):
        raise PpctlError("nothing was removed", "to go on without being asked: --yes")
    there = packages.project(index, host, name)["files"]
    changed, files = packages.change(index, host, "remove", name, version=version)
    _say_removed(out, files, left=len(there) - len(files), name=name)
    return out.result({"changed": changed, "files": files})


def forget(index: Index, host: Host, out: Output, name: str, *, confirm: Callable[[str], bool]) -> int:
    """Let a name that was here be looked for upstream again. Returns the exit code."""
    if not confirm(f"may {printable(name)} come from another index from now on?"):
        raise PpctlError("nothing was changed", "to go on without being asked: --yes")
    changed, _ = packages.change(index, host, "forget", name)
    if changed:
        out.info(f"{printable(name)} is forgotten: `upstream` in ppctl.yml says where it may come from")
    else:
        out.info(f"{printable(name)} was never here")
    if is_private(normal(name), map(check_pattern, index.settings.private)):
        out.warn(f"{printable(name)} is private all the same (`private` in ppctl.yml)")
    return out.result({"changed": changed, "files": []})


def _say_removed(out: Output, files: Sequence[str], *, left: int, name: str) -> None:
    for path in files:
        out.info(f"removed {printable(path)}")
    if left == 0:
        out.info(f"{printable(name)} has no files any more")
    else:
        out.info(f"{printable(name)} has {counted(left, 'file')} left")


def _because(reason: str) -> str:
    return f" ({printable(reason)})" if reason else ""


def _yanked(reason: str | None) -> str:
    return "-" if reason is None else printable(reason) or "yes"
