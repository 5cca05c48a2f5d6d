"""Fixtures for tests on booted hosts: hosts with ppctl on them, and nothing that needs the internet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import hosts
from tests.host_fixtures import BootHost, boot_fresh_host, boot_host, ppctl_wheel
from tests.hosts import CHECKOUT, TestHost

__all__ = ["boot_fresh_host", "boot_host", "boot_ppctl_host", "ppctl_wheel"]

# Before the tests import them: their assertions, too, are to tell what they compared.
pytest.register_assert_rewrite("tests.e2e.story", "tests.e2e.load")

BootPpctlHost = Callable[..., TestHost]


@pytest.fixture(scope="module")
def boot_ppctl_host(boot_host: BootHost, ppctl_wheel: Path) -> BootPpctlHost:
    """A function that boots a host with ppctl in /opt/ppctl; releases are built from /opt/wheels."""

    def boot(name: str, suite: str = "bookworm") -> TestHost:
        # The lock file's own versions, or the release's hashes would not match.
        files = [CHECKOUT / "pyproject.toml", hosts.LOCK]
        host = boot_host(name, suite=suite, wheels=hosts.wheelhouse(suite=suite, files=files))
        hosts.install_ppctl(host, ppctl_wheel)
        return host

    return boot
