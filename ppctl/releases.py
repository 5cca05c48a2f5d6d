"""Releases: virtualenvs with exact pinned versions, and the code that the workers run.

A release's id is made of what goes into it, so the same settings give the same release everywhere. It
is complete when its `release.json` is there, which is written last; until then it is built anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from ppctl import homes, pythons
from ppctl.errors import PpctlError
from ppctl.host import Host
from ppctl.layout import Layout
from ppctl.settings import Server

MARKER = "release.json"
LOCK = "requirements.lock"
CACHE_LOCK = "requirements-cache.lock"
PACKAGE = Path(__file__).parent
SERVER_SOURCE = PACKAGE / "server"


@dataclass(frozen=True)
class Release:
    """What a release is made of. `pins` are the operator's own versions; none: the tested lock file."""

    id: str
    python: str
    lock: str
    pins: dict[str, str] = field(default_factory=dict)
    index_url: str = ""
    find_links: str = ""
    cache: bool = False

    def path(self, layout: Layout) -> Path:
        """Return the directory of the release."""
        return layout.releases / self.id

    def describe(self) -> str:
        """Return the versions in words."""
        versions = [f"{name} {version}" for name, version in versions_in(self.lock, self.pins).items()]
        return ", ".join([*versions, *(["the cache program"] if self.cache else [])])


def versions_in(lock: str, pins: dict[str, str]) -> dict[str, str]:
    """Return the versions of the packages that the workers run, from the text of a lock file and the pins."""
    locked = dict(
        line.split(" ")[0].split("==", 1) for line in lock.splitlines() if "==" in line.split(" ")[0]
    )
    return {name: pins.get(name, locked.get(name, "?")) for name in ("pypiserver", "gunicorn")}


def define(settings: Server, python: str, python_version: str, *, cache: bool = False) -> Release:
    """Return the release that `settings` ask for on a machine with this Python (path and version).

    `cache`: with what the cache program needs.
    """
    lock = (SERVER_SOURCE / (CACHE_LOCK if cache else LOCK)).read_text()
    digest = hashlib.sha256()
    for part in (python, python_version, lock, json.dumps(settings.versions, sort_keys=True)):
        digest.update(part.encode() + b"\0")
    for name, content in server_sources().items():
        digest.update(name.encode() + b"\0" + content)
    version = versions_in(lock, settings.versions)["pypiserver"]
    return Release(
        id=f"{version}-{digest.hexdigest()[:10]}",
        python=python,
        lock=lock,
        pins=dict(settings.versions),
        index_url=settings.index_url,
        find_links=settings.find_links,
        cache=cache,
    )


@cache
def server_sources() -> dict[str, bytes]:
    """Return the files of ppctl that are copied into a release, by path in the package: the workers' code.

    They are read once: what is installed is then what the id was made of, also while ppctl is upgraded.
    """
    sources = [PACKAGE / "__init__.py", *sorted(SERVER_SOURCE.rglob("*.py"))]
    return {source.relative_to(PACKAGE).as_posix(): source.read_bytes() for source in sources}


def is_complete(release_id: str, layout: Layout, host: Host) -> bool:
    """Return whether the release is there and whole."""
    path = layout.releases / release_id
    return host.stat(path / MARKER) is not None and host.stat(path / "bin" / "python") is not None


def build(release: Release, layout: Layout, host: Host) -> None:
    """Build `release` from nothing. Raises PpctlError; what was half-built is then removed."""
    path = release.path(layout)
    remove(path, host)
    try:
        _install(release, path, host)
    except PpctlError:
        remove(path, host)
        raise


def remove(path: Path, host: Host) -> None:
    """Remove the release at `path`; an interruption leaves one that does not look complete."""
    host.remove(path / MARKER)
    host.remove_tree(path)


