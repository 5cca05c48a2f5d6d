"""What tests of the engine share: `up` in a world of tests/fakes.py."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from ppctl import machine as machine_module
from ppctl import releases
from ppctl.commands import up as commands
from tests.fakes import World

HOME = Path("/srv/index")
SOURCES = ("__init__.py", "server/__init__.py", "server/app.py", "server/cache/__main__.py")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for what happens at once or never: the time is counted, not taken.

    Put the register at a place that is always the same.

    And of the workers' code, which is copied file by file, take only some files.
    """
    few = {name: content for name, content in releases.server_sources().items() if name in SOURCES}
    monkeypatch.setattr(releases, "server_sources", lambda: few)
    clock = SimpleNamespace(monotonic=itertools.count().__next__, sleep=lambda _: None)
    monkeypatch.setattr(machine_module, "time", clock)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/home/operator/.config")


def up(world: World, home: Path = HOME, *, dry_run: bool = False, exit_code: bool = False) -> int:
    """Run `ppctl up`."""
    return commands.up(home, world.machine(), dry_run=dry_run, exit_code=exit_code, wait=True)


def configure(world: World, home: Path = HOME, **settings: object) -> World:
    """Write ppctl.yml."""
    world.host.put(home / "ppctl.yml", json.dumps(settings))
    world.host.nodes[home].mode = 0o750
    return world


def started(**settings: object) -> World:
    """Return a world with an index that is up."""
    world = configure(World(), **settings)
    up(world)
    return world


def changed(before: dict[str, object], after: dict[str, object]) -> World:
    """Return a world with an index that is up, and settings that have changed since."""
    return configure(started(**before), **after)


def outcome(world: World) -> tuple[dict[str, object], object]:
    """Return all that is left: files (but the lock), and what the workers run."""
    files = {path: node for path, node in world.host.snapshot().items() if not path.endswith("/.lock")}
    return files, world.workers()
