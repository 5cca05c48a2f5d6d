"""What became of servers that were made by hand: nothing lost, and nothing of them left running."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests
from test_indexes import indexes, testinfra_hosts

__all__ = ["testinfra_hosts"]
pytestmark = pytest.mark.usefixtures("taken")


@pytest.fixture
def taken(host: Any) -> None:
    """Skip where there was no such server."""
    if not any("takes_over" in index for index in indexes(host)):
        pytest.skip("no server was made by hand here")


def url(host: Any) -> str:
    return f"http://{host.ansible.get_variables()['ansible_host']}:3141"


def test_the_packages_are_there(host: Any) -> None:
    for name in ("ppctl", "click"):
        page = requests.get(f"{url(host)}/simple/{name}/", timeout=60)
        assert page.status_code == 200 and ".whl#sha256=" in page.text


def test_old_passwords_work(host: Any) -> None:
    """To upload needs a login: with one, the request is refused for what it lacks, not for who it is."""
    for user in ("ann", "bob"):
        right, wrong = (
            requests.post(
                url(host), data={":action": "verify"}, auth=(user, password), timeout=60
            ).status_code
            for password in (f"{user}'s old password", "another one")
        )
        assert right not in (401, 403) and wrong in (401, 403), (user, right, wrong)


def test_the_old_server_is_gone(host: Any) -> None:
    with host.sudo():
        assert not host.process.filter(user="deploy", comm="pypi-server")
        assert "run-pypi.sh" not in host.check_output("ps -u deploy -o args=")
        assert not host.file("/etc/supervisor/conf.d/pypi-server.conf").exists
        assert host.file("/etc/supervisor/conf.d/pypi-server.conf.taken-over").exists
        status = host.run("supervisorctl status").stdout.splitlines()
    assert [line.split()[:2] for line in status] == [[f"pypi:worker-{n}", "RUNNING"] for n in (1, 2)]


def test_the_old_files_stay(host: Any) -> None:
    with host.sudo():
        for name in ("packages", "htpasswd", "run-pypi.sh", "pypi-server.conf"):
            assert host.file(str(Path("/home/deploy") / name)).exists
