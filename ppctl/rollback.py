"""Going back: workers that do not come up with new files get the ones of before."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ppctl import releases
from ppctl.deployment import Deployment
from ppctl.errors import PpctlError
from ppctl.host import Host
from ppctl.layout import Layout
from ppctl.machine import Machine


@dataclass(frozen=True)
class StartFiles:
    """What a worker is started from."""

    contents: dict[Path, bytes | None]
    release: str


def start_files(layout: Layout, host: Host) -> StartFiles:
    """Return what workers are started from now."""
    contents = {path: host.read(path) for path in (layout.run_script, layout.server_config)}
    return StartFiles(contents, releases.current(layout, host))


def roll_back(
    before: StartFiles, deployment: Deployment, numbers: Sequence[int], machine: Machine, prefix: str
) -> bool:
    """Start the workers `numbers` again from the files of `before`. Returns whether that worked."""
    known = bool(before.release) and None not in before.contents.values()
    if not known or before == start_files(deployment.layout, machine.host):
        return False  # there was nothing before, or an interrupted `up` has replaced it already
    with contextlib.suppress(PpctlError):
        _restore(before, deployment.layout, machine.host)
        for number in numbers:
            machine.restart_worker(deployment, number, prefix=prefix)
        return True
    return False


def _restore(before: StartFiles, layout: Layout, host: Host) -> None:
    for path, content in before.contents.items():
        found = host.stat(path)
        if content is not None and found and host.read(path) != content:
            host.write(path, content, mode=found.mode, owner=found.owner, group=found.group)
    host.link(layout.current, before.release)
