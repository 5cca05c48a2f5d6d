"""Where an index under test lives: on this machine or on a booted host. The stories are told on either."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.conftest import UV_CACHE, end_index, pick_port, processes_of
from tests.hosts import TestHost
from tests.server.patience import within
from tests.server.worker_process import basic_auth

CHECKOUT = Path(__file__).parents[2]
FIVE = 5
"""One supervisord and two workers of two processes each: what an embedded index consists of."""
Done = subprocess.CompletedProcess[str]


class Runs(Protocol):
    """Runs programs where the index is, as the user whose index it is."""

    def __call__(self, *argv: str, input: str = "", check: bool = True) -> Done: ...


@dataclass
class Site:
    """An index: how to reach it, and how to work on the machine that it is on."""

    run: Runs
    home: str
    address: str
    port: int
    ppctl_argv: Sequence[str]
    watched: Sequence[str] = ()
    """What lies outside the home: the places of the manager's files."""

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    @property
    def simple_url(self) -> str:
        return f"{self.url}/simple/"

    def ppctl(self, *arguments: str, stdin: str = "", check: bool = True) -> Done:
        """Run `ppctl ARGUMENTS...` on the index."""
        return self.run(*self.ppctl_argv, *arguments, "-C", self.home, input=stdin, check=check)

    def report(self, *arguments: str) -> Any:
        """Return the `result` of `ppctl ARGUMENTS... --json`."""
        return json.loads(self.ppctl(*arguments, "--json").stdout)["result"]

    def set(self, **settings: Any) -> None:
        """Write a ppctl.yml that says these settings and nothing else."""
        text = "".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items())
        self.run("mkdir", "-p", self.home)
        self.run("sh", "-c", 'cat > "$0"', f"{self.home}/ppctl.yml", input=text)
        self.port = int(settings["port"])

    def workers(self) -> list[dict[str, Any]]:
        """Return the workers as `ppctl status` shows them, also of an index that is not well."""
        done = self.ppctl("status", "--json", check=False)
        return list(json.loads(done.stdout)["result"]["workers"])

    def processes(self, number: int) -> tuple[int, int]:
        """Return the pids of a worker: the one that the manager knows, and the one that serves."""
        arbiter = next(worker["pid"] for worker in self.workers() if worker["number"] == number)
        children = self.run("ps", "-o", "pid=", "--ppid", str(arbiter)).stdout.split()
        return arbiter, int(children[0])

    def snapshot(self) -> dict[str, str]:
        """Return inode, time and mode of all that `ppctl up` makes; what the index writes is left out."""
        # Not the time of the last change of the inode: uv links the releases' files to those in its cache.
        done = self.run(
            *("find", self.home, *self.watched),
            *("(", "-path", f"{self.home}/logs", "-o", "-path", f"{self.home}/run", ")", "-prune", "-o"),
            *("!", "-name", ".*lock", "-printf", r"%p\t%i %T@ %m %u:%g\n"),
        )
        return dict(line.split("\t") for line in done.stdout.splitlines())

    def get(self, path: str, login: tuple[str, str] | None = None) -> int:
        """Send one request on a connection of its own, never retried; returns the status."""
        connection = http.client.HTTPConnection(self.address, self.port, timeout=60)
        with contextlib.closing(connection):
            headers = {"Authorization": basic_auth(*login)} if login else {}
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            response.read()
            return response.status

    def wait_until_healthy(self, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while (done := self.ppctl("status", check=False)).returncode != 0:
            assert time.monotonic() < deadline, done.stdout + done.stderr
            time.sleep(0.2)


@dataclass
class Machine:
    """This machine, with a home directory for its user that is not the developer's."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        user = self.folder / "user"
        user.mkdir(exist_ok=True)
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("PPCTL_", "PIP_", "XDG_", "TWINE_"))}
        self.env = {**keep, "HOME": str(user), "UV_CACHE_DIR": UV_CACHE, "LC_ALL": "C.UTF-8", **self.env}

    def run(self, *argv: str, input: str = "", check: bool = True) -> Done:
        done = subprocess.run(
            argv, input=input, capture_output=True, text=True, env=self.env, timeout=300, check=False
        )
        assert not check or done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done


@contextlib.contextmanager
def here(**settings: Any) -> Iterator[Site]:
    """Give the site of an embedded index on this machine; whatever is left of it is ended and removed."""
    # Not pytest's tmp_path: a home's path must leave room for the names of UNIX sockets.
    folder = Path(tempfile.mkdtemp(prefix="ppctl-e2e-"))
    machine = Machine(folder)
    home = folder / "home"
    argv = (sys.executable, "-m", "ppctl")
    site = Site(machine.run, str(home), "127.0.0.1", pick_port(), argv, (f"{folder}/user/.config",))
    try:
        site.set(**{"port": site.port, "password": {"bcrypt_cost": 10}, **settings})
        yield site
    finally:
        end_index(home)
        shutil.rmtree(folder, ignore_errors=True)


def has_processes(home: Path, number: int) -> bool:
    """Return whether so many processes work for the index at `home`, once those that leave have left."""
    return within(3, lambda: len(processes_of(home)) == number)


def units(host: TestHost) -> str:
    """Return the units of ours that the host's systemd knows; it forgets them in its own time."""
    return host.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "ppctl-*").stdout


def on_host(host: TestHost, home: str, *, user: str | None = None, watched: Sequence[str] = ()) -> Site:
    """Return the site of an index on a booted host that has ppctl (see `tests/e2e/conftest.py`)."""

    def run(*argv: str, input: str = "", check: bool = True) -> Done:
        return host.run(*argv, input=input, check=check, user=user)

    return Site(run, home, host.ip, 3141, ("/opt/ppctl/bin/ppctl",), watched)
