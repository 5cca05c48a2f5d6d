"""`--on` on five hosts: clients install meanwhile; what can go wrong does, and the next run heals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from ppctl import wheelhouse as wheelhouses
from ppctl.server import htpasswd
from tests import hosts
from tests.e2e.load import Load
from tests.fleet.support import PORT, Fleet, env
from tests.hosts import TestHost
from tests.server.patience import within

pytestmark = [pytest.mark.hosts, pytest.mark.xdist_group("fleet")]

NAMES = ("f1", "f2", "f3", "f4", "f5")
LOGIN = ("ci-bot", "Walrus-basket-3-fleet")


class Five(Fleet):
    """Five hosts, and ppctl from a wheel, called outside the checkout."""

    def __init__(self, machines: list[TestHost], folder: Path, wheelhouse: Path) -> None:
        super().__init__(machines, folder, wheelhouse, {"name": LOGIN[0], "password": LOGIN[1]})
        self.program = [str(install(folder))]

    def start(self, *argv: str) -> subprocess.Popen[str]:
        """Start a command, in a session of its own so that only it can be told to stop."""
        return subprocess.Popen(
            self.argv(*argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env(),
            cwd=self.folder,
            start_new_session=True,
        )


def install(folder: Path) -> Path:
    """Install the wheel with the extra `fleet` into a virtualenv, as an operator does; returns its ppctl."""
    uv = [sys.executable, "-m", "uv"]
    venv = folder / "venv"
    wheel = hosts.build_wheel(folder)
    for argv in (
        ["venv", "--quiet", "--python", sys.executable, str(venv)],
        [
            "pip",
            "install",
            "--quiet",
            "--python",
            str(venv / "bin" / "python"),
            f"ppctl[fleet] @ {wheel.as_uri()}",
        ],
    ):
        hosts.succeeded(subprocess.run([*uv, *argv], capture_output=True, text=True, check=False), argv[0])
    return venv / "bin" / "ppctl"


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory, wheelhouse: Path) -> Iterator[Five]:
    """Five indexes, made with one command of an installed ppctl."""
    hosts.ensure_tools()
    machines = hosts.boot(*NAMES)
    try:
        made = Five(machines, tmp_path_factory.mktemp("faults"), wheelhouse)
        first = made.ppctl("up", "--on", "all")
        assert first.returncode == 0, first.stdout + first.stderr
        yield made
    finally:
        for host in machines:
            host.destroy()


def test_users_and_restarts_disturb_no_client_that_installs(five: Five, tmp_path: Path) -> None:
    wheel = wheelhouses.own_wheel(tmp_path)
    loads = []
    for number, host in enumerate(five.machines):
        load = Load(host.ip, PORT, LOGIN)
        load.upload(wheel.name, wheel.read_bytes())
        load.kept_alive("/simple/ppctl/", [0.2])
        load.run_beside("install", installer(host, tmp_path / str(number)), 0.3)
        loads.append(load)
    for load in loads:
        load.start()
    try:
        clients_go_on(loads)
        five.on_all("adduser", "ann", "--password-stdin", stdin="first-password")
        assert logins(five, "ann", "first-password") == [True] * 5
        clients_go_on(loads)
        five.on_all("passwd", "ann", "--password-stdin", stdin="second-password")
        assert logins(five, "ann", "first-password") == [False] * 5
        assert logins(five, "ann", "second-password") == [True] * 5
        clients_go_on(loads)
        found = five.on_all("restart")
        clients_go_on(loads)
    finally:
        for load in loads:
            load.finish()
    restarted = [each["result"]["workers"] for host in found["hosts"] for each in host["indexes"]]
    assert restarted == [[1, 2]] * 5
    assert [load.failures for load in loads] == [[]] * 5
    stored = {host.read("/srv/pypi/htpasswd").partition("ann:")[2].strip() for host in five.machines}
    assert len(stored) == 1, "it is hashed once, for all of them"


def clients_go_on(loads: Sequence[Load]) -> None:
    """Wait until each client of each host has begun something now, and finished it, or failed."""
    before = [dict(load.done) for load in loads]
    assert within(
        12,
        lambda: all(
            load.failures
            or all(load.done[client] >= was.get(client, 0) + 2 for client in ("install", "kept"))
            for load, was in zip(loads, before, strict=True)
        ),
    ), "a client makes no progress"


def logins(five: Five, user: str, password: str) -> list[bool]:
    """Return for each host whether it accepts this login, just now."""
    return [five.accepts(host, user, password) for host in five.machines]


def installer(host: TestHost, target: Path) -> Callable[[], None]:
    """Return what installs the package with uv, downloading it anew each time."""
    argv = [sys.executable, "-m", "uv", "pip", "install", "--no-cache", "--no-deps", "--reinstall", "--quiet"]
    options = ["--target", str(target), "--default-index", f"http://{host.ip}:{PORT}/simple/", "ppctl"]

    def once() -> None:
        # By itself uv tries again; here whoever fails once has failed.
        clean = {key: value for key, value in env().items() if not key.startswith(("UV_", "PIP_"))}
        done = subprocess.run(
            [*argv, *options],
            capture_output=True,
            text=True,
            env={**clean, "UV_HTTP_RETRIES": "0"},
            check=False,
        )
        if done.returncode != 0:
            raise AssertionError(done.stderr)

    return once


@contextmanager
def held(machines: Sequence[TestHost]) -> Iterator[None]:
    """Hold the lock of the indexes, so that a command that changes one is at work there for as long."""
    try:
        for host in machines:
            host.run("systemd-run", "--quiet", "--unit=holder", "flock", "/srv/pypi/.lock", "sleep", "600")
        assert within(12, lambda: all(is_locked(host) for host in machines)), "nobody holds the lock"
        yield
    finally:
        for host in machines:
            host.run("systemctl", "stop", "holder", check=False)


def is_locked(host: TestHost) -> bool:
    """Whether somebody holds the lock of the host's index."""
    return host.run("flock", "-n", "/srv/pypi/.lock", "true", check=False).returncode == 1


