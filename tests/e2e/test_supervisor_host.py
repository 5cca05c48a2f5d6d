"""Debian's supervisor in system mode: the index is one group beside others, which are left alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from tests.e2e import sites
from tests.e2e.conftest import BootPpctlHost
from tests.e2e.sites import Site, units
from tests.e2e.story import Story
from tests.hosts import TestHost
from tests.server.archives import wheel
from tests.server.patience import within

pytestmark = pytest.mark.hosts

SETTINGS: dict[str, object] = {
    "host": "0.0.0.0",
    "mode": "system",
    "password": {"bcrypt_cost": 10},
    "server": {"find_links": "/opt/wheels"},
}
HOME = "/srv/pypi"
INCLUDED = "/etc/supervisor/conf.d/ppctl-pypi.conf"
FOREIGN = b"[program:foreign]\ncommand=/bin/sleep infinity\n"


@pytest.fixture(scope="module")
def host(boot_ppctl_host: BootPpctlHost) -> TestHost:
    booted = boot_ppctl_host("supervisor")
    booted.put(FOREIGN, "/etc/supervisor/conf.d/foreign.conf")
    booted.wait_for("supervisorctl", "update")  # supervisord is active before it has opened its socket
    return booted


def of_the_machine(host: TestHost) -> Site:
    watched = ("/etc/supervisor/conf.d", "/etc/systemd/system", "/etc/ppctl")
    return sites.on_host(host, HOME, watched=watched)


def foreign(host: TestHost) -> tuple[str, str]:
    """Return the pids of the machine's supervisord and of the program in it that is not ours."""
    return (
        host.run("supervisorctl", "pid").stdout.strip(),
        host.run("supervisorctl", "pid", "foreign").stdout.strip(),
    )


class TestSupervisor(Story):
    settings = SETTINGS

    @pytest.fixture(scope="class")
    @classmethod
    def site(cls, host: TestHost) -> Iterator[Site]:
        before = foreign(host)
        yield of_the_machine(host)
        assert foreign(host) == before


class TestSystemMode:
    """What there is to say beyond the story."""

    @pytest.fixture(scope="class")
    @classmethod
    def site(cls, host: TestHost) -> Iterator[Site]:
        site = of_the_machine(host)
        site.set(port=3141, **SETTINGS)
        site.ppctl("up")
        yield site
        site.ppctl("destroy", "--yes", "--purge")

    def test_the_configuration_is_a_link_into_the_home(self, host: TestHost, site: Site) -> None:
        assert host.run("readlink", INCLUDED).stdout == f"{HOME}/pypi-server.conf\n"
        shown = host.run("supervisorctl", "status", "pypi:*").stdout
        assert shown.count("pypi:worker-") == 2

    def test_workers_run_as_the_account_and_write_only_where_they_must(
        self, host: TestHost, site: Site
    ) -> None:
        for pid in site.processes(1):
            assert host.run("ps", "-o", "user=", "-p", str(pid)).stdout.strip() == "pypi"
        probe = ("find", HOME, "/etc", "/usr", "/opt", "-xdev", "-writable", "!", "-type", "l")
        found = host.run("runuser", "-u", "pypi", "--", *probe, check=False).stdout.split()
        assert {f"{HOME}/packages", f"{HOME}/run"} <= set(found)
        assert [path for path in found if not path.startswith((f"{HOME}/packages", f"{HOME}/run"))] == []

    def test_workers_end_with_a_killed_supervisord_and_return_with_the_next(
        self, host: TestHost, site: Site
    ) -> None:
        """Debian leaves them running, and a supervisord that cannot have their port does not start."""
        workers = [*site.processes(1), *site.processes(2)]
        host.run("kill", "-KILL", host.run("supervisorctl", "pid").stdout.strip())
        alive = ("ps", "-o", "pid=", "-p", ",".join(map(str, workers)))
        assert within(6, lambda: host.run(*alive, check=False).stdout == "")
        host.run("systemctl", "restart", "supervisor")
        site.wait_until_healthy()
        assert host.run("systemctl", "is-active", "supervisor").stdout == "active\n"
        assert "nothing to change" in site.ppctl("up").stdout

    def test_a_new_port_is_announced_and_only_our_group_restarts(self, host: TestHost, site: Site) -> None:
        before = foreign(host)
        site.set(port=3143, **SETTINGS)
        assert any("refused" in change["interrupts"] for change in site.report("plan")["changes"])
        site.ppctl("up")
        assert site.get("/health") == 200
        assert foreign(host) == before

    def test_a_new_name_takes_everything_along(self, host: TestHost, site: Site) -> None:
        before = foreign(host)
        site.set(port=site.port, name="renamed", **SETTINGS)
        site.ppctl("up")
        assert host.run("test", "-e", INCLUDED, check=False).returncode == 1
        shown = host.run("supervisorctl", "status", check=False).stdout
        assert "pypi:worker" not in shown and shown.count("renamed:worker") == 2
        assert foreign(host) == before
        site.set(port=3141, **SETTINGS)
        site.ppctl("up")

    @pytest.mark.parametrize("manager", ["systemd", "supervisor"])
    def test_another_manager_leaves_nothing_of_the_old_one(
        self, host: TestHost, site: Site, manager: str
    ) -> None:
        before = foreign(host)
        site.set(port=3141, **{**SETTINGS, "manager": manager})
        assert any("moves away" in change["interrupts"] for change in site.report("plan")["changes"])
        site.ppctl("up")
        assert site.report("status")["manager"] == manager
        assert site.get("/health") == 200
        assert "nothing to change" in site.ppctl("up").stdout
        files = host.run("find", "/etc/systemd/system", "/etc/supervisor", "-name", "*ppctl*").stdout
        shown = host.run("supervisorctl", "status", check=False).stdout
        if manager == "systemd":
            assert "pypi:" not in shown and "/etc/supervisor" not in files
            assert "ppctl-pypi@1.service" in units(host)
            assert host.run("test", "-e", f"{HOME}/pypi-server.conf", check=False).returncode == 1
        else:
            assert within(3, lambda: units(host) == "")
            assert files.split() == [INCLUDED]
        assert foreign(host) == before

    def test_it_is_back_after_a_reboot(self, host: TestHost, site: Site) -> None:
        host.reboot()
        site.wait_until_healthy()
        assert site.get("/simple/") == 200
        assert "nothing to change" in site.ppctl("up").stdout


