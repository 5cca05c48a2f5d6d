"""Who is measured: each makes an index of its own on every host, with the same files, and keeps it so."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fleet.support import env, inventory
from tests.hosts import TestHost

RECIPE = Path(__file__).parent / "recipe"
USER = "ci-bot"
# Of "a password for the bench", cost 12: nobody has to hash in what is measured.
HASH = "$2y$12$JU/FpgYz0sa5zL0Mbrp4pOPJxXkbXdxDChuPUxAGI7wTwB5cwoCxe"
UNITS = {".socket": "ppctl-pypi.socket", ".service": "ppctl-pypi.service", "@.service": "ppctl-pypi@.service"}
FORKS = "20"


@dataclass(frozen=True)
class Contender:
    """One way to do it. `first` is also what is run again, when there is nothing left to do."""

    name: str
    port: int
    first: Sequence[str]
    adduser: Sequence[str]
    status: Sequence[str]
    cwd: Path

    def run(self, what: str) -> float:
        """Do it and return the seconds it took. RuntimeError with the output when it failed."""
        argv = list(getattr(self, what))
        password = {"stdin": subprocess.DEVNULL}
        if argv[-1] == "--password-stdin":
            password = {"input": f"{time.monotonic()} is a password"}  # type: ignore[dict-item]
        began = time.monotonic()
        done = subprocess.run(
            argv,
            cwd=self.cwd,
            capture_output=True,
            text=True,
            env={**env(), "ANSIBLE_FORKS": FORKS, "ANSIBLE_PIPELINING": "1"},
            check=False,
            **password,  # type: ignore[call-overload]
        )
        took = time.monotonic() - began
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}, {what}: {done.stdout[-4000:]}{done.stderr[-4000:]}")
        return took

    def check(self, machines: Sequence[TestHost]) -> None:
        """Raise OSError where an index does not answer."""
        for host in machines:
            with urllib.request.urlopen(f"http://{host.ip}:{self.port}/simple/", timeout=60) as answer:
                answer.read()


def program(name: str) -> str:
    """Return a program of this virtualenv."""
    return str(Path(sys.executable).with_name(name))


def ppctl(machines: Sequence[TestHost], folder: Path, wheelhouse: Path) -> Contender:
    """What this is about: `ppctl up --on`."""
    variables = {
        "ppctl_host_wheelhouse": str(wheelhouse),
        "ppctl_index_settings": {"host": "0.0.0.0", "manager": "systemd"},
        "ppctl_indexes": [
            {
                "name": "pypi",
                "settings": {"port": 3141},
                "users": [{"name": USER, "password_hash": HASH}],
            }
        ],
    }
    hosts = ["-i", str(inventory(folder / "ppctl.yml", machines, variables))]
    on = [*hosts, "--on", "all"]
    call = [sys.executable, "-m", "ppctl"]
    adduser = [*call, "adduser", "bench", *on, "--password-stdin"]
    return Contender("ppctl", 3141, [*call, "up", *on], adduser, [*call, "status", *on], folder)


def native(machines: Sequence[TestHost], folder: Path, wheelhouse: Path) -> Contender:
    """Ansible's own modules."""
    path = inventory(folder / "native.yml", machines, _variables("native", 3142, folder, wheelhouse))
    call = [program("ansible-playbook"), "-i", str(path)]
    more = ["-e", "user=bench"]
    return Contender(
        "native",
        3142,
        [*call, "native.yml"],
        [*call, "native_adduser.yml", *more],
        [*call, "native_status.yml"],
        RECIPE,
    )


def pyinfra(machines: Sequence[TestHost], folder: Path, wheelhouse: Path) -> Contender:
    """Pyinfra's operations."""
    key = machines[0].ssh_key.with_name("known_hosts").read_text().removeprefix("* ")
    known = folder / "known_hosts"  # with addresses: paramiko knows no pattern
    known.write_text("".join(f"{host.ip} {key}" for host in machines))
    ssh = {
        "ssh_user": "deploy",
        "ssh_key": str(machines[0].ssh_key),
        "ssh_known_hosts_file": str(known),
        "ssh_strict_host_key_checking": "yes",
    }
    path = folder / "pyinfra_hosts.py"
    data = {**ssh, **_variables("pyinfra", 3143, folder, wheelhouse)}
    path.write_text(f"hosts = ({[host.ip for host in machines]!r}, {data!r})\n")
    call = [program("pyinfra"), "-y", str(path)]
    adduser = [*call, "--data", "user=bench", "deploy_adduser.py"]
    return Contender("pyinfra", 3143, [*call, "deploy.py"], adduser, [*call, "deploy_status.py"], RECIPE)


def _variables(name: str, port: int, folder: Path, wheelhouse: Path) -> Mapping[str, Any]:
    return {
        "index": name,
        "home": f"/srv/{name}",
        "port": port,
        "user": USER,
        "password_hash": HASH,
        "files": str(folder / "files"),
        "wheelhouse": str(wheelhouse),
    }


def take_files(host: TestHost, folder: Path) -> None:
    """Make templates of the files that ppctl has written on a host, for the others to write the same."""
    files = folder / "files"
    files.mkdir(exist_ok=True)
    for file in ("server.json", "run-pypi.sh"):
        (files / file).write_text(_template(host.read(f"/srv/pypi/{file}")))
    for file, unit in UNITS.items():
        (files / file).write_text(_template(host.read(f"/etc/systemd/system/{unit}")))


def _template(text: str) -> str:
    for found, variable in (
        ("/srv/pypi", "{{ home }}"),
        ("ppctl-pypi", "ppctl-{{ index }}"),
        ("User=pypi", "User={{ index }}"),
        ("Group=pypi", "Group={{ index }}"),
        ('"pypi"', '"{{ index }}"'),
        ("3141", "{{ port }}"),
    ):
        text = text.replace(found, variable)
    return text
