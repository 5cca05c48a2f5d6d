"""What the tests of the fleet share: a wheelhouse, and Ansible and `--on` as an operator calls them."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests import hosts
from tests.hosts import CHECKOUT, TestHost

SUITES = ("bookworm", "trixie")
PYTHONS = "3.11,3.13"
SITE = CHECKOUT / "ansible" / "site.yml"
PORT = 3141
EVENTS = {"ANSIBLE_STDOUT_CALLBACK": "ppctl.fleet.events"}
"""With these variables a play is told in a way that `changes_in` reads."""

Change = tuple[str, ...]


def build_wheelhouse(folder: Path) -> Path:
    """Build the hosts' wheelhouse with `ppctl wheelhouse`, from wheels that are kept between test runs."""
    links = folder.with_name("links")
    links.mkdir()
    for suite in SUITES:
        for wheel in hosts.ppctl_wheelhouse(suite).glob("*.whl"):
            if not (links / wheel.name).exists():
                os.link(wheel, links / wheel.name)
    argv = [sys.executable, "-m", "ppctl", "wheelhouse", str(folder), "--python", PYTHONS]
    done = subprocess.run(
        [*argv, "--glibc", "36", "--find-links", str(links)], capture_output=True, text=True, check=False
    )
    hosts.succeeded(done, "building the wheelhouse")
    shutil.rmtree(links)
    return folder