def at_work(host: TestHost) -> bool:
    """Whether a ppctl that waits for its turn runs on the host."""
    return host.run("pgrep", "-f", "bin/ppctl restart", check=False).returncode == 0


def test_hosts_that_are_lost_while_they_work(five: Five) -> None:
    _, killed, cut, rebooted, _ = five.machines
    before = [host.read("/srv/pypi/htpasswd") for host in five.machines]
    lost = [killed, cut, rebooted]
    with held(lost):
        running = five.start("restart", "--on", "all", "--json")
        assert within(12, lambda: all(at_work(host) for host in lost)), "they do not begin"
        killed.run("pkill", "-KILL", "-u", "deploy", "-f", "sshd")
        link(cut, "down")
        rebooted.reboot()
        out, err = running.communicate(timeout=300)
    link(cut, "up")
    assert running.returncode == 1, out + err
    found = json.loads(out)["result"]
    assert (found["done"], found["failed"]) == (["f1", "f5"], ["f2", "f3", "f4"])
    said = {host["host"]: host["message"] for host in found["hosts"]}
    assert all("ssh" in said[name] or "onnection" in said[name] for name in ("f2", "f3", "f4")), said
    again = five.on_all("restart")
    assert again["done"] == list(NAMES)
    assert five.is_healthy()
    assert [host.read("/srv/pypi/htpasswd") for host in five.machines] == before


def is_there(group: int) -> bool:
    """Whether a process of the group is there still."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def link(host: TestHost, state: str) -> None:
    """Pull the host's cable, or put it back."""
    octet = host.ip.rpartition(".")[2]
    subprocess.run(["ip", "link", "set", f"pph{octet}", state], check=True)


