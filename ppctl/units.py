"""What a manager is configured with: supervisor's sections, systemd's units. As pure as ppctl.desired."""

from __future__ import annotations

import re
from pathlib import Path

from ppctl import rendering
from ppctl.deployment import Deployment
from ppctl.entries import File, Link
from ppctl.facts import Facts
from ppctl.index import FILE_MODE, Index
from ppctl.rendering import digest
from ppctl.settings import ManagerName, Settings

SIZE_UNITS = {"kB": "KB", "MB": "MB", "GB": "GB"}  # supervisor's spelling; 1024-based


def files(index: Index, deployment: Deployment, facts: Facts, unit: str) -> tuple[File, ...]:
    """Return the files that the manager in charge reads; `unit` is what `identity` says of them."""
    of = _supervisor_files if facts.manager is ManagerName.SUPERVISOR else _systemd_files
    return of(index, deployment, facts, unit)


def identity(index: Index, deployment: Deployment, facts: Facts) -> str:
    """Return the address, and a digest of the one file that configures the workers' processes."""
    names = (deployment.layout.supervisor_program.name, f"{deployment.unit_name}@.service")
    contents = [
        each.content.decode() for each in files(index, deployment, facts, "") if each.path.name in names
    ]
    return f"{deployment.address}/{digest(*contents)}"


def links(index: Index, deployment: Deployment, facts: Facts) -> list[Link]:
    """Return the links by which the manager in charge finds what is to be started."""
    found = []
    if facts.include_path:
        found.append(Link(facts.include_path, str(index.layout.supervisor_program)))
        if deployment.cache:
            beside = facts.include_path.with_stem(f"{facts.include_path.stem}_cache")
            found.append(Link(beside, str(index.layout.supervisor_cache)))
    if facts.manager is ManagerName.SYSTEMD and facts.unit_directory:
        found += _enabling_links(deployment, facts.unit_directory)
    return found


def cache_file(index: Index, deployment: Deployment, facts: Facts) -> File:
    """Return the file by which the manager in charge runs the cache program."""
    settings, layout = index.settings, index.layout
    common = {
        "name": deployment.name,
        "home": deployment.home,
        "account": settings.account if index.is_system else None,
    }
    if facts.manager is ManagerName.SUPERVISOR:
        text = rendering.render(
            "supervisor/pypi-cache.conf.j2",
            program=deployment.cache_name,
            **_log_limits(settings),
            **common,
        )
        return File(layout.supervisor_cache, text.encode(), FILE_MODE, index.owner, facts.group)
    text = rendering.render(
        "systemd/cache.service.j2",
        unit_name=deployment.unit_name,
        group=facts.group,
        hardening=_hardening(index, deployment, facts, writable=layout.cache, network=True),
        **common,
    )
    directory = facts.unit_directory or Path("/")
    return File(directory / deployment.cache_unit, text.encode(), 0o644, index.owner)


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
    made = [File(layout.supervisor_program, program.encode(), FILE_MODE, *own)]
    if not index.is_system:
        values = {"home": deployment.home}
        identifier = digest(rendering.render("supervisor/supervisord.conf.j2", identifier="", **values))
        text = rendering.render("supervisor/supervisord.conf.j2", identifier=identifier, **values)
        made.append(File(layout.supervisord_conf, text.encode(), FILE_MODE))
    return tuple(made)


def _log_limits(settings: Settings) -> dict[str, object]:
    """Return the limits of log files as supervisor spells them."""
    size = re.sub(r"(kB|MB|GB)$", lambda match: SIZE_UNITS[match[1]], settings.logs.max_size)
    return {"log_size": size, "log_keep": settings.logs.keep}


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
