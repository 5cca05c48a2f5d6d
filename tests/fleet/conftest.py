from __future__ import annotations

from pathlib import Path

import pytest

from tests import hosts
from tests.fleet.support import build_wheelhouse
from tests.host_fixtures import boot_fresh_host, boot_host

__all__ = ["boot_fresh_host", "boot_host"]


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheelhouse of this checkout for the hosts."""
    hosts.ensure_tools()
    return build_wheelhouse(tmp_path_factory.mktemp("fleet") / "wheelhouse")
