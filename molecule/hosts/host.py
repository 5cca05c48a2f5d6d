"""One host: what is recorded of it, whether it runs, and how to run a command in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import shared
from network import NET
from shared import HOSTS_DIR, HostsError, run

STATE = HOSTS_DIR / "hosts"
SSH = HOSTS_DIR / "ssh"


@dataclass(frozen=True)
class Host:
    """One host, as recorded in its state folder. `run` keeps the hosts of parallel runs apart."""

    run: str
    name: str
    suite: str
    octet: int
    owner: str
    """Who needs the host, see `process_id`; empty: it stays until somebody takes it down."""

    @property
    def dir(self) -> Path:
        return STATE / self.run / self.name

    @property
    def ip(self) -> str:
        return f"{NET}.{self.octet}"

    @property
    def netns(self) -> str:
        return f"ppctl-{self.run}-{self.name}"

    @property
    def cgroup(self) -> Path:
        return cgroup2() / "ppctl-hosts" / f"{self.run}.{self.name}"

    def save(self) -> None:
        self.dir.mkdir(parents=True, exist_ok=True)
        shared.replace(self.dir / "host.json", json.dumps(asdict(self)))

    def describe(self) -> dict[str, str | bool]:
        """Return what a caller needs to reach the host."""
        return {
            "name": self.name,
            "run": self.run,
            "suite": self.suite,
            "ip": self.ip,
            "ssh_key": str(SSH / "id_ed25519"),
            "ssh_config": str(SSH / "config"),
            "running": alive(self),
        }


def load(run_name: str, name: str) -> Host:
    """Return the recorded host; raises HostsError when there is none."""
    try:
        return Host(**json.loads((STATE / run_name / name / "host.json").read_text()))
    except FileNotFoundError:
        raise HostsError(f"there is no host {name!r} in run {run_name!r}") from None


def all_hosts() -> Iterator[Host]:
    for path in sorted(STATE.glob("*/*/host.json")):
        yield load(path.parent.parent.name, path.parent.name)


def process_id(pid: int) -> str:
    """Return `PID:START`, which no other process will ever have; empty when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    state, *fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return "" if state in "ZX" else f"{pid}:{fields[18]}"


def abandoned(host: Host) -> bool:
    """Whether the process that needed the host is gone."""
    return host.owner != "" and process_id(int(host.owner.partition(":")[0])) != host.owner


def cgroup2() -> Path:
    """Return where this machine shows the cgroup2 tree (`…/unified` beside older trees)."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    raise HostsError("this machine shows no cgroup2 tree, which systemd in the hosts needs")


def alive(host: Host) -> bool:
    """Whether a process of the host runs. Asking for a PID will not do: zombies answer as well."""
    with suppress(FileNotFoundError):
        return "populated 1" in (host.cgroup / "cgroup.events").read_text()
    return False


def init_pid(host: Host) -> str | None:
    """Return the PID of the host's systemd, as seen from here, or None while there is none."""
    with suppress(FileNotFoundError):
        return next(iter((host.cgroup / "payload/init.scope/cgroup.procs").read_text().split()), None)
    return None


def exec_argv(host: Host, command: Sequence[str], user: str | None = None) -> list[str]:
    """Return the command line that runs `command` in the host, without ssh."""
    pid = init_pid(host)
    if pid is None:
        raise HostsError(f"host {host.name!r} is off")
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    enter = ["nsenter", "--target", pid, "--all", "env", "-i", path, "LC_ALL=C.UTF-8"]
    if user is None:
        return [*enter, "HOME=/root", "USER=root", "LOGNAME=root", *command]
    # What a login would set; the user's own systemd is found through XDG_RUNTIME_DIR.
    login = 'export HOME="$(getent passwd "$USER" | cut -d: -f6)" XDG_RUNTIME_DIR="/run/user/$(id -u)"'
    script = f'{login}; cd "$HOME" && exec "$@"'
    return [*enter, f"USER={user}", f"LOGNAME={user}",
            "runuser", "-u", user, "--", "sh", "-c", script, "sh", *command]  # fmt: skip


def in_host(host: Host, *command: str) -> str:
    """Return what a command in the host prints, whatever its exit code."""
    return run(*exec_argv(host, command), check=False)