def env() -> dict[str, str]:
    """Return the environment for Ansible: this virtualenv's programs first, nothing of the caller's own."""
    keep = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "MOLECULE_"))}
    bin = str(Path(sys.executable).parent)
    return {
        **keep,
        "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}",
        "ANSIBLE_NOCOLOR": "1",
        "PPCTL_HOSTS_RUN": hosts.RUN,
    }


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import a plugin of the collection, such as modules/ppctl_index: without an installed collection."""
    plugins = CHECKOUT / "ansible" / "plugins"
    helpers = "ansible_collections.ppctl.fleet.plugins.module_utils"
    files = {f"{helpers}.{path.stem}": path for path in (plugins / "module_utils").glob("*.py")}
    for parent in accumulate(helpers.split("."), "{}.{}".format):
        monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
    for known, file in {**files, name.replace("/", "_"): plugins / f"{name}.py"}.items():
        spec = importlib.util.spec_from_file_location(known, file)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, known, module)
        spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Play:
    """How a run of ansible-playbook ended."""

    code: int
    out: str

    def changed(self) -> dict[str, int]:
        """Return the number of changes on each host, as the recap says."""
        return self._recap("changed")

    def failed(self) -> dict[str, int]:
        """Return the number of failures on each host; one that was not reached counts, too."""
        unreachable = self._recap("unreachable")
        return {host: count + unreachable[host] for host, count in self._recap("failed").items()}

    def _recap(self, what: str) -> dict[str, int]:
        return {
            host: int(count) for host, count in re.findall(rf"^(\S+)\s+: ok=.*?{what}=(\d+)", self.out, re.M)
        }


def inventory(path: Path, machines: Sequence[TestHost], variables: Mapping[str, Any]) -> Path:
    """Write an inventory of these hosts to `path` and return it."""
    common = {
        "ansible_user": "deploy",
        "ansible_ssh_common_args": f"-F {machines[0].ssh_config}",
        "ansible_python_interpreter": "/usr/bin/python3",
        **variables,
    }
    data = {"all": {"hosts": {host.name: {"ansible_host": host.ip} for host in machines}, "vars": common}}
    path.write_text(yaml.safe_dump(data))
    return path


def play(playbook: Path, inventory: Path, *options: str, cwd: Path = CHECKOUT, **more: str) -> Play:
    """Run ansible-playbook; `more` goes into its environment."""
    argv = ["ansible-playbook", "--inventory", str(inventory), *options, str(playbook)]
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        env={**env(), **more},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return Play(done.returncode, done.stdout + done.stderr)


def changes_in(out: str) -> list[Change]:
    """Return what a play changed: host, module; of an index also action, target (path, user) and diff."""
    found: list[Change] = []
    for text in out.splitlines():
        event = json.loads(text) if text.startswith("{") else {}
        if not event.get("changed"):
            continue
        module = event["action"].rpartition(".")[2]
        changes = [change for part in event["parts"] for change in part.get("changes", [])]
        details = [
            (change["action"], change.get("target") or change["user"], change.get("diff", ""))
            for change in changes
        ]
        found += [(event["host"], module, *detail) for detail in details or [()]]
    return sorted(found)


class Fleet:
    """Hosts with an index `pypi` each, and their inventory."""

    def __init__(
        self,
        machines: list[TestHost],
        folder: Path,
        wheelhouse: Path,
        user: Mapping[str, Any],
        *,
        manager: str = "systemd",
        **more: Any,
    ) -> None:
        self.machines = machines
        self.folder = folder
        self.program = [sys.executable, "-m", "ppctl"]
        self.variables = {
            "ppctl_host_wheelhouse": str(wheelhouse),
            "ppctl_index_settings": {"host": "0.0.0.0", "password": {"bcrypt_cost": 10}},
            "ppctl_indexes": [
                {"name": "pypi", "settings": {"port": PORT, "manager": manager}, "users": [dict(user)]}
            ],
            **more,
        }
        self.inventory = inventory(folder / "hosts.yml", machines, self.variables)

    def site(self, *options: str, **more: str) -> Play:
        """Run the playbook."""
        return play(SITE, self.inventory, *options, **more)

    def argv(self, *argv: str) -> list[str]:
        return [*self.program, *argv, "--inventory", str(self.inventory)]

    def ppctl(self, *argv: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        """Run ppctl, with --on, on the controller; `more` goes into its environment."""
        return subprocess.run(
            self.argv(*argv),
            input=stdin,
            capture_output=True,
            text=True,
            env={**env(), **more},
            cwd=self.folder,
            check=False,
        )

    def on_all(self, *argv: str, stdin: str = "", **more: str) -> dict[str, Any]:
        """Run a command with --on all --json; returns its result."""
        done = self.ppctl(*argv, "--on", "all", "--json", stdin=stdin, **more)
        found: dict[str, Any] = json.loads(done.stdout)["result"]
        assert (done.returncode == 0) == (found["done"] == self.names), done.stdout
        return found

    @property
    def names(self) -> list[str]:
        return [host.name for host in self.machines]

    def is_healthy(self) -> bool:
        return bool(self.on_all("status")["done"] == self.names)

    def url(self, host: TestHost) -> str:
        return f"http://{host.ip}:{PORT}"

    def accepts(self, host: TestHost, user: str, password: str) -> bool:
        """Whether the host accepts the login. It is asked for something that is refused for what it lacks."""
        login = base64.b64encode(f"{user}:{password}".encode()).decode()
        asked = urllib.request.Request(
            self.url(host) + "/", data=b":action=verify", headers={"Authorization": f"Basic {login}"}
        )
        try:
            with urllib.request.urlopen(asked, timeout=30):
                return True
        except urllib.error.HTTPError as e:
            return e.code not in (401, 403)


def freeze_a_worker(host: TestHost) -> None:
    """Freeze the last worker of the host's index: it holds its sockets, and does nothing any more."""
    status = json.loads(host.run("ppctl", "status", "--json").stdout)["result"]
    host.run("kill", "-STOP", "--", f"-{status['workers'][-1]['pid']}")


def check_frozen_workers(fleet: Fleet, host: TestHost) -> None:
    """Freeze a worker of one host: `status --on` says it, `restart --on` mends it; so does the playbook."""
    for mend in (lambda: fleet.on_all("restart")["done"], lambda: [*fleet.site().changed()]):
        freeze_a_worker(host)
        told = fleet.on_all("status")
        assert told["failed"] == [host.name], told
        (status,) = [each["indexes"][0]["result"] for each in told["hosts"] if each["host"] == host.name]
        assert status["health"] == "degraded"
        assert [worker["answers"] for worker in status["workers"]] == [True, False]
        assert mend() == fleet.names
        assert fleet.is_healthy()
