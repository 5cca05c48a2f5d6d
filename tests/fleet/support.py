"""What the tests of the fleet share: a wheelhouse, and ansible-playbook as an operator calls it."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
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