def _install(release: Release, path: Path, host: Host) -> None:
    uv = pythons.find_uv(host)
    python = path / "bin" / "python"
    host.run(
        [
            *(uv, "venv", "--quiet", "--no-project", "--no-python-downloads"),
            *("--directory", pythons.NOWHERE, "--python", release.python, str(path)),
        ],
        dies_with_us=True,
    )
    lock = path / LOCK
    host.write(lock, release.lock.encode(), mode=0o644)
    if release.pins:
        _resolve(release, uv, path, host)
    _uv_pip(
        ["install", "--require-hashes", "--compile-bytecode", "--requirement", str(lock)],
        release,
        uv,
        path,
        host,
    )
    purelib = Path(
        host.run(
            [str(python), "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        ).stdout.strip()
    )
    for name, content in server_sources().items():
        target = purelib / "ppctl" / name
        if not host.stat(target.parent):
            host.make_directory(target.parent, mode=0o755)
        host.write(target, content, mode=0o644)
    # Byte code now: the service account must not be able to write it later.
    # Not by several processes (-j): those of compileall wait for ever when ppctl is killed.
    host.run([str(python), "-I", "-m", "compileall", "-q", str(purelib)], check=False, dies_with_us=True)
    # uv leaves its lock open to every user of the machine, the service account included.
    host.remove(path / ".lock")
    check(path, host)
    marker = {"id": release.id, "python": release.python, "versions": versions_in(release.lock, release.pins)}
    host.write(path / MARKER, (json.dumps(marker, indent=1) + "\n").encode(), mode=0o644)


def _resolve(release: Release, uv: str, path: Path, host: Host) -> None:
    """Write a lock file with the operator's pins; what they leave open stays as in the tested one."""
    wanted = path / "requirements.in"
    pins = [f"{name}=={version}\n" for name, version in sorted(release.pins.items())]
    names = ["requirements.in", *(["requirements-cache.in"] if release.cache else [])]
    base = "".join((SERVER_SOURCE / name).read_text() for name in names).splitlines(keepends=True)
    kept = [line for line in base if line[0] not in "#-" and _package(line) not in release.pins]
    host.write(wanted, "".join([*kept, *pins]).encode(), mode=0o644)
    # uv prefers the versions that an existing output file has.
    arguments = ["compile", "--quiet", "--generate-hashes", "--no-header", str(wanted), "--output-file"]
    _uv_pip([*arguments, str(path / LOCK)], release, uv, path, host)


def _package(requirement: str) -> str:
    for index, character in enumerate(requirement):
        if not (character.isalnum() or character in "-_."):
            return requirement[:index].lower()
    return requirement.strip().lower()


def _from_kept(command: list[str], host: Host, env: Mapping[str, str]) -> bool:
    """Install what uv has kept, without the network: the lock file names each file by its hash."""
    try:
        host.run([*command, "--offline"], env=env, dies_with_us=True)
    except PpctlError as e:
        if "No space left" in e.message:  # the next try would tell of what this one has left
            raise
        return False
    return True


def _uv_pip(arguments: list[str], release: Release, uv: str, path: Path, host: Host) -> None:
    source: list[str] = []
    hint = "without internet set server.find_links (a directory of wheels) or server.index_url (a mirror)"
    if release.find_links:
        source = ["--no-index", "--find-links", release.find_links]
        again = homes.command(path.parents[1], "up")
        hint = f"put what is missing into {release.find_links} (server.find_links), then: {again}"
    elif release.index_url:
        source = ["--default-index", release.index_url]
    command = [uv, "pip", *arguments, "--directory", pythons.NOWHERE]
    command += ["--python", str(path / "bin" / "python"), *source]
    env = pythons.paths_for_uv(os.environ)
    try:
        if arguments[0] == "install" and not release.find_links and _from_kept(command, host, env):
            return
        try:
            host.run(command, env=env, dies_with_us=True)
        except PpctlError as e:
            if "certificate" not in e.message:
                raise
            # uv has authorities of its own; in a network that looks into TLS the machine's are right.
            hint = "install the authority that signs here on this machine, or name it: SSL_CERT_FILE=…"
            host.run(command, env={**env, "UV_SYSTEM_CERTS": "1"}, dies_with_us=True)
    except PpctlError as e:
        raise PpctlError(f"cannot install the server's packages: {e.message}", hint) from e


def check(path: Path, host: Host) -> None:
    """Check that the release at `path` can be imported as the workers do. Raises PpctlError."""
    code = "import ppctl.server.app, gunicorn, bcrypt, passlib.apache"
    if b"\nuvicorn==" in (host.read(path / LOCK) or b""):
        code += ", ppctl.server.cache.__main__"
    done = host.run([str(path / "bin" / "python"), "-I", "-c", code], check=False)
    if done.returncode != 0:
        tail = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise PpctlError(
            f"{path}: the release does not work:\n{tail}",
            "check server.versions in ppctl.yml; without it the tested versions are installed",
        )


def current(layout: Layout, host: Host) -> str:
    """Return the id of the release that `current` points at, or ''."""
    found = host.stat(layout.current)
    return Path(found.target).name if found and found.kind == "link" else ""


def installed(layout: Layout, host: Host) -> list[str]:
    """Return the ids of the releases that are there, oldest first; half-built ones included."""
    found = []
    for name in host.list(layout.releases):
        entry = host.stat(layout.releases / name)
        if entry and entry.kind == "directory":
            marker = host.stat(layout.releases / name / MARKER)
            found.append((marker.mtime if marker else 0.0, name))
    return [name for _, name in sorted(found)]


def superfluous(layout: Layout, host: Host, *, wanted: str, keep: int) -> list[str]:
    """Return the ids of the releases to remove once all workers run `wanted`: all but the newest `keep`."""
    others = [name for name in installed(layout, host) if name != wanted]
    whole = [name for name in others if is_complete(name, layout, host)]
    spare = keep - 1
    kept = set(whole[-spare:]) if spare > 0 else set()
    return [name for name in others if name not in kept]
