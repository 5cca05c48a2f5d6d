"""The packages of an index: asked of, and changed by, its workers."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from ppctl import homes, workers
from ppctl.deployment import read_manifest
from ppctl.errors import PpctlError
from ppctl.host import Host
from ppctl.index import Index
from ppctl.server.spelling import normal
from ppctl.server.text import printable
from ppctl.workers import WorkerSilent

PATH = "/_ppctl/packages"


def projects(index: Index, host: Host, *, former: bool = False) -> list[str]:
    """Return the names of all projects; `former`: of those that were here and have no files any more.

    Raises PpctlError when no worker answers.
    """
    found: list[str] = _ask(index, host, PATH)["former" if former else "projects"]
    return found


def project(index: Index, host: Host, name: str, version: str = "") -> dict[str, Any]:
    """Return a project's `project` (normalised), `status`, `reason`, `owner` and `files`.

    `version`: only the files of this one. Raises PpctlError when there is no such project or version.
    """
    query = urlencode({"project": name, "version": version} if version else {"project": name})
    return _about(index, host, name, f"{PATH}?{query}")


def change(index: Index, host: Host, action: str, name: str, **more: str) -> tuple[bool, list[str]]:
    """Yank, unyank, remove, mark or forget. Returns whether anything changed, and the paths concerned.

    Raises PpctlError when there is no such project or version, or no worker answers.
    """
    found = _about(index, host, name, PATH, {"action": action, "project": name, **more})
    return found["changed"], found["files"]


def _about(
    index: Index, host: Host, name: str, url: str, data: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Ask about a project; where there is none, say what may have been meant."""
    try:
        return _ask(index, host, url, data)
    except PpctlError as e:
        if e.hint or e.message != f"there is no project {normal(name)}":
            raise
        close = difflib.get_close_matches(normal(name), projects(index, host), n=3)
        meant = f"did you mean {printable(' or '.join(close))}? " if close else ""
        raise PpctlError(
            e.message, f"{meant}`{homes.command(index.home, 'packages list')}` lists them"
        ) from e


def _ask(index: Index, host: Host, url: str, data: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Ask the first worker that answers. What has been sent to one that broke off is not sent to another."""
    run = index.layout.run
    sockets = sorted(name for name in host.list(run) if name.startswith("worker-") and name.endswith(".sock"))
    for name in sockets:
        try:
            return workers.ask(run / name, url, data)
        except WorkerSilent as e:
            why = e.__cause__
            if isinstance(why, PermissionError):
                raise PpctlError(f"{run / name}: {why.strerror}", "sudo, or the index's account") from e
            if data is not None and not isinstance(why, ConnectionRefusedError | FileNotFoundError):
                raise
    again = "start" if read_manifest(host, index.layout).deployments else "up"
    raise PpctlError("no worker of the index is running", f"start them: {homes.command(index.home, again)}")
