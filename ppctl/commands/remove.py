"""`ppctl down` and `ppctl destroy`."""

from __future__ import annotations

from pathlib import Path

from ppctl import homes, index
from ppctl.deployment import Manifest, read_manifest
from ppctl.errors import PpctlError
from ppctl.index import Index
from ppctl.layout import Layout
from ppctl.machine import Machine


def down(asked: Index, machine: Machine, *, wait: bool) -> int:
    """Stop the index and make its manager forget it, so that it does not come back at boot.

    The home stays as it is. Returns the exit code.
    """
    with index.locked(asked, machine.host, purpose="ppctl down", wait=wait) as found:
        changed = take_down(found, machine)
    again = homes.command(asked.home, "up")
    machine.out.info(f"down; `{again}` brings it back" if changed else "nothing to do: it is down")
    return machine.out.result({"changed": changed})


def take_down(found: Index, machine: Machine) -> bool:
    """Stop every deployment and make its manager forget it; returns whether there was one."""
    manifest = read_manifest(machine.host, found.layout)
    left = _leave(found, manifest, machine)
    if manifest.deployments:
        rest = Manifest((), left)
        found.write(machine.host, found.layout.manifest, rest.to_bytes(found.home))
    return bool(manifest.deployments)


def _leave(found: Index, manifest: Manifest, machine: Machine) -> frozenset[Path]:
    """Stop every deployment and make its manager forget it; returns what is left of what `up` has made."""
    host = machine.host
    outside = {path for path in manifest.paths if not path.is_relative_to(found.home)}
    registered = {path for path in outside if path.parent == homes.register_of(found.settings.mode)}
    for deployment in manifest.deployments:
        machine.out.progress(f"stop     {deployment.name} under {deployment.manager.value}")
        manager = machine.manager_of(deployment)
        manager.unload()
        for path in sorted(outside - registered):
            host.remove(path)
        manager.forget()
    return manifest.paths - (outside - registered)


def destroy(found: Index, machine: Machine, *, confirmed: bool, purge: bool, wait: bool) -> int:
    """Take the index down and remove what ppctl made in its home; packages only with `purge`.

    Files that are not ppctl's stay. Returns the exit code. Raises PpctlError unless `confirmed`.
    """
    host, layout = machine.host, found.layout
    if not confirmed:
        raise PpctlError("nothing was removed", "to go on without being asked: --yes")
    with host.lock(layout.lock, purpose="ppctl destroy", wait=wait):
        manifest = read_manifest(host, layout)
        _leave(found, manifest, machine)  # nothing is written: the disk may be full, and this makes room
        for path in manifest.paths:
            host.remove(path)
        for path in [*host.leftovers(layout.home), *_own_paths(layout, purge=purge)]:
            entry = host.stat(path)
            if entry:
                machine.out.progress(f"remove   {path}")
                host.remove_tree(path) if entry.kind == "directory" else host.remove(path)
        left = [name for name in host.list(layout.home) if name != layout.lock.name]
        # Its lock last, and still held: nobody begins with a new index in what goes.
        host.remove(layout.lock) if left else host.remove_tree(layout.home)
    machine.out.info(f"destroyed {layout.home}" + (f"; left there: {', '.join(left)}" if left else ""))
    return machine.out.result({"changed": True, "left": left})


def what_goes(found: Index, *, purge: bool) -> str:
    """Return the question that `destroy` asks."""
    packages = "and every package" if purge else "but keep the packages"
    return f"Stop index {found.settings.name}, remove {found.home} with users, logs and settings, {packages}?"


def _own_paths(layout: Layout, *, purge: bool) -> list[Path]:
    """Return what ppctl makes in a home; the settings last: until they are gone, `destroy` can go on."""
    return [
        *(layout.releases, layout.run, layout.logs, layout.client_files, layout.run_script),
        *(layout.server_config, layout.supervisor_program, layout.supervisord_conf),
        *(layout.cache, layout.cache_script, layout.cache_config, layout.supervisor_cache),
        *(layout.htpasswd, layout.permissions, layout.audit_log, layout.users_lock),
        *(layout.verified, layout.manifest),
        *([layout.packages] if purge else []),
        layout.settings,
    ]
