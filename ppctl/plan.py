"""The plan: the ordered list of changes from state to settings. `--dry-run` shows what `apply` would do.

The order is such that an interruption at any point leaves an index that works: what nobody uses yet
comes first (directories, release), then the files that workers start from, then the manager, then the
workers one by one, and last what nobody uses any more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ppctl import plan_files, plan_processes, releases, rollback
from ppctl.changes import (
    BuildRelease,
    Change,
    CreateAccount,
    LeaveCache,
    LeaveDeployment,
    LoadManager,
    RemovePath,
    RemoveReleases,
    RestartWorker,
    WriteManifest,
)
from ppctl.deployment import Manifest, read_manifest
from ppctl.desired import Desired
from ppctl.entries import File
from ppctl.host import Host
from ppctl.index import Index
from ppctl.machine import Machine, WorkerFailed


@dataclass(frozen=True)
class Plan:
    """The changes that bring about `desired`, in order."""

    desired: Desired
    changes: tuple[Change, ...]
    prefix: str = ""

    @property
    def visible(self) -> list[Change]:
        """The changes in the index: all but ppctl's own records."""
        return [change for change in self.changes if not change.bookkeeping]

    @property
    def interruptions(self) -> list[str]:
        """What cannot be done without a moment's refusal."""
        return [change.interrupts for change in self.changes if change.interrupts]


def make(index: Index, desired: Desired, machine: Machine, settings: File | None = None) -> Plan:
    """Return the plan for `index` on `machine`; nothing is changed.

    `settings`: the `ppctl.yml` to write, where it is not the operator who does. It comes behind the
    release, so that a release that cannot be built leaves the index and its settings as they were.
    """
    host, layout = machine.host, index.layout
    manifest = read_manifest(host, layout)
    prefix = index.settings.url_prefix
    files = list(plan_files.files(desired.files, host))
    leave = list(_leave(manifest, desired, host))
    situation = plan_processes.Situation(
        prefix, plan_processes.touches_manager(files, desired), plan_processes.moves(leave)
    )
    changes: list[Change] = [
        *_account(desired, host),
        *plan_files.directories(desired.directories, host),
        *_leftovers(manifest, desired, host),
        *_manifest_before(index, manifest, desired, host),
        *_release(index, desired, host),
        *plan_files.files([settings] if settings else [], host),
        *files,
        *plan_files.links(desired, host),
        *leave,
        *plan_processes.workers(desired, machine, situation),
        *plan_processes.cache(desired, machine, situation),
        *_leave_cache(manifest, desired, host),
        *_old_sockets(desired, host),
        *_old_releases(index, desired, host),
        *_manifest_after(index, desired, host),
    ]
    return Plan(desired, tuple(changes), prefix)


def apply(plan: Plan, machine: Machine) -> None:
    """Execute the plan. Raises PpctlError; the index then runs what it ran before, or can be mended by `up`.

    If a worker does not come up with the new release or settings, all are brought back with the old ones.
    """
    deployment = plan.desired.deployment
    before = rollback.start_files(deployment.layout, machine.host)
    done: list[Change] = []
    for change in plan.changes:
        if not change.bookkeeping:
            machine.out.progress(describe(change))
        done.append(change)
        try:
            change.apply(machine)
        except WorkerFailed as e:
            if rollback.roll_back(before, deployment, _started(done), machine, plan.prefix):
                e.message += "\nthe workers were brought back with the settings and the release of before"
            raise
    if plan.visible:
        machine.wait_public(deployment, plan.prefix)


def _started(done: list[Change]) -> list[int]:
    """Return the workers that were started with the new files, the latest first."""
    numbers: list[int] = []
    for change in reversed(done):
        if isinstance(change, RestartWorker):
            numbers.append(change.number)
        elif isinstance(change, LoadManager):
            numbers += change.wait_for
    return list(dict.fromkeys(numbers))


def describe(change: Change) -> str:
    """Return one line for people."""
    text = f"{change.action:8} {change.target}"
    return f"{text}  ({change.summary})" if change.summary else text


# -- what is on disk ---------------------------------------------------------------------------------


def _leftovers(manifest: Manifest, desired: Desired, host: Host) -> Iterator[Change]:
    """Remove the temporary files of a ppctl that was killed in the midst of writing."""
    layout = desired.deployment.layout
    places = {layout.home, layout.releases, *(path.parent for path in manifest.paths | _paths(desired))}
    for place in sorted(places):
        for path in host.leftovers(place):
            yield RemovePath("remove", str(path), "left behind by a killed ppctl", bookkeeping=True)