def test_hosts_that_cannot_are_named_and_the_same_command_finishes_the_rest(five: Five) -> None:
    _, locked, bare, full, _ = five.machines
    locked.run("sh", "-c", "echo 'deploy:open sesame' | chpasswd")
    locked.put(b"deploy ALL=(ALL) ALL\n", "/etc/sudoers.d/deploy", mode=0o440)
    bare.run("mv", "/usr/bin/python3", "/usr/bin/python3.away")
    wrong, right = (five.folder / name for name in ("wrong", "right"))
    wrong.write_text("open barley\n")
    right.write_text("open sesame\n")
    adduser = ("adduser", "kim", "--password-stdin")
    with full_disk(full):
        done = five.ppctl(
            *adduser, "--on", "all", stdin="kims-password", ANSIBLE_BECOME_PASSWORD_FILE=str(wrong)
        )
    bare.run("mv", "/usr/bin/python3.away", "/usr/bin/python3")
    assert done.returncode == 1
    rows = {line.split()[0]: line for line in done.stdout.splitlines()[1:]}
    assert "kim added" in rows["f1"] and "kim added" in rows["f5"]
    assert "ncorrect sudo password" in rows["f2"] and "hint: -K asks for sudo's password" in done.stderr
    assert "python3" in rows["f3"] and "not found" in rows["f3"] and "hint: install Python" in done.stderr
    assert "No space left" in rows["f4"]
    assert "done: f1, f5; not done: f2, f3, f4" in done.stderr
    found = five.on_all(*adduser, stdin="kims-password", ANSIBLE_BECOME_PASSWORD_FILE=str(right))
    assert [host["host"] for host in found["hosts"] if host["changed"]] == ["f2", "f3", "f4"]
    locked.put(b"deploy ALL=(ALL) NOPASSWD: ALL\n", "/etc/sudoers.d/deploy", mode=0o440)
    for host in five.machines:
        users = dict(line.split(":", 1) for line in host.read("/srv/pypi/htpasswd").splitlines())
        assert "ci-bot" in users and htpasswd.verify("kims-password", users["kim"])
        with urllib.request.urlopen(f"http://{host.ip}:{PORT}/simple/", timeout=60) as answer:
            assert answer.status == 200


@contextmanager
def full_disk(host: TestHost) -> Iterator[None]:
    """Put a full file system with the index's own files in the place of its home."""
    script = """
        mkdir -p /mnt/small && mount -t tmpfs -o size=256k tmpfs /mnt/small
        cp -a /srv/pypi/.manifest.json /srv/pypi/ppctl.yml /srv/pypi/htpasswd /srv/pypi/audit.log /mnt/small
        dd if=/dev/zero of=/mnt/small/filling bs=1k status=none || true
        mount --bind /mnt/small /srv/pypi
    """
    host.run("sh", "-ec", script)
    try:
        yield
    finally:
        host.run("umount", "/srv/pypi", "/mnt/small")


def test_a_name_that_is_no_host_is_no_host_that_is_done(five: Five) -> None:
    done = five.ppctl("restart", "--on", "f1,f6")
    assert done.returncode == 1 and "no host and no group of the inventory matches 'f6'" in done.stderr


def test_two_controllers_at_once_take_turns(five: Five) -> None:
    commands = (("restart",), ("restart",), ("passwd", "kim", "--password-stdin"))
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda argv: five.on_all(*argv, stdin="another-password"), commands))
    assert [each["done"] for each in found] == [list(NAMES)] * 3
    assert five.is_healthy()
    # Who will not wait is told who is at work.
    f1 = five.machines[0]
    f1.run("sh", "-c", 'echo \'{"pid": 4711, "user": "olga", "purpose": "up"}\' > /srv/pypi/.lock')
    with held([f1]):
        done = five.ppctl("restart", "--no-wait", "--on", "f1")
    assert done.returncode == 1
    assert "another ppctl is at work on this index" in done.stdout and "olga" in done.stdout


def test_after_ctrl_c_it_says_who_had_answered(five: Five) -> None:
    slow = five.machines[1]
    with held([slow]):
        running = five.start("restart", "--on", "f1,f2")
        assert within(12, lambda: at_work(slow)), "it does not begin"
        os.kill(running.pid, signal.SIGINT)
        out, err = running.communicate(timeout=300)
    assert within(3, lambda: not is_there(running.pid)), "something goes on unseen"
    assert running.returncode == 130, out + err
    assert "done: f1; not done: f2" in err
    assert five.is_healthy()
