"""Debian 13: its Python 3.13, its supervisor and its systemd, in short."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e import packages, sites
from tests.e2e.clients import Developer
from tests.e2e.conftest import BootPpctlHost
from tests.e2e.sites import Site
from tests.hosts import TestHost

pytestmark = pytest.mark.hosts

SETTINGS: dict[str, object] = {
    "host": "0.0.0.0",
    "port": 3141,
    "mode": "system",
    "password": {"bcrypt_cost": 10},
    "server": {"find_links": "/opt/wheels"},
}


@pytest.fixture(scope="module")
def host(boot_ppctl_host: BootPpctlHost) -> TestHost:
    return boot_ppctl_host("trixie", suite="trixie")


@pytest.mark.parametrize("manager", ["supervisor", "systemd"])
def test_up_upload_install_restart_destroy(host: TestHost, manager: str, tmp_path: Path) -> None:
    site: Site = sites.on_host(host, f"/srv/{manager}")
    developer = Developer(tmp_path, site.address)
    wheel = packages.wheel(developer.folder, "alpha-one", "1.0")
    site.set(**SETTINGS, manager=manager)
    site.ppctl("up")
    site.ppctl("adduser", "ci-bot", "--password-stdin", stdin="a long password\n")
    developer.twine("--repository-url", f"{site.url}/", "-u", "ci-bot", "-p", "a long password", wheel)
    python = developer.virtualenv("venv")
    developer.pip(python, site.simple_url, "alpha-one")
    assert developer.version_of(python, "alpha_one") == "1.0"
    before = {worker["pid"] for worker in site.workers()}
    site.ppctl("restart")
    assert before.isdisjoint(worker["pid"] for worker in site.workers())
    assert "nothing to change" in site.ppctl("up").stdout
    if manager == "systemd":
        host.run("systemd-analyze", "security", "--threshold=29", "ppctl-pypi@1.service")
    assert site.ppctl("status").returncode == 0
    assert site.report("destroy", "--yes", "--purge")["left"] == []
    assert (
        host.run("sh", "-c", "ls /etc/supervisor/conf.d /etc/systemd/system | grep ppctl", check=False).stdout
        == ""
    )
