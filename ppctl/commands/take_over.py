"""`ppctl take-over`: from a server that was made by hand to an index, with its packages and users.

What takes time, or may fail, comes while the old server still answers: the release and the first copy.
Then the old one is ended, what came in meanwhile is copied, and `ppctl up` starts the index. Where that
fails, the old server is started again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ppctl import index, plan
from ppctl.changes import BuildRelease, Change, CreateAccount, MakeDirectory, WriteFile, WriteManifest
from ppctl.commands import remove
from ppctl.commands import up as engine
from ppctl.deployment import Deployment, read_manifest
from ppctl.errors import PpctlError, UsageError
from ppctl.host import Host
from ppctl.index import Index
from ppctl.machine import Machine
from ppctl.managers import Manager, handmade, supervisor
from ppctl.managers.handmade import SUFFIX, Handmade
from ppctl.output import counted
from ppctl.server import htpasswd
from ppctl.server.text import printable

PACKAGE_MODE = 0o644
PREPARING = (CreateAccount, MakeDirectory, BuildRelease)
"""The changes of `up` that disturb nobody: they are made while the old server still answers."""


@dataclass(frozen=True)
class Old:
    """The old server: its program (None: there is none of that name), its packages and users."""

    name: str
    program: Handmade | None
    packages: Path
    htpasswd: Path | None = None


@dataclass(frozen=True, kw_only=True)
class CopyPackages(Change):
    """Copy packages that are not there yet, or not like this."""

    source: Path
    owner: str | None = None
    group: str | None = None

    def apply(self, machine: Machine) -> None:
        host = machine.host
        for path, goal in missing(self.source, Path(self.target), host):
            for left in host.leftovers(goal.parent):
                host.remove(left)
            # The old server, or the workers' account, may write there: root does not follow where they lead.
            host.copy_file(
                path,
                goal,
                mode=PACKAGE_MODE,
                owner=self.owner,
                group=self.group,
                within=(self.source, Path(self.target)),
            )


@dataclass(frozen=True, kw_only=True)
class EndHandmade(Change):
    """End the old server, take over what it has stored to the last, and make its manager forget it."""

    program: Handmade
    rest: CopyPackages

    def apply(self, machine: Machine) -> None:
        try:
            self.program.end()
            self.rest.apply(machine)
            self.program.set_aside()
        except PpctlError as e:
            bring_back(self.program, e)
            raise


def bring_back(program: Handmade, error: PpctlError) -> None:
    """Start the old server again because of `error`, and say there whether that worked."""
    try:
        program.bring_back()
    except PpctlError as e:
        error.message += f"\nand the old server could not be started again: {e.message}"
    else:
        error.message += "\nthe old server was started again"


def take_over(
    home: Path,
    machine: Machine,
    old: Old,
    *,
    given: bytes | None,
    dry_run: bool,
    exit_code: bool,
    wait: bool,
) -> int:
    """Replace the old server by the index at `home`; returns the exit code.

    Without its program, an index that is deployed has taken it over before: then this is `ppctl up`.
    Raises PpctlError; the old server then runs as before, or runs again.
    """
    host = machine.host
    found, is_new = engine.load_or_new(host, home, given)
    if not found.is_system:
        raise UsageError(
            f"{home}: an index in embedded mode cannot take over a server of the machine's",
            f"ppctl init {home} --system"
            if is_new
            else f"set `mode: system` in {found.layout.settings}, or choose another HOME",
        )
    if not dry_run:
        index.require_access(found, host)
    if old.program is None:
        _require_deployed(old, found, host)
        return engine.up(home, machine, dry_run=dry_run, exit_code=exit_code, wait=wait, given=given)
    made, changes = _plan(old, old.program, found, machine, given)
    if dry_run:
        whole = plan.Plan(made.desired, (*_preparing(made), *changes, *_rest(made)))
        return engine.show(whole, False, home, machine.out, exit_code=exit_code, is_verified=False)
    if is_new:
        engine.make_home(host, home)
    with host.lock(found.layout.lock, purpose="ppctl take-over", wait=wait):
        visible = _leave(old, old.program, found, machine, given)
    try:
        return engine.up(
            home, machine, dry_run=False, exit_code=exit_code, wait=wait, given=given, before=visible
        )
    except PpctlError as e:
        if not machine.reports(made.desired.deployment):
            remove.take_down(found, machine)
            bring_back(old.program, e)
        raise


def _plan(
    old: Old, program: Handmade, found: Index, machine: Machine, given: bytes | None
) -> tuple[plan.Plan, list[Change]]:
    """Return the plan of `up` as it will be without the old server, and the changes that end that."""
    made = engine.make_plan(found, _without(program, machine), given)
    return made, list(_changes(old, program, found, machine))


def _leave(old: Old, program: Handmade, found: Index, machine: Machine, given: bytes | None) -> list[Change]:
    """Take over from the old server and end it. Returns the changes."""
    if machine.host.stat(program.configuration) is None:
        return []  # whoever was waited for has done so: what has its name now may be the index
    made, changes = _plan(old, program, found, machine, given)
    done = [*_preparing(made), *changes]
    for change in done:
        if not change.bookkeeping:
            machine.out.progress(plan.describe(change))
        if change.interrupts:
            machine.out.warn(change.interrupts)
        change.apply(machine)
    return [change for change in done if not change.bookkeeping]


def _require_deployed(old: Old, found: Index, host: Host) -> None:
    if not read_manifest(host, found.layout).deployments:
        missing_one, hint = handmade.how_to_find(host, old.name)
        raise PpctlError(f"{missing_one}, so there is nothing to take over", hint)


def _preparing(made: plan.Plan) -> list[Change]:
    """Return the changes of the plan that disturb nobody, with the record that comes before them."""
    record = next((change for change in made.changes if isinstance(change, WriteManifest)), None)
    return [change for change in made.changes if isinstance(change, PREPARING) or change is record]


def _rest(made: plan.Plan) -> list[Change]:
    first = _preparing(made)
    return [change for change in made.changes if change not in first]


def _without(program: Handmade, machine: Machine) -> Machine:
    """Return the machine as it will be when the old server is gone: for the plan."""

    def manager(deployment: Deployment, host: Host) -> Manager:
        made = machine.manager(deployment, host)
        if isinstance(made, supervisor.Supervisor):
            made.leaving = program.name
        return made

    def check_port(address: str, port: int) -> None:
        if not program.listens(port):
            machine.check_port(address, port)

    return replace(machine, manager=manager, check_port=check_port)


def _changes(old: Old, program: Handmade, found: Index, machine: Machine) -> Iterator[Change]:
    host, layout = machine.host, found.layout
    if host.stat(old.packages) is None:
        raise PpctlError(
            f"{old.packages}: there is no such directory of packages", "say where they are: --packages"
        )
    waiting = list(missing(old.packages, layout.packages, host))
    copies = CopyPackages(
        "copy",
        str(layout.packages),
        f"{counted(len(waiting), 'file')} of {old.packages}",
        source=old.packages,
        owner=found.settings.account,
        group=found.group(host),
    )
    if waiting:
        yield copies
    content = _users_to_copy(old.htpasswd, found, host) if old.htpasswd else None
    if content is not None:
        yield WriteFile(
            "copy",
            str(layout.htpasswd),
            f"{counted(len(_names(content)), 'user')} of {old.htpasswd}",
            content=content,
            mode=index.FILE_MODE,
            owner=found.owner,
            group=found.group(host),
            lock=layout.users_lock,
        )
    lines = (host.read(program.configuration) or b"").decode("utf-8", "replace").splitlines()
    yield EndHandmade(
        "leave",
        program.label,
        f"stopped; {program.configuration} is kept as {program.configuration.name}{SUFFIX}",
        diff="".join(f"-{line}\n" for line in lines),
        interrupts="connections are refused for some seconds: the old server ends before the new one starts",
        program=program,
        rest=copies,
    )


def _users_to_copy(path: Path, found: Index, host: Host) -> bytes | None:
    """Return the old server's users, None where the index has them already.

    Raises PpctlError where it has users of its own instead: whose is right is not for us to say.
    """
    content, own = host.read(path), found.layout.htpasswd
    if content is None:
        raise PpctlError(f"{path}: there is no such file", "say where the users are: --htpasswd")
    there = host.read(own)
    if not there:
        return content
    lost = sorted(_names(content) - _names(there))
    if lost:
        names = printable(", ".join(lost))
        raise PpctlError(
            f"{own}: the index has users already, and {names} of {path} would be left out",
            f"take those of the old server: mv {own} {own}.before; or add theirs to the file,"
            " and leave out --htpasswd",
        )
    return None


def _names(content: bytes) -> set[str]:
    return set(htpasswd.users(htpasswd.parse(htpasswd.decode(content))))


def missing(source: Path, target: Path, host: Host) -> Iterator[tuple[Path, Path]]:
    """Yield the files below `source` that are not below `target`, or not of this size and time.

    Raises PpctlError for a link, which would lead away from what is copied.
    """
    for name in host.list(source):
        path, goal = source / name, target / name
        entry, there = host.stat(path), host.stat(goal)
        if entry is None:
            continue  # it has gone since
        if entry.kind == "directory":
            yield from missing(path, goal, host)
        elif entry.kind == "file":
            if there is None or (there.size, there.mtime) != (entry.size, entry.mtime):
                yield path, goal
        else:
            raise PpctlError(
                f"{path}: only files and directories are taken over, and this is a {entry.kind}",
                "put the file itself there, or move it away",
            )
