"""`ppctl wheelhouse`: what hosts without internet install from, built on the controller."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

from ppctl import __version__, releases, wheelhouse
from ppctl.errors import PpctlError, UsageError
from ppctl.host import Host
from ppctl.output import Output
from ppctl.wheelhouse import Source, Target


def build(
    folder: Path,
    host: Host,
    out: Output,
    *,
    pythons: Sequence[str],
    platforms: Sequence[str],
    glibc: int,
    source: Source,
) -> int:
    """Build the wheelhouse in `folder`, replacing an older one as a whole. Returns the exit code."""
    targets = [
        Target(python, machine, glibc) for machine in platforms or [platform.machine()] for python in pythons
    ]
    _check(folder, targets, host)
    new = folder.with_name(f".{folder.name}.new")
    host.remove_tree(new)
    host.make_directory(new, mode=0o755)
    try:
        digest, names = _fill(new, targets, source, host, out)
        _replace(folder, new, host)
    except BaseException:
        host.remove_tree(new)
        raise
    out.info(f"{folder}: ppctl {__version__} and all it needs, {len(names)} files")
    out.info(f"for Python {', '.join(pythons)}; on the hosts: ppctl_host_wheelhouse: {folder}")
    return out.result({"path": folder, "ppctl": __version__, "digest": digest, "files": names})


def _fill(
    new: Path, targets: Sequence[Target], source: Source, host: Host, out: Output
) -> tuple[str, list[str]]:
    wheelhouse.own_wheel(new)
    out.progress("resolving what ppctl needs")
    lock = new / wheelhouse.LOCK
    oldest = min((target.python for target in targets), key=_version)
    host.write(lock, wheelhouse.lock(host, new, oldest, source).encode(), mode=0o644)
    server_lock = releases.SERVER_SOURCE / releases.CACHE_LOCK  # everything of the other, too
    for target in targets:
        out.progress(f"downloading wheels for Python {target.python} on {target.platform}")
        wheelhouse.download(host, target, [lock, server_lock], new, source)
    versions = (host.read(lock) or b"").decode()
    host.write(lock, wheelhouse.with_hashes(versions, new).encode(), mode=0o644)
    names = host.list(new)
    digest = wheelhouse.digest_of(new / name for name in names)
    host.write(new / wheelhouse.ARCHIVE, wheelhouse.archive(new, names), mode=0o644)
    host.write(new / wheelhouse.MANIFEST, wheelhouse.manifest(targets, names, digest), mode=0o644)
    return digest, names


def _check(folder: Path, targets: Sequence[Target], host: Host) -> None:
    for target in targets:
        parts = target.python.split(".")
        if len(parts) != 2 or not all(part.isdigit() for part in parts):
            raise UsageError(f"--python {target.python}: expected versions such as 3.11,3.13")
        if _version(target.python) < (3, 10):
            raise UsageError(f"--python {target.python}: ppctl and the server need 3.10 or newer")
    there = host.list(folder)
    if there and wheelhouse.MANIFEST not in there:
        raise PpctlError(
            f"{folder}: there are other things in this directory", "choose a new or an empty directory"
        )


def _version(python: str) -> tuple[int, ...]:
    return tuple(map(int, python.split(".")))


def _replace(folder: Path, new: Path, host: Host) -> None:
    """Put `new` in place of `folder`; whoever looks meanwhile finds none rather than half of one."""
    old = folder.with_name(f".{folder.name}.old")
    host.remove_tree(old)
    if host.stat(folder):
        folder.rename(old)
    new.rename(folder)
    host.remove_tree(old)
