"""`ppctl doctor` on real Debian hosts: the machine's supervisor, systemd, and an ordinary user's index."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import hosts
from tests.host_fixtures import BootHost, boot_host, ppctl_wheel
from tests.hosts import TestHost
from tests.server.patience import within

pytestmark = pytest.mark.hosts

__all__ = ["boot_host", "ppctl_wheel"]  # fixtures are found by their names
HOME = "/srv/pypi"


@pytest.fixture(scope="module")
def host(boot_host: BootHost, ppctl_wheel: Path) -> Iterator[TestHost]:
    """A host with ppctl and an index of the machine's, under Debian's supervisor."""
    host = boot_host("doctor", wheels=hosts.ppctl_wheelhouse())
    host.put(ppctl_wheel, f"/srv/{ppctl_wheel.name}")
    host.run("python3", "-m", "venv", "/opt/ppctl")
    install = ("install", "--quiet", "--no-index", "--find-links", "/opt/wheels")
    host.run("/opt/ppctl/bin/pip", *install, f"/srv/{ppctl_wheel.name}")
    host.run("ln", "-s", "/opt/ppctl/bin/ppctl", "/usr/local/bin/ppctl")
    host.put(b"mode: system\nserver: {find_links: /opt/wheels}\n", f"{HOME}/ppctl.yml")
    host.run("ppctl", "up", "-C", HOME, "--first-user", "ann")
    yield host


def examine(host: TestHost, home: str = HOME, user: str = "root") -> list[dict[str, Any]]:
    """Return what is wrong."""
    done = host.run("ppctl", "doctor", "--json", "-C", home, check=False, user=user)
    return [f for f in json.loads(done.stdout)["result"]["findings"] if f["severity"] != "ok"]


def mend(host: TestHost, check: str) -> None:
    """Type what the finding of `check` says."""
    for finding in examine(host):
        if finding["check"] == check:
            host.run("sh", "-c", finding["mend"])
            return
    raise AssertionError(f"{check} has found nothing")


def test_debians_supervisor_comes_back_at_once_when_told_to(host: TestHost) -> None:
    [finding] = examine(host)
    assert (finding["check"], finding["severity"]) == ("boot", "warning")
    assert "waits 50s" in finding["message"]
    mend(host, "boot")
    assert examine(host) == []
    # More often than the five times after which systemd gives up by itself.
    for _ in range(6):
        away = {"MainPID=0\n", main_pid(host)}
        host.run("systemctl", "kill", "--signal=KILL", "supervisor")  # its workers, too
        assert within(6, lambda away=away: main_pid(host) not in away)  # type: ignore[misc]
    until_well(host)


def main_pid(host: TestHost) -> str:
    return host.run("systemctl", "show", "supervisor", "--property=MainPID").stdout


def until_well(host: TestHost) -> None:
    """Wait until nothing is wrong: who starts supervisord is done before the workers are there."""
    assert within(6, lambda: examine(host) == [])


def test_what_the_service_account_may_not_do(host: TestHost) -> None:
    host.run("chown", "root", f"{HOME}/packages")
    host.run("install", "-m", "600", "/dev/null", f"{HOME}/packages/a.whl")
    host.run("chown", "pypi", f"{HOME}/run-pypi.sh")
    assert {f["check"] for f in examine(host)} == {"packages", "package-files", "modes", "drift"}
    for check in ("packages", "package-files", "modes"):
        mend(host, check)
    assert examine(host) == []


def test_supervisord_that_does_not_run(host: TestHost) -> None:
    host.run("systemctl", "stop", "supervisor")
    assert {"manager", "workers", "drift"} == {f["check"] for f in examine(host)}
    mend(host, "manager")
    until_well(host)


def test_under_systemd(host: TestHost) -> None:
    settings = host.read(f"{HOME}/ppctl.yml")
    host.put(f"{settings}manager: systemd\n".encode(), f"{HOME}/ppctl.yml")
    assert {f["check"] for f in examine(host)} == {"drift"}
    mend(host, "drift")
    assert examine(host) == []
    host.run("systemctl", "kill", "--signal=KILL", "ppctl-pypi@1.service")
    host.run("systemctl", "stop", "ppctl-pypi@1.service")
    assert "manager" in {f["check"] for f in examine(host)}
    mend(host, "manager")
    assert examine(host) == []


def test_an_ordinary_users_own_index(host: TestHost) -> None:
    home = "/home/deploy/pypi"
    host.put(b"port: 3242\nserver: {find_links: /opt/wheels}\n", f"{home}/ppctl.yml", owner="deploy")
    host.run("chown", "deploy:", home)
    host.run("ppctl", "up", "-C", home, "--first-user", "ann", user="deploy")
    assert examine(host, home, "deploy") == []
    [finding] = [f for f in examine(host, home) if f["check"] == "user"]
    assert "belongs to deploy, and you are root" in finding["message"]
    host.run("ppctl", "down", "-C", home, user="deploy")
