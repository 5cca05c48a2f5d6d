"""From settings to what must be there: directories, files, links, a release. Pure: looks at nothing.

What depends on the machine (which manager, which group, which Python) comes in as `Facts`.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from ppctl import rendering
from ppctl.deployment import Deployment
from ppctl.errors import UsageError
from ppctl.index import FILE_MODE, Index
from ppctl.releases import Release
from ppctl.settings import ManagerName, Settings, Upstream, size_in_bytes

SIZE_UNITS = {"kB": "KB", "MB": "MB", "GB": "GB"}  # supervisor's spelling; 1024-based


@dataclass(frozen=True)
class Directory:
    """A directory that must be there."""

    path: Path
    mode: int
    owner: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class File:
    """A file that must have this content; with `keep` only made when it is missing, and then left alone."""

    path: Path
    content: bytes
    mode: int
    owner: str | None = None
    group: str | None = None
    keep: bool = False


@dataclass(frozen=True)
class Link:
    """A symbolic link that must be there."""

    path: Path
    target: str


@dataclass(frozen=True)
class Facts:
    """What the machine contributes: the manager in charge, where it looks, who owns what, which Python."""

    manager: ManagerName
    group: str | None
    release: Release
    register: Path
    unit_directory: Path | None = None
    include_path: Path | None = None
    sandbox: bool = True


@dataclass(frozen=True)
class Desired:
    """What `ppctl up` brings about.

    `generation` identifies what a worker is started from, `unit` what its manager is configured with;
    workers report both, which tells a worker that still runs something older.
    """

    deployment: Deployment
    directories: tuple[Directory, ...]
    files: tuple[File, ...]
    links: tuple[Link, ...]
    release: Release
    generation: str
    unit: str
    account: str | None
    cache_generation: str = ""
    """The same for the cache program; "" without one."""


def build(index: Index, facts: Facts) -> Desired:
    """Return what must be there for `index`. Raises UsageError for settings that cannot work together."""
    _check(index, facts.manager)
    settings, layout = index.settings, index.layout
    deployment = Deployment(
        settings.name,
        facts.manager,
        settings.mode,
        index.home,
        settings.address,
        settings.port,
        settings.workers,
        settings.upstream is Upstream.CACHE,
    )
    account = settings.account if index.is_system else None
    config = _server_config(settings, index)
    generation = _digest(config, _run_script(deployment, ""))
    run_script = _run_script(deployment, generation)
    units = _supervisor_files if facts.manager is ManagerName.SUPERVISOR else _systemd_files
    unit = _unit(deployment, units(index, deployment, facts, ""))
    own = (index.owner, facts.group)
    cache_generation, cache_files = _cache(index, deployment, facts) if deployment.cache else ("", ())
    files = (
        File(layout.htpasswd, b"", FILE_MODE, *own, keep=True),
        File(layout.server_config, config.encode(), FILE_MODE, *own),
        File(layout.run_script, run_script.encode(), 0o750, *own),
        *units(index, deployment, facts, unit),
        *cache_files,
    )
    links = [Link(facts.register / settings.name, str(index.home))]
    if facts.include_path:
        links.append(Link(facts.include_path, str(layout.supervisor_program)))
        if deployment.cache:
            beside = facts.include_path.with_stem(f"{facts.include_path.stem}_cache")
            links.append(Link(beside, str(layout.supervisor_cache)))
    if facts.manager is ManagerName.SYSTEMD and facts.unit_directory:
        links += _enabling_links(deployment, facts.unit_directory)
    return Desired(
        deployment=deployment,
        directories=_directories(index, facts, account),
        files=files,
        links=tuple(links),
        release=facts.release,
        generation=generation,
        unit=unit,
        account=account,
        cache_generation=cache_generation,
    )


def _check(index: Index, manager: ManagerName) -> None:
    if manager is ManagerName.SUPERVISOR and ":" in index.settings.host:
        raise UsageError(
            f"{index.layout.settings}: host: supervisor cannot listen on IPv6 addresses",
            "use an IPv4 address, or set `manager: systemd`",
        )


def _directories(index: Index, facts: Facts, account: str | None) -> tuple[Directory, ...]:
    layout, group = index.layout, facts.group
    runtime_mode = 0o750 if index.is_system else 0o700
    cache = [Directory(layout.cache, runtime_mode, account, group)]
    return (
        Directory(layout.home, 0o750, index.owner, group),
        Directory(layout.packages, 0o755, account, group),
        Directory(layout.logs, 0o750, index.owner, group),
        Directory(layout.run, runtime_mode, account, group),
        Directory(layout.releases, 0o755, index.owner, group),
        *(cache if index.settings.upstream is Upstream.CACHE else []),
    )


def _server_config(settings: Settings, index: Index) -> str:
    layout = index.layout
    config = {
        "name": settings.name,
        "packages": str(layout.packages),
        "htpasswd": str(layout.htpasswd),
        "permissions": str(layout.permissions),
        "run": str(layout.run),
        "login": sorted(action.value for action in settings.login),
        "upstream": settings.upstream.value,
        "upstream_url": None if settings.upstream is Upstream.NONE else settings.upstream_url,
        "private": sorted(settings.private),
        "cache": str(layout.cache) if settings.upstream is Upstream.CACHE else None,
        "overwrite": settings.overwrite,
        "ownership": settings.ownership,
        "max_upload_size": size_in_bytes(settings.max_upload_size),
        "url_prefix": settings.url_prefix,
        "public_url": settings.public_url if settings.public_url.startswith("https://") else None,
        "threads": settings.threads,
        "stop_timeout": settings.stop_timeout,
        "trusted_proxies": ",".join(settings.trusted_proxies),
    }
    return json.dumps(config, indent=2) + "\n"


def _run_script(deployment: Deployment, generation: str) -> str:
    return rendering.render(
        "run-pypi.sh.j2",
        name=deployment.name,
        listen=deployment.address,
        home=deployment.home,
        generation=generation,
    )


def _supervisor_files(index: Index, deployment: Deployment, facts: Facts, unit: str) -> tuple[File, ...]:
    settings, layout = index.settings, index.layout
    program = rendering.render(
        "supervisor/pypi-server.conf.j2",
        name=settings.name,
        home=deployment.home,
        host=deployment.host,
        port=deployment.port,
        workers=deployment.workers,
        account=settings.account if index.is_system else None,
        unit=unit,
        **_log_limits(settings),
    )
    own = (index.owner, facts.group)
    files = [File(layout.supervisor_program, program.encode(), FILE_MODE, *own)]
    if not index.is_system:
        values = {"home": deployment.home}
        digest = _digest(rendering.render("supervisor/supervisord.conf.j2", identifier="", **values))
        text = rendering.render("supervisor/supervisord.conf.j2", identifier=digest, **values)
        files.append(File(layout.supervisord_conf, text.encode(), FILE_MODE))
    return tuple(files)


def _log_limits(settings: Settings) -> dict[str, object]:
    """Return the limits of log files as supervisor spells them."""
    size = re.sub(r"(kB|MB|GB)$", lambda match: SIZE_UNITS[match[1]], settings.logs.max_size)
    return {"log_size": size, "log_keep": settings.logs.keep}


def _cache(index: Index, deployment: Deployment, facts: Facts) -> tuple[str, tuple[File, ...]]:
    """Return what the cache program is started from, as a digest, and its files."""
    settings, layout = index.settings, index.layout
    config = {
        "directory": str(layout.cache),
        "run": str(layout.run),
        "netrc": str(layout.upstream_login),
        "url": settings.upstream_url,
        "max_bytes": settings.cache.max_bytes,
        "refresh": settings.cache.refresh,
    }
    text = json.dumps(config, indent=2) + "\n"
    common = {"name": deployment.name, "home": deployment.home}
    account = settings.account if index.is_system else None
    own: tuple[str | None, str | None] = (index.owner, facts.group)
    if facts.manager is ManagerName.SUPERVISOR:
        unit = rendering.render(
            "supervisor/pypi-cache.conf.j2",
            program=deployment.cache_name,
            account=account,
            **_log_limits(settings),
            **common,
        )
        unit_file = File(layout.supervisor_cache, unit.encode(), FILE_MODE, *own)
    else:
        unit = rendering.render(
            "systemd/cache.service.j2",
            unit_name=deployment.unit_name,
            account=account,
            group=facts.group,
            hardening=_hardening(index, deployment, facts, writable=layout.cache, network=True),
            **common,
        )
        directory = facts.unit_directory or Path("/")
        unit_file = File(directory / deployment.cache_unit, unit.encode(), 0o644, index.owner)
    generation = _digest(text, unit, rendering.render("run-cache.sh.j2", generation="", **common))
    script = rendering.render("run-cache.sh.j2", generation=generation, **common)
    return generation, (
        File(layout.cache_config, text.encode(), FILE_MODE, *own),
        File(layout.cache_script, script.encode(), 0o750, *own),
        unit_file,
    )


def _hardening(
    index: Index, deployment: Deployment, facts: Facts, *, writable: Path, network: bool = False
) -> str:
    return rendering.render(
        "systemd/hardening.j2",
        home=deployment.home,
        is_system=index.is_system,
        sandbox=facts.sandbox,
        # A home below /home or /root must stay visible to its processes.
        protect_home="read-only" if deployment.home.parts[1] in ("home", "root") else "yes",
        writable=writable,
        network=network,
    )


def _systemd_files(index: Index, deployment: Deployment, facts: Facts, unit: str) -> tuple[File, ...]:
    directory = facts.unit_directory or Path("/")
    name = deployment.unit_name
    common = {"name": deployment.name, "unit_name": name, "home": deployment.home}
    hardening = _hardening(index, deployment, facts, writable=index.layout.packages)
    texts = {
        f"{name}.socket": rendering.render("systemd/index.socket.j2", listen=deployment.address, **common),
        f"{name}.service": rendering.render(
            "systemd/index.service.j2",
            numbers=deployment.numbers,
            wanted_by="multi-user.target" if index.is_system else "default.target",
            hardening=hardening,
            cache=deployment.cache,
            **common,
        ),
        f"{name}@.service": rendering.render(
            "systemd/worker.service.j2",
            account=index.settings.account if index.is_system else None,
            group=facts.group,
            stop_timeout=index.settings.stop_timeout,
            unit=unit,
            hardening=hardening,
            **common,
        ),
    }
    return tuple(File(directory / file, text.encode(), 0o644, index.owner) for file, text in texts.items())


def _enabling_links(deployment: Deployment, directory: Path) -> list[Link]:
    """Return the links that `systemctl enable` would make for the units' [Install] sections."""
    socket, service = f"{deployment.unit_name}.socket", f"{deployment.unit_name}.service"
    target = "multi-user.target.wants" if deployment.is_system else "default.target.wants"
    return [
        Link(directory / "sockets.target.wants" / socket, str(directory / socket)),
        Link(directory / target / service, str(directory / service)),
    ]


def _unit(deployment: Deployment, files: tuple[File, ...]) -> str:
    """Return the address, and a digest of the one file that configures the workers' processes."""
    names = (deployment.layout.supervisor_program.name, f"{deployment.unit_name}@.service")
    contents = [file.content.decode() for file in files if file.path.name in names]
    return f"{deployment.address}/{_digest(*contents)}"


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]
