"""`ppctl up` and `ppctl plan`: from settings to a running index."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from ppctl import desired as desired_module
from ppctl import facts, homes, index, plan, ports, releases, sample, users, verified
from ppctl.changes import Change
from ppctl.deployment import read_manifest
from ppctl.desired import Desired
from ppctl.entries import File
from ppctl.errors import EXIT_CHANGES, EXIT_OK, PpctlError, UsageError
from ppctl.host import TEMPORARY, Host
from ppctl.index import Index
from ppctl.layout import SETTINGS_NAME, Layout
from ppctl.machine import Machine
from ppctl.output import Output
from ppctl.settings import ManagerName


def init(host: Host, out: Output, home: Path, values: dict[str, object], *, keep: bool) -> int:
    """Write a commented `ppctl.yml` with `values` set. With `keep` an existing one that says so is fine.

    But one that says something else than `values` is not: if it is as `init` wrote it and was never used,
    it is written anew. Raises UsageError for values that are not accepted, PpctlError when there is one.
    """
    layout = Layout(home)
    from ppctl import settings

    asked = settings.from_data(values, "ppctl init")
    index.check_home(host, home)
    content = host.read(layout.settings)
    again = homes.command(home, "up")
    if content is not None:
        if not keep:
            raise PpctlError(f"{layout.settings}: there is one already", f"edit it, then run: {again}")
        found = settings.load(layout.settings, content)
        differs = [key for key in values if getattr(found, key) != getattr(asked, key)]
        if not differs:
            out.progress(f"{layout.settings} is there already and stays as it is")
            return out.result({"path": layout.settings, "changed": False})
        values = _as_written(content) | values
        if host.read(layout.manifest) is not None or sample.text(_as_written(content)).encode() != content:
            raise PpctlError(
                f"{layout.settings}: there is one already, with another `{differs[0]}`",
                f"set `{differs[0]}: {values[differs[0]]}` in it, then run: {again}",
            )
    make_home(host, home)
    host.write(layout.settings, sample.text(values).encode(), mode=0o640)
    out.info(f"wrote {layout.settings}; next: {again}")
    return out.result({"path": layout.settings, "changed": True})


def _as_written(content: bytes) -> dict[str, object]:
    """Return what valid settings set, as plain data."""
    import yaml

    return dict(yaml.safe_load(content) or {})


def make_home(host: Host, home: Path) -> None:
    """Make the directory of a new index, closed to others."""
    if host.stat(home) is None:
        host.make_directory(home, mode=0o750)


def load_or_new(host: Host, home: Path, given: bytes | None = None) -> tuple[Index, bool]:
    """Return the index at `home`, and whether it is a new one without a `ppctl.yml`.

    `given`: the content that its `ppctl.yml` is to have, instead of what is there. An empty or missing
    directory is a new index with default settings; one with other things in it is more likely a mistyped
    home, and refused.
    """
    index.check_home(host, home)
    layout = Layout(home)
    is_new = host.stat(layout.settings) is None and not _holds_something(home, host)
    if given is None:
        return (index.with_settings(host, home, b""), True) if is_new else (index.load(host, home), False)
    if not is_new and not host.stat(layout.settings) and not layout.is_ours(host.list(home)):
        raise UsageError(
            f"{home}: there are other things in this directory, and nothing of an index",
            "choose another path with -C",
        )
    return index.with_settings(host, home, given), is_new


def _holds_something(home: Path, host: Host) -> bool:
    """Whether there is more than what another `ppctl up` has begun with, or was killed at."""
    return any(name != Layout(home).lock.name and not TEMPORARY.fullmatch(name) for name in host.list(home))


def make_plan(found: Index, machine: Machine, given: bytes | None = None) -> plan.Plan:
    """Return the plan for the index; with `given` it writes that as `ppctl.yml`.

    Raises PpctlError when the machine cannot run it.
    """
    desired = desired_module.build(found, facts.find(found, machine.host))
    _check_port(desired, found, machine)
    settings = None
    if given is not None:
        settings = File(found.layout.settings, given, index.FILE_MODE, found.owner, found.group(machine.host))
    return plan.make(found, desired, machine, settings)


def _check_port(desired: Desired, found: Index, machine: Machine) -> None:
    """Raise PpctlError if somebody else has the port; it is no obstacle that the index itself has it."""
    wanted = desired.deployment
    known = {wanted, *read_manifest(machine.host, found.layout).deployments}
    # What the workers say is how it is; what the manifest says may only have been on its way.
    held = {report.unit.partition("/")[0] for each in known for report in machine.reports(each).values()}
    if not held:
        held = {each.address for each in known if machine.manager_of(each).holds_socket()}
    if not any(ports.overlap(address, wanted.address) for address in held):
        machine.check_port(wanted.host, wanted.port)


def up(
    home: Path,
    machine: Machine,
    *,
    dry_run: bool,
    exit_code: bool,
    wait: bool,
    first_user: str | None = None,
    given: bytes | None = None,
    before: Sequence[Change] = (),
) -> int:
    """Bring the index at `home` to its settings; returns the exit code.

    `dry_run` only shows the plan; with `exit_code` that is 2 when there are changes. `first_user` is
    created with a generated password unless there is a user. `given`: what its `ppctl.yml` is to be; it is
    written as a part of the plan, so settings that cannot work never reach the disk. `before`: what was
    changed for it already, to be told with the rest.
    """
    host, out = machine.host, machine.out
    if first_user is not None:
        users.check_name(first_user)
    found, is_new = load_or_new(host, home, given)
    if dry_run:
        made = make_plan(found, machine, given)
        is_verified = _is_verified(found, host, made.desired)
        is_new = is_new and given is None
        return show(made, is_new, home, out, exit_code=exit_code, is_verified=is_verified)
    index.require_access(found, host)
    if is_new:
        make_plan(found, machine, given)  # where it cannot work, not even the home is made
        make_home(host, home)
    with host.lock(found.layout.lock, purpose="ppctl up", wait=wait):
        is_first = not releases.current(found.layout, host)  # also when an earlier one has failed
        found, desired, changes = _bring_about(found, machine, given)
    password = users.ensure_first_user(found, host, first_user) if first_user else None
    made_user = {"name": first_user, "password": password} if first_user and password else None
    _tell(found, changes, out)
    if made_user:
        out.text(f"\nfirst user: {first_user}\npassword:   {password}   (shown only now)")
    if made_user or is_first:
        _tell_next(found, machine, made_user["name"] if made_user else "")
    if is_first:
        _tell_of_supervisord(found, desired, machine)
    return out.result(_data(found, host, desired, [*before, *changes], made_user))


def _bring_about(found: Index, machine: Machine, given: bytes | None) -> tuple[Index, Desired, list[Change]]:
    """Apply what there is to apply. Returns the index as it is now, what was asked for, and the changes."""
    host = machine.host
    if given is None:
        if host.stat(found.layout.settings) is None:
            host.write(found.layout.settings, sample.text({}).encode(), mode=0o640)
        found = index.load(host, found.home)  # it may have changed while we waited
    made = make_plan(found, machine, given)
    changes = _apply(made, machine)
    if changes:
        # A worker that did not answer while the plan was made may turn out to run what an interrupted
        # `up` had left loaded in its manager.
        changes += _apply(make_plan(index.load(host, found.home), machine), machine)
    return found, made.desired, changes


def _is_verified(found: Index, host: Host, desired: Desired) -> bool:
    return verified.is_verified(found, host, desired.generation, desired.release.id)


def _data(
    found: Index, host: Host, desired: Desired, changes: list[Change], made_user: Mapping[str, str] | None
) -> dict[str, object]:
    """Return what programs are told of an `up`."""
    return {
        "changed": bool(changes),
        "changes": [change.to_data() for change in changes],
        "verified": _is_verified(found, host, desired),
        "home": found.home,
        "url": found.settings.url,
        "simple_url": found.settings.simple_url,
        **({"first_user": made_user} if made_user else {}),
    }


def show(
    made: plan.Plan, is_new: bool, home: Path, out: Output, *, exit_code: bool, is_verified: bool
) -> int:
    """Print the plan as `up` would apply it, with unified diffs."""
    if is_new:
        out.text(f"create   {home / SETTINGS_NAME}  (the default settings)")
    for interruption in made.interruptions:
        out.warn(interruption)
    for change in made.visible:
        out.text(plan.describe(change))
        if change.diff:
            out.text(_coloured(change.diff.rstrip("\n"), out))
    if not made.visible:
        out.text("nothing to change")
    changes = [change.to_data() for change in made.visible]
    data = {
        "changed": bool(changes),
        "changes": changes,
        "settled": not made.changes,
        "verified": is_verified,
        "dry_run": True,
    }
    return out.result(data, exit_code=EXIT_CHANGES if exit_code and made.visible else EXIT_OK, ok=True)


def _coloured(diff: str, out: Output) -> str:
    styles = {"+": "good", "-": "bad", "@": "dim"}
    lines = diff.splitlines()
    return "\n".join(
        "    " + (out.style(line, styles[line[0]]) if line[:1] in styles else line) for line in lines
    )


def _apply(made: plan.Plan, machine: Machine) -> list[Change]:
    """Apply the plan, having said what it interrupts. Returns the changes."""
    for interruption in made.interruptions:
        machine.out.warn(interruption)
    plan.apply(made, machine)
    return made.visible


def _tell(found: Index, changes: list[Change], out: Output) -> None:
    if changes:
        out.info(f"index {found.settings.name} is up: {found.settings.url}")
    else:
        out.info(f"nothing to change: index {found.settings.name} is as {found.layout.settings} says")


def _tell_next(found: Index, machine: Machine, user: str) -> None:
    from ppctl.clients import entry_of, next_steps

    out = machine.out
    out.info("\nwhat to type next:")
    if found.settings.login and not users.users(found, machine.host):
        out.info(f"  {homes.command(found.home, 'adduser', 'USER')}")
    for line in next_steps(entry_of(found.settings, user)):
        out.info(f"  {line}")


def _tell_of_supervisord(found: Index, desired: Desired, machine: Machine) -> None:
    """Say it when the machine's supervisord would be away for long: its unit is not ours to change."""
    if not found.is_system or desired.deployment.manager is not ManagerName.SUPERVISOR:
        return
    from ppctl.checks import programs

    late = ""
    with contextlib.suppress(PpctlError):  # the index is up; doctor tells what cannot be asked
        late = programs.late_restart(programs.supervisor_unit(machine.host)[1])
    if late:
        machine.out.warn(late)
        machine.out.hint(f"{homes.command(found.home, 'doctor')} says how to change that")