def _account(desired: Desired, host: Host) -> Iterator[Change]:
    if desired.account and not host.account_exists(desired.account):
        home = desired.deployment.home
        yield CreateAccount("create", desired.account, "service account", home=home)


def _release(index: Index, desired: Desired, host: Host) -> Iterator[Change]:
    release = desired.release
    if not releases.is_complete(release.id, index.layout, host):
        yield BuildRelease(
            "build",
            str(release.path(index.layout)),
            release.describe(),
            diff=f"+release {release.id}: {release.describe()}\n",
            release=release,
            layout=index.layout,
        )


def _old_sockets(desired: Desired, host: Host) -> Iterator[Change]:
    """Workers leave their sockets behind; those of workers that are no more would be asked for ever."""
    run = desired.deployment.layout.run
    wanted = {desired.deployment.layout.worker_socket(number).name for number in desired.deployment.numbers}
    for name in host.list(run):
        if re.fullmatch(r"worker-\d+\.sock", name) and name not in wanted:
            yield RemovePath("remove", str(run / name), bookkeeping=True)


def _old_releases(index: Index, desired: Desired, host: Host) -> Iterator[Change]:
    keep = index.settings.server.keep_releases
    old = releases.superfluous(index.layout, host, wanted=desired.release.id, keep=keep)
    if old:
        paths = tuple(index.layout.releases / name for name in old)
        yield RemoveReleases("remove", ", ".join(map(str, paths)), "old releases", paths=paths)


# -- what ppctl has made -------------------------------------------------------------------------------


def _paths(desired: Desired) -> frozenset[Path]:
    """Return what `destroy`, and a change of name, manager or mode, has to remove outside and inside."""
    return frozenset(
        [file.path for file in desired.files if not file.lock] + [link.path for link in desired.links]
    )


def _manifest_before(index: Index, found: Manifest, desired: Desired, host: Host) -> Iterator[Change]:
    others = tuple(d for d in found.deployments if not d.same_processes(desired.deployment))
    manifest = Manifest((*others, desired.deployment), found.paths | _paths(desired))
    yield from _manifest_change(index, manifest, host)


def _manifest_after(index: Index, desired: Desired, host: Host) -> Iterator[Change]:
    yield from _manifest_change(index, Manifest((desired.deployment,), _paths(desired)), host)


def _manifest_change(index: Index, manifest: Manifest, host: Host) -> Iterator[Change]:
    path = index.layout.manifest
    if host.read(path) != manifest.to_bytes(index.home):
        yield WriteManifest("record", str(path), bookkeeping=True, manifest=manifest, owner=index.owner)


def _leave(manifest: Manifest, desired: Desired, host: Host) -> Iterator[Change]:
    stale = sorted(path for path in manifest.paths - _paths(desired) if host.stat(path))
    kept = _cache_paths(stale, desired)  # for `_leave_cache`, unless all processes are left
    for old in manifest.deployments:
        if old.same_processes(desired.deployment):
            continue
        what = f"{old.name} under {old.manager.value} ({old.mode.value})"
        yield LeaveDeployment(
            "leave",
            what,
            "stopped, its files removed",
            diff="".join(f"-{path}\n" for path in stale),
            interrupts=f"connections are refused for a few seconds: the index moves away from {what}",
            deployment=old,
            paths=tuple(stale),
        )
        stale = []
    for path in sorted(set(stale) - set(kept)):
        yield RemovePath("remove", str(path), "no longer used", diff=f"-{path}\n")


def _cache_paths(paths: Iterable[Path], desired: Desired) -> list[Path]:
    """Return which of these are files and links of the cache program."""
    layout = desired.deployment.layout
    own = (layout.cache_script, layout.cache_config, layout.supervisor_cache)
    return [path for path in paths if path in own or path.stem.endswith("_cache")]


def _leave_cache(manifest: Manifest, desired: Desired, host: Host) -> Iterator[Change]:
    layout = desired.deployment.layout
    stale = [path for path in manifest.paths - _paths(desired) if host.stat(path)]
    mine = _cache_paths(stale, desired)
    if not desired.deployment.cache and (mine or host.stat(layout.cache)):
        yield LeaveCache(
            "leave",
            str(layout.cache),
            "the cache program is stopped, what it has fetched is removed",
            diff="".join(f"-{path}\n" for path in sorted({layout.cache, *mine})),
            deployment=desired.deployment,
            paths=tuple(mine),
        )
