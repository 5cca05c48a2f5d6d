"""Fixtures for tests that need real hosts: import them in a conftest.py."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests import hosts
from tests.hosts import TestHost


class BootHost(Protocol):
    def __call__(self, name: str, suite: str = "bookworm", wheels: Path | None = None) -> TestHost: ...


@pytest.fixture(scope="module")
def boot_host() -> Iterator[BootHost]:
    """A function that boots a host; the module's hosts are removed after its last test."""
    yield from factory()


@pytest.fixture
def boot_fresh_host() -> Iterator[BootHost]:
    """The same for one test: what it boots is removed after the test."""
    yield from factory()


def factory() -> Iterator[BootHost]:
    hosts.ensure_tools()
    booted: list[TestHost] = []

    def boot_one(name: str, suite: str = "bookworm", wheels: Path | None = None) -> TestHost:
        booted.extend(hosts.boot(name, suite=suite, wheels=wheels))
        return booted[-1]

    # By itself pytest would die of a TERM without running any teardown.
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated", returncode=143))
    try:
        yield boot_one
    finally:
        for host in booted:
            host.destroy()
        signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def ppctl_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this checkout."""
    return hosts.build_wheel(tmp_path_factory.mktemp("wheel"))
