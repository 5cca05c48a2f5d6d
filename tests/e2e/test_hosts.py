"""The test hosts themselves: what the other tests on hosts take for granted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import hosts
from tests.host_fixtures import BootHost
from tests.hosts import CHECKOUT, RUN, HostError, TestHost

pytestmark = pytest.mark.hosts


@pytest.fixture(scope="module")
def web1(boot_host: BootHost) -> TestHost:
    return boot_host("web1")


@pytest.fixture(scope="module")
def web2(boot_host: BootHost) -> TestHost:
    return boot_host("web2", suite="trixie")


def traces(run: str = RUN) -> list[str]:
    """Return what this machine has of the hosts of a run, and nothing of anyone else's."""
    namespaces = output("ip", "netns", "list").splitlines()
    cables = output("ip", "-oneline", "link", "show").splitlines()
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    # Not rglob(): other tests' hosts come and go.
    cgroups = [folder for folder, _, _ in os.walk("/sys/fs/cgroup") if f"/ppctl-hosts/{run}." in folder]
    folders = [str(path) for path in hosts_dir().glob(f"hosts/{run}")]
    processes = [line for line in output("ps", "-eo", "args").splitlines() if "systemd-nspawn" in line]
    lines = [*namespaces, *cables, *mounts, *processes]
    of_the_run = [line for line in lines if f"-{run}-" in line or f"/{run}/" in line]
    return [*of_the_run, *cgroups, *folders]