class TestCache:
    """`upstream: cache`, in front of an index on the host itself."""

    UPSTREAM = "/srv/upstream"
    NAME, CONTENT = wheel("public", "1.0")

    @pytest.fixture(scope="class")
    @classmethod
    def site(cls, host: TestHost) -> Site:
        host.run("mkdir", "-p", f"{cls.UPSTREAM}/simple/public")
        host.put(cls.CONTENT, f"{cls.UPSTREAM}/{cls.NAME}")
        digest = hashlib.sha256(cls.CONTENT).hexdigest()
        page = f'<!DOCTYPE html><a href="../../{cls.NAME}#sha256={digest}">{cls.NAME}</a>'
        host.put(page.encode(), f"{cls.UPSTREAM}/simple/public/index.html")
        serve = ("python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory", cls.UPSTREAM, "8000")
        host.run("systemd-run", "--unit=upstream", *serve)
        host.wait_for_port(8000)
        return of_the_machine(host)

    @pytest.mark.parametrize("manager", ["supervisor", "systemd"])
    def test_it_runs_as_the_account_beside_the_workers(
        self, host: TestHost, site: Site, manager: str
    ) -> None:
        cached = {"upstream": "cache", "upstream_url": "http://127.0.0.1:8000/simple/", "login": []}
        site.set(port=3141, **{**SETTINGS, **cached, "manager": manager})
        site.ppctl("up")
        assert "nothing to change" in site.ppctl("up").stdout
        digest = hashlib.sha256(self.CONTENT).hexdigest()
        for _ in range(2):
            assert site.get("/simple/public/") == 200
            assert site.get(f"/upstream/public/{digest}/{self.NAME}") == 200
        status = site.report("status")
        assert status["health"] == "healthy" and status["cache"]["bytes"] >= len(self.CONTENT)
        user = host.run("ps", "-o", "user=", "-p", str(status["cache"]["pid"])).stdout.strip()
        assert user == "pypi"
        host.run("kill", "-9", str(status["cache"]["pid"]))
        assert within(5, lambda: site.ppctl("status", check=False).returncode == 0)
        assert "fetching from" in "\n".join(site.report("logs")["cache"])
        site.ppctl("stop")
        site.ppctl("start")
        files = host.run("find", "/etc/systemd/system", "/etc/supervisor", "-name", "*_cache*").stdout.split()
        if manager == "systemd":
            assert files == ["/etc/systemd/system/ppctl-pypi_cache.service"]
            host.run("systemd-analyze", "security", "--threshold=29", "ppctl-pypi_cache.service")
        else:
            assert files == ["/etc/supervisor/conf.d/ppctl-pypi_cache.conf"]

    def test_without_it_nothing_is_left(self, host: TestHost, site: Site) -> None:
        site.set(port=3141, **{**SETTINGS, "manager": "systemd"})
        site.ppctl("up")
        found = host.run("find", "/etc/systemd/system", "/etc/supervisor", HOME, "-name", "*cache*").stdout
        assert [path for path in found.split() if "/releases/" not in path] == []
        assert within(3, lambda: "cache" not in units(host))
        assert host.run("pgrep", "-f", "ppctl[.]server[.]cache", check=False).stdout == ""
        assert "nothing to change" in site.ppctl("up").stdout
