"""From settings to what must be there: directories, files, links, a release. Pure: looks at nothing.

What depends on the machine (which manager, which group, which Python) comes in as `Facts`; what its manager
is configured with is made in ppctl.units.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from ppctl import rendering, units
from ppctl.deployment import Deployment
from ppctl.entries import Directory, File, Link
from ppctl.errors import UsageError
from ppctl.facts import Facts
from ppctl.index import FILE_MODE, Index
from ppctl.releases import Release
from ppctl.rendering import digest
from ppctl.settings import ManagerName, Settings, Upstream, size_in_bytes


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
    generation = digest(config, _run_script(deployment, ""))
    run_script = _run_script(deployment, generation)
    unit = units.identity(index, deployment, facts)
    own = (index.owner, facts.group)
    cache_generation, cache_files = _cache(index, deployment, facts) if deployment.cache else ("", ())
    files = (
        File(layout.htpasswd, b"", FILE_MODE, *own, lock=layout.users_lock),
        File(layout.server_config, config.encode(), FILE_MODE, *own),
        File(layout.run_script, run_script.encode(), 0o750, *own),
        *units.files(index, deployment, facts, unit),
        *cache_files,
    )
    return Desired(
        deployment=deployment,
        directories=_directories(index, facts, account),
        files=files,
        links=(
            Link(facts.register / settings.name, str(index.home)),
            *units.links(index, deployment, facts),
        ),
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
    own = (index.owner, facts.group)
    unit = units.cache_file(index, deployment, facts)
    started = rendering.render("run-cache.sh.j2", generation="", **common)
    generation = digest(text, unit.content.decode(), started)
    script = rendering.render("run-cache.sh.j2", generation=generation, **common)
    return generation, (
        File(layout.cache_config, text.encode(), FILE_MODE, *own),
        File(layout.cache_script, script.encode(), 0o750, *own),
        unit,
    )