def output(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def hosts_dir() -> Path:
    return Path(os.environ.get("PPCTL_HOSTS_DIR", "/var/tmp/ppctl-hosts"))


def test_a_host_is_a_complete_debian(web1: TestHost, web2: TestHost) -> None:
    for host, version in ((web1, "12"), (web2, "13")):
        assert host.run("systemctl", "is-system-running").stdout == "running\n"
        assert host.run("cat", "/proc/1/comm").stdout == "systemd\n"
        assert host.run("hostname").stdout == f"{host.name}\n"
        assert host.read("/etc/debian_version").startswith(f"{version}.")


@pytest.mark.parametrize("user", ["root", "deploy"])
def test_ssh_works_from_the_controller(web1: TestHost, web2: TestHost, user: str) -> None:
    for host in (web1, web2):
        done = host.ssh(
            "sh", "-c", 'whoami; printf "%s" "$1"; cat', "sh", "it's one word", user=user, input="!"
        )
        assert done.stdout == f"{user}\nit's one word!"


def test_deploy_may_use_sudo(web1: TestHost) -> None:
    assert web1.ssh("sudo", "--non-interactive", "whoami", user="deploy").stdout == "root\n"


def test_hosts_reach_each_other_and_nothing_else(web1: TestHost, web2: TestHost) -> None:
    assert "SSH-2.0" in web1.run("timeout", "60", "bash", "-c", f"head -n1 </dev/tcp/{web2.ip}/22").stdout
    assert web1.run("ip", "route", "show", "default").stdout == ""
    # Asking for the route sends nothing.
    outside = web1.run("ip", "route", "get", "192.0.2.1", check=False)
    assert outside.returncode != 0
    assert "unreachable" in outside.stderr


def test_the_network_of_hosts_never_leaves_this_machine(web1: TestHost) -> None:
    net = web1.ip.rpartition(".")[0]
    assert f"unreachable {net}.0/24" in output("ip", "route", "show", "type", "unreachable")


def test_supervisor_runs(web1: TestHost, web2: TestHost) -> None:
    for host in (web1, web2):
        assert host.run("systemctl", "is-active", "supervisor").stdout == "active\n"
        assert host.run("systemctl", "is-enabled", "supervisor").stdout == "enabled\n"
        host.wait_for("supervisorctl", "pid")  # it is active before it has opened its socket


def test_a_user_has_a_systemd_of_their_own(web1: TestHost) -> None:
    web1.run("loginctl", "enable-linger", "deploy")
    web1.wait_for("systemctl", "--user", "is-system-running", user="deploy")
    unit = "[Service]\nExecStart=/bin/sleep infinity\n"
    web1.put(unit.encode(), "/home/deploy/.config/systemd/user/nap.service")
    web1.run("systemctl", "--user", "start", "nap", user="deploy")
    assert web1.ssh("systemctl", "--user", "is-active", "nap", user="deploy").stdout == "active\n"


def test_run_passes_input_output_and_failure_through(web1: TestHost) -> None:
    assert web1.run("cat", input="grüße\n").stdout == "grüße\n"
    assert web1.run("sh", "-c", "exit 7", check=False).returncode == 7
    assert web1.run("sh", "-c", "pwd; whoami", user="deploy").stdout == "/home/deploy\ndeploy\n"
    with pytest.raises(HostError, match=r"web1: ls /nowhere: exit code 2\n.*No such file"):
        web1.run("ls", "/nowhere")


def test_put_and_read(web1: TestHost, tmp_path: Path) -> None:
    binary = bytes(range(256)) * 4096
    (tmp_path / "file").write_bytes(binary)
    web1.put(tmp_path / "file", "/srv/new/folder/file", mode=0o640, owner="deploy")
    assert web1.run("stat", "-c", "%a %U %s", "/srv/new/folder/file").stdout == f"640 deploy {len(binary)}\n"
    web1.put(b"text\n", "/srv/text")
    assert web1.read("/srv/text") == "text\n"
    with pytest.raises(HostError, match="No such file"):
        web1.read("/srv/missing")


def test_hosts_install_offline(boot_fresh_host: BootHost, ppctl_wheel: Path) -> None:
    hosts.debs("jq", suite="trixie")
    host = boot_fresh_host("offline", suite="trixie", wheels=hosts.ppctl_wheelhouse("trixie"))
    host.run("apt-get", "update", "--quiet")
    host.run("apt-get", "install", "--yes", "--quiet", "jq")
    assert host.run("jq", "--version").stdout.startswith("jq-")
    host.put(ppctl_wheel, f"/srv/{ppctl_wheel.name}")
    host.run("python3", "-m", "venv", "/srv/venv")
    host.run("/srv/venv/bin/pip", "install", "--quiet", f"/srv/{ppctl_wheel.name}", "pypiserver", "gunicorn")
    assert host.run("/srv/venv/bin/ppctl", "--help", user="deploy").stdout.startswith("Usage: ppctl")


def test_reboot(web2: TestHost) -> None:
    web2.run("sh", "-c", "echo kept > /srv/note; echo gone > /run/note")
    web2.reboot()
    assert web2.run("systemctl", "is-system-running").stdout == "running\n"
    assert web2.read("/srv/note") == "kept\n"
    assert web2.run("test", "-e", "/run/note", check=False).returncode == 1
    assert web2.ssh("hostname").stdout == "web2\n"


def test_the_same_name_twice_is_refused_and_harms_nobody(web1: TestHost) -> None:
    with pytest.raises(HostError, match=r"'web1' in run .* already"):
        hosts.boot("web1")
    assert web1.run("true").returncode == 0


def test_destroy_leaves_nothing_behind(boot_fresh_host: BootHost) -> None:
    before = traces()
    host = boot_fresh_host("brief")
    assert len(traces()) > len(before)
    host.destroy()
    assert traces() == before
    host.destroy()


def test_hosts_of_a_killed_creator_are_removed(tmp_path: Path) -> None:
    """Neither TERM handlers nor teardown run after kill -9: the next to come tidies up."""
    hosts.ensure_tools()
    code = """if True:
        import time
        from tests import hosts
        hosts.boot("orphan")
        print(hosts.RUN, flush=True)
        time.sleep(600)
    """
    creator = subprocess.Popen([sys.executable, "-c", code], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
    assert creator.stdout is not None
    run = creator.stdout.readline().strip()
    assert traces(run)
    creator.send_signal(signal.SIGKILL)
    creator.communicate()
    hosts.succeeded(hosts.hosts("down", "--stale"), "down --stale")
    assert traces(run) == []


def test_an_interrupted_up_removes_what_it_began() -> None:
    hosts.ensure_tools()
    run = f"{RUN}hasty"
    booting = subprocess.Popen(
        hosts.hosts_argv("up", "hasty1", "hasty2"), env={**hosts.env(), "PPCTL_HOSTS_RUN": run}
    )
    while not traces(run):
        assert booting.poll() is None
        time.sleep(0.01)
    booting.send_signal(signal.SIGTERM)
    assert booting.wait(timeout=300) == 130
    assert traces(run) == []
