"""systemd on a booted Debian: the machine's index and a user's own, sandboxed, back after a reboot."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ppctl.server import store
from tests.e2e import sites
from tests.e2e.conftest import BootPpctlHost
from tests.e2e.sites import Site, units
from tests.e2e.story import Story
from tests.hosts import TestHost
from tests.server.patience import within

pytestmark = pytest.mark.hosts

BASE: dict[str, object] = {
    "host": "0.0.0.0",
    "manager": "systemd",
    "password": {"bcrypt_cost": 10},
    "server": {"find_links": "/opt/wheels"},
}
SYSTEM = {**BASE, "mode": "system"}
HOME = "/srv/pypi"
USER_HOME = "/home/deploy/pypi"


@pytest.fixture(scope="module")
def host(boot_ppctl_host: BootPpctlHost) -> TestHost:
    booted = boot_ppctl_host("systemd")
    booted.run("loginctl", "enable-linger", "deploy")
    booted.wait_for("systemctl", "--user", "is-system-running", user="deploy")
    return booted


def of_the_machine(host: TestHost) -> Site:
    return sites.on_host(host, HOME, watched=("/etc/systemd/system", "/etc/ppctl"))


def of_the_user(host: TestHost) -> Site:
    return sites.on_host(host, USER_HOME, user="deploy", watched=("/home/deploy/.config",))


class TestSystem(Story):
    settings = SYSTEM

    @pytest.fixture(scope="class")
    @classmethod
    def site(cls, host: TestHost) -> Site:
        return of_the_machine(host)


class TestUser(Story):
    settings = BASE

    @pytest.fixture(scope="class")
    @classmethod
    def site(cls, host: TestHost) -> Site:
        return of_the_user(host)

    def before_logs(self, site: Site) -> None:
        # Debian 12 keeps no journal of a user's own; ppctl tells, and what it says to do is enough.
        told = site.ppctl("logs")
        assert told.stdout == ""
        assert "sudo usermod -aG systemd-journal deploy" in told.stderr
        site.run("sudo", "usermod", "-aG", "systemd-journal", "deploy")


HANDMADE = """[Service]
User=deploy
WorkingDirectory=/home/deploy/old
# A child outside of systemd's sight is none: it has the port, and must go, too.
ExecStart=/bin/sh -c 'python3 -m http.server 3141 & wait'
KillMode=process
[Install]
WantedBy=multi-user.target
"""


def test_a_server_under_a_unit_made_by_hand_is_taken_over(host: TestHost) -> None:
    unit, packages = "/etc/systemd/system/old-pypi.service", "/home/deploy/old/packages"
    host.run("install", "-d", "-o", "deploy", "/home/deploy/old", packages)
    host.put(b"old", f"{packages}/demo-1.0.tar.gz", owner="deploy")
    host.put(HANDMADE.encode(), unit)
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "enable", "--now", "old-pypi.service")
    host.wait_for_port(3141)
    site = of_the_machine(host)
    site.set(port=3141, **SYSTEM)
    argv = ("take-over", "--program", "old-pypi.service", "--packages", packages)
    try:
        assert "leave    systemd: old-pypi.service" in site.ppctl(*argv, "--dry-run").stdout
        assert host.run("systemctl", "is-active", "old-pypi.service").stdout == "active\n"
        site.ppctl(*argv)
        assert "demo-1.0.tar.gz" in host.run("curl", "-sf", "http://127.0.0.1:3141/simple/demo/").stdout
        assert host.read(f"{unit}.taken-over") == HANDMADE
        links = host.run("find", "/etc/systemd/system", "-name", "old-pypi.service").stdout
        assert links == "" and "nothing to change" in site.ppctl(*argv).stdout
    finally:
        site.ppctl("destroy", "--yes", "--purge")


# On the host, as a terminal does: all processes of the group are told, systemctl too.
CTRL_C = """
import os, subprocess, sys, time
restart = sys.argv[1:]
status = ["status" if word == "restart" else word for word in restart]
for number in range(6):
    process = subprocess.Popen(restart, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr.readline() == "restart  worker 1\\n"
    time.sleep(number * 0.03)
    os.killpg(process.pid, 2)
    err = process.communicate()[1]
    assert process.returncode in (130, 0), err  # 0: it was too late
    deadline = time.monotonic() + 60
    while (told := subprocess.run(status, stdout=subprocess.PIPE, text=True)).returncode:
        assert time.monotonic() < deadline, told.stdout
        time.sleep(0.2)
"""


class TestBoth:
    """An index of the machine and one of a user, beside each other."""

    @pytest.fixture(scope="class")
    @classmethod
    def both(cls, host: TestHost) -> Iterator[list[Site]]:
        machine, user = of_the_machine(host), of_the_user(host)
        machine.set(port=3141, **SYSTEM)
        user.set(port=3142, **BASE)
        for site in (machine, user):
            site.ppctl("up")
        yield [machine, user]
        for site in (machine, user):
            site.ppctl("destroy", "--yes", "--purge")

    def test_units_are_hardened(self, host: TestHost, both: list[Site]) -> None:
        names = ["ppctl-pypi.service", "ppctl-pypi@1.service", "ppctl-pypi@2.service"]
        for scope, user in (([], None), (["--user"], "deploy")):
            for name in names:
                done = host.run("systemd-analyze", *scope, "security", "--threshold=29", name, user=user)
                assert "Overall exposure level" in done.stdout

    def test_workers_run_as_the_account(self, host: TestHost, both: list[Site]) -> None:
        for site, account in zip(both, ("pypi", "deploy"), strict=True):
            for pid in site.processes(1):
                assert host.run("ps", "-o", "user=", "-p", str(pid)).stdout.strip() == account

    def test_workers_can_write_nothing_but_packages_and_their_sockets(
        self, host: TestHost, both: list[Site]
    ) -> None:
        for site in both:
            _, pid = site.processes(1)

            def can_write(folder: str, pid: int = pid) -> bool:
                # As root, in the worker's view of the file system: read-only there means for everybody.
                probe = ("nsenter", "--mount", f"--target={pid}", "touch", f"{folder}/.probe")
                return host.run(*probe, check=False).returncode == 0

            assert can_write(f"{site.home}/packages") and can_write(f"{site.home}/run")
            for folder in (site.home, f"{site.home}/releases/current", "/etc", "/usr", "/var/lib", "/opt"):
                assert not can_write(folder), folder

    def test_ctrl_c_leaves_no_worker_stopped(self, both: list[Site]) -> None:
        for site in both:
            site.run("python3", "-c", CTRL_C, *site.ppctl_argv, "restart", "-C", site.home)
            site.wait_until_healthy()

    def test_a_worker_does_not_see_the_network(self, host: TestHost, both: list[Site]) -> None:
        for site in both:
            _, pid = site.processes(1)
            shown = host.run("nsenter", "--net", f"--target={pid}", "ip", "-oneline", "link", "show").stdout
            assert [line.split(":")[1].strip() for line in shown.splitlines()] == ["lo"]

    def test_a_worker_that_watches_and_is_stopped_is_stood_in_for(
        self, host: TestHost, both: list[Site]
    ) -> None:
        """In spite of the sandbox, in which no worker sees another one's process."""
        for site in both:
            lock = host.run("cat", f"{site.home}/run/watch-{store.VERSION}.lock").stdout
            _, watching = site.processes(int(lock.removesuffix(".sock").rpartition("-")[2]))
            host.run("kill", "-STOP", str(watching))
            try:
                host.run("touch", f"{site.home}/packages/by_hand-1.0.zip")
                assert within(5, lambda site=site: site.get("/simple/by-hand/") == 200)  # type: ignore[misc]
            finally:
                host.run("kill", "-CONT", str(watching))

    def test_a_new_port_is_announced_before_it_is_taken(self, both: list[Site]) -> None:
        for site, port in zip(both, (3143, 3144), strict=True):
            before = site.url
            settings = SYSTEM if site.home == HOME else BASE
            site.set(port=port, **settings)
            planned = site.report("plan")["changes"]
            assert [change["interrupts"] for change in planned if change["interrupts"]] == [
                "connections are refused for about a second: the address changes"
            ]
            assert "the address changes" in site.ppctl("up").stderr
            assert site.url != before
            assert site.get("/health") == 200
            assert "nothing to change" in site.ppctl("up").stdout

    def test_a_new_name_takes_everything_along(self, host: TestHost, both: list[Site]) -> None:
        for site, settings, directory in zip(
            both, (SYSTEM, BASE), ("/etc/systemd/system", "/home/deploy/.config/systemd/user"), strict=True
        ):
            site.set(port=site.port, name="renamed", **settings)
            site.ppctl("up")
            assert site.get("/health") == 200
            left = host.run("find", directory, "-name", "*ppctl-pypi*").stdout
            assert left == ""
            assert within(3, lambda: "ppctl-pypi" not in units(host))
            assert "nothing to change" in site.ppctl("up").stdout

    def test_both_are_back_after_a_reboot(self, host: TestHost, both: list[Site]) -> None:
        host.reboot()
        for site in both:
            site.wait_until_healthy()
            assert site.get("/simple/") == 200
            assert "nothing to change" in site.ppctl("up").stdout
