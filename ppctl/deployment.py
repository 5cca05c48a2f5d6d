"""How an index is deployed on a machine: enough to find its processes again, and to take it away.

A deployment is recorded in the home's manifest before anything is changed, so that `ppctl up` finds
what it made under an earlier name, manager or mode, also after an interruption.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ppctl import homes
from ppctl.errors import PpctlError
from ppctl.host import Host
from ppctl.layout import Layout
from ppctl.settings import ManagerName, Mode

MANIFEST_VERSION = 1


@dataclass(frozen=True)
class Deployment:
    """Name, manager and mode identify the processes; the rest is what they were started with."""

    name: str
    manager: ManagerName
    mode: Mode
    home: Path
    host: str
    port: int
    workers: int
    cache: bool = False

    @property
    def unit_name(self) -> str:
        """The name under which the machine's manager knows the index; also the stem of its files."""
        return f"ppctl-{self.name}"

    @property
    def cache_name(self) -> str:
        """The name under which supervisor knows the cache program: none that an index could have."""
        return f"{self.name}_cache"

    @property
    def cache_unit(self) -> str:
        """The systemd unit of the cache program."""
        return f"{self.unit_name}_cache.service"

    @property
    def address(self) -> str:
        """Host and port as they are written in URLs and units."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def layout(self) -> Layout:
        """The paths of the home."""
        return Layout(self.home)

    @property
    def is_system(self) -> bool:
        """Whether it belongs to the machine."""
        return self.mode is Mode.SYSTEM

    @property
    def numbers(self) -> range:
        """The workers' numbers."""
        return range(1, self.workers + 1)

    def same_processes(self, other: Deployment) -> bool:
        """Whether `other` means the same processes of the same manager."""
        return (self.name, self.manager, self.mode) == (other.name, other.manager, other.mode)


@dataclass(frozen=True)
class Manifest:
    """What `ppctl up` has made: deployments whose processes may run, and paths to remove with them."""

    deployments: tuple[Deployment, ...] = ()
    paths: frozenset[Path] = field(default_factory=frozenset)

    def to_bytes(self, home: Path) -> bytes:
        """Return the manifest as the bytes of its file in `home`; paths below that are relative to it."""
        deployments = [
            {k: getattr(v, "value", v) for k, v in asdict(d).items() if k != "home"} for d in self.deployments
        ]
        data = {
            "version": MANIFEST_VERSION,
            "home": str(home),
            "deployments": deployments,
            "paths": sorted(
                str(path.relative_to(home) if path.is_relative_to(home) else path) for path in self.paths
            ),
        }
        return (json.dumps(data, indent=1) + "\n").encode()


def read_manifest(host: Host, layout: Layout) -> Manifest:
    """Return the manifest in the home; an empty one where there is none or it cannot be understood.

    A home that was moved is still the same index. A copy is not: what the manifest lists is the original's.
    """
    content = host.read(layout.manifest)
    if content is None:
        return Manifest()
    try:
        data = json.loads(content)
        recorded = Path(data["home"])
        if recorded != layout.home and host.stat(Layout(recorded).manifest):
            return Manifest()
        return Manifest(
            tuple(_deployment(entry, layout.home) for entry in data["deployments"]),
            frozenset(layout.home / path for path in data["paths"]),
        )
    except (ValueError, KeyError, TypeError):
        return Manifest()


def deployed(host: Host, layout: Layout) -> Deployment:
    """Return how the index in the home is deployed. Raises PpctlError when it is not."""
    found = read_manifest(host, layout).deployments
    if not found:
        raise PpctlError(
            f"{layout.home}: this index is not up", f"start it: {homes.command(layout.home, 'up')}"
        )
    return found[-1]


def _deployment(data: dict[str, Any], home: Path) -> Deployment:
    return Deployment(
        name=str(data["name"]),
        manager=ManagerName(data["manager"]),
        mode=Mode(data["mode"]),
        home=home,
        host=str(data["host"]),
        port=int(data["port"]),
        workers=int(data["workers"]),
        cache=bool(data.get("cache")),
    )
