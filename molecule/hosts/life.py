"""The life of hosts: boot, reboot, remove."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import base
import network
import offline
from host import SSH, STATE, Host, abandoned, alive, all_hosts, cgroup2, in_host, init_pid, process_id
from network import NET
from shared import HostsError, locked, remove, run

HERE = Path(__file__).resolve().parent
# Addresses and the bridge belong to the machine, not to a folder: so does the lock.
MACHINE_LOCK = Path("/run/ppctl-hosts.lock")
BOOT_SECONDS = 240
START_SECONDS = 20

TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "nsenter": "util-linux",
    "unshare": "util-linux",
}


def up(specs: Sequence[str], run_name: str, suite: str, owner: int | None, wheels: Path | None) -> list[Host]:
    """Boot hosts (`NAME` or `NAME:OCTET`) and return them when each is up.

    Whatever goes wrong, and when interrupted, all of them are removed again.
    Raises HostsError when a name or an address is taken, or a host does not come up.
    """
    ensure_tools()
    root = base.build(suite)
    # Until they are up the hosts are ours: should we be killed, the next `up` removes them.
    me, owner_id = process_id(os.getpid()), process_id(owner) if owner else ""
    if owner and not owner_id:
        raise HostsError(f"the owner, process {owner}, is not running")
    hosts: list[Host] = []
    try:
        with locked(MACHINE_LOCK):
            remove_abandoned()
            network.prepare_machine()
            make_ssh_files()
            for spec in specs:
                name, _, octet = spec.partition(":")
                host = Host(run_name, name, suite, network.free_octet(octet), me)
                check_name(host)
                hosts.append(host)
                start(host, root, wheels)
        for host in hosts:
            wait_until_up(host)
        hosts = [replace(host, owner=owner_id) for host in hosts]
        for host in hosts:
            host.save()
    except BaseException:
        down(hosts)
        raise
    return hosts


def ensure_tools() -> None:
    """Raise HostsError saying what is missing, when this machine cannot boot hosts."""
    if os.geteuid() != 0:
        raise HostsError("booting test hosts needs root")
    missing = sorted({package for tool, package in TOOLS.items() if not shutil.which(tool)})
    if not base.KEYRING.exists():
        missing.append("debian-archive-keyring")
    if missing:
        raise HostsError(f"run molecule/hosts/install-tools: {' '.join(missing)} not installed")
    cgroup2()


def check_name(host: Host) -> None:
    """Raise HostsError when a host cannot have this name."""
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,40}", host.name) or not re.fullmatch(r"[a-z0-9-]{1,40}", host.run):
        raise HostsError(f"bad name {host.name!r} in run {host.run!r}: use a-z, 0-9 and -")
    if host.dir.exists() or alive(host):  # alive without its folder: from another PPCTL_HOSTS_DIR
        raise HostsError(f"there is a host {host.name!r} in run {host.run!r} already")


def make_ssh_files() -> None:
    """Make one key pair for us and one for all the hosts, so that one line of known_hosts fits them all."""
    if SSH.is_dir():
        return
    new = SSH.with_suffix(".new")
    remove(new)
    new.mkdir(mode=0o700, parents=True)
    for name in ("id_ed25519", "host_ed25519"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"ppctl-{name}", "-f", new / name)
    (new / "known_hosts").write_text(f"* {(new / 'host_ed25519.pub').read_text()}")
    (new / "config").write_text(
        f"IdentityFile {SSH}/id_ed25519\nIdentitiesOnly yes\n"
        f"UserKnownHostsFile {SSH}/known_hosts\nStrictHostKeyChecking yes\n"
        "BatchMode yes\nLogLevel ERROR\n"
    )
    new.rename(SSH)


def start(host: Host, root: Path, wheels: Path | None) -> None:
    """Start a host; `root` is its base. What is made here, `destroy` removes."""
    host.save()
    host.cgroup.mkdir(parents=True, exist_ok=True)
    for name in ("root", "work", "upper"):
        (host.dir / name).mkdir()
    write_host_files(host, host.dir / "upper/etc")
    network.connect(host.octet, host.netns)
    argv: list[str | Path] = [
        "unshare", "--mount", "--propagation", "private", HERE / "run-host.sh", host.cgroup, root, host.dir,
        f"--machine={host.name}", f"--hostname={host.name}",
        f"--network-namespace-path=/run/netns/{host.netns}", "--capability=CAP_NET_ADMIN",
        f"--bind-ro={offline.debs_dir(host.suite)}:/opt/debs",
    ]  # fmt: skip
    if wheels:
        argv.append(f"--bind-ro={wheels.resolve()}:/opt/wheels")
    with (host.dir / "console.log").open("wb") as log:
        subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
        )


def write_host_files(host: Host, etc: Path) -> None:
    """Write what distinguishes a host from its base into the upper layer of its overlay."""
    (etc / "ssh").mkdir(parents=True)
    (etc / "hostname").write_text(f"{host.name}\n")
    (etc / "hosts").write_text(f"127.0.0.1 localhost\n{host.ip} {host.name}\n{NET}.1 controller\n")
    shutil.copy(SSH / "id_ed25519.pub", etc / "ssh/ppctl_authorized_keys")
    for suffix in ("", ".pub"):
        shutil.copy(SSH / f"host_ed25519{suffix}", etc / f"ssh/ssh_host_ed25519_key{suffix}")


def wait_until_up(host: Host, wanted: Sequence[str] = ("running",)) -> None:
    """Wait until sshd answers and every unit has settled; raises HostsError when that is not so in time."""
    deadline = time.monotonic() + BOOT_SECONDS
    state = "off"
    while time.monotonic() < deadline:
        # The banner first: `running` alone does not say that sshd listens.
        if sshd_answers(host.ip) and init_pid(host):
            state = in_host(host, "systemctl", "is-system-running", "--wait").strip()
            if state in wanted:
                return
            if state == "degraded":
                failed = in_host(host, "systemctl", "--failed", "--plain", "--no-legend")
                raise HostsError(f"{host.name} is up, but units failed:\n{failed}")
        time.sleep(0.05)
        if not alive(host) and time.monotonic() > deadline - BOOT_SECONDS + START_SECONDS:
            break
    log = (host.dir / "console.log").read_text(errors="replace")
    raise HostsError(f"{host.name} did not come up (it is {state}). Its console:\n{log[-2000:]}")


def sshd_answers(address: str) -> bool:
    with suppress(OSError), socket.create_connection((address, 22), timeout=2) as connection:
        return connection.recv(4) == b"SSH-"
    return False


def reboot(host: Host) -> None:
    """Reboot and wait until the host is up again, with failed units or without."""
    before = init_pid(host)
    in_host(host, "systemctl", "reboot")
    deadline = time.monotonic() + BOOT_SECONDS
    while init_pid(host) in (before, None):
        if time.monotonic() > deadline:
            raise HostsError(f"{host.name} does not reboot")
        time.sleep(0.05)
    wait_until_up(host, ("running", "degraded"))


def down(hosts: Sequence[Host]) -> None:
    with locked(MACHINE_LOCK):
        for host in hosts:
            destroy(host)


def down_stale() -> None:
    with locked(MACHINE_LOCK):
        remove_abandoned()


def remove_abandoned() -> list[Host]:
    """Remove, and return, the hosts whose owner is gone. Call it with the machine's lock held."""
    for folder in STATE.glob("*/*"):
        if not (folder / "host.json").exists():  # killed before it began
            remove(folder)
    gone = [host for host in all_hosts() if abandoned(host)]
    for host in gone:
        destroy(host)
    return gone


def destroy(host: Host) -> None:
    """Remove every trace of a host; parts that are not there (any more) are fine."""
    kill(host)
    network.disconnect(host.octet, host.netns)
    remove(host.dir)
    for parent in (host.dir.parent, host.cgroup.parent):
        with suppress(OSError):  # there are others
            parent.rmdir()


def kill(host: Host) -> None:
    """End every process of the host, and nothing else: its cgroup knows them all."""
    deadline = time.monotonic() + 120
    while host.cgroup.exists():
        with suppress(FileNotFoundError):
            (host.cgroup / "cgroup.kill").write_text("1")
        for folder, _, _ in os.walk(host.cgroup, topdown=False):
            with suppress(OSError):  # busy until the last process has ended
                Path(folder).rmdir()
        if time.monotonic() > deadline:
            raise HostsError(f"processes of {host.name} do not end: see {host.cgroup}/cgroup.procs")
        time.sleep(0.02)
