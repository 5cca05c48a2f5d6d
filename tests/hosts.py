"""Real Debian hosts for tests, booted by molecule/hosts (its README tells what a host is like)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
HOSTS = CHECKOUT / "molecule" / "hosts" / "hosts.py"
# Keeps hosts of test sessions that run at the same time apart.
RUN = f"t{os.getpid()}"

# What a release holds, in the very versions that it asks for: newer ones may have come out since.
LOCK = CHECKOUT / "ppctl" / "server" / "requirements-cache.lock"


class HostError(AssertionError):
    """A command in a host failed, or a host could not be booted; the text has its output."""


@dataclass(frozen=True)
class TestHost:
    """A booted host."""

    __test__ = False  # for pytest: not a class of tests

    name: str
    ip: str
    suite: str
    ssh_key: Path
    ssh_config: Path

    @property
    def written(self) -> Path:
        """The files that the host has written since its base, as seen from this machine."""
        return self.ssh_config.parents[1] / "hosts" / RUN / self.name / "upper"

    def run(
        self,
        *argv: str | Path,
        check: bool = True,
        input: str | None = None,
        user: str | None = None,
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the host, as root or as `user`, without ssh.

        Raises HostError when it fails and `check` is set, subprocess.TimeoutExpired when it takes too long.
        """
        who = () if user is None else ("--user", user)
        done = hosts("exec", *who, self.name, *argv, input=input, timeout=timeout)
        return succeeded(done, f"{self.name}: {show(argv)}") if check else done

    def wait_for(self, *argv: str, user: str | None = None, seconds: float = 120) -> None:
        """Run a command in the host until it succeeds; raises HostError when it does not in time."""
        deadline = time.monotonic() + seconds
        while (done := self.run(*argv, check=False, user=user)).returncode != 0:
            if time.monotonic() > deadline:
                succeeded(done, f"{self.name}: for {seconds:g} s: {show(argv)}")
            time.sleep(0.1)

    def wait_for_port(self, port: int) -> None:
        """Wait until somebody listens on a port of the host."""
        self.wait_for("sh", "-c", f"ss -Hltn 'sport = :{port}' | grep -q .")

    def ssh(
        self, *argv: str, check: bool = True, input: str | None = None, user: str = "root"
    ) -> subprocess.CompletedProcess[str]:
        """Run a command through ssh, as a person would: a real login, over the network."""
        import shlex

        command = ["ssh", "-F", str(self.ssh_config), f"{user}@{self.ip}", shlex.join(argv)]
        done = subprocess.run(command, capture_output=True, text=True, input=input or "", check=False)
        return succeeded(done, f"{user}@{self.name}: {show(argv)}") if check else done

    def put(self, local: Path | bytes, remote: str | Path, mode: int = 0o644, owner: str = "root") -> None:
        """Copy a file (or write these bytes) to the host, with the folders above it."""
        content = local if isinstance(local, bytes) else local.read_bytes()
        install = ("install", "-D", f"--mode={mode:o}", f"--owner={owner}", "/dev/stdin", str(remote))
        done = subprocess.run(
            hosts_argv("exec", self.name, *install),
            input=content,
            capture_output=True,
            env=env(),
            check=False,
        )
        if done.returncode != 0:
            raise HostError(f"{self.name}: cannot write {remote}: {done.stderr.decode()}")

    def read(self, path: str | Path) -> str:
        """Return the content of a text file in the host; raises HostError when it cannot be read."""
        return self.run("cat", path).stdout

    def reboot(self) -> None:
        """Reboot, and wait until sshd answers again and every unit has settled."""
        succeeded(hosts("reboot", self.name), f"reboot {self.name}")

    def destroy(self) -> None:
        """Remove the host and all it wrote. Once more is fine."""
        succeeded(hosts("down", self.name), f"down {self.name}")


def boot(*names: str, suite: str = "bookworm", wheels: Path | None = None) -> list[TestHost]:
    """Boot hosts at once, and return them; they are removed with this process at the latest.

    `wheels` is what the hosts see as /opt/wheels. Raises HostError when they do not come up.
    """
    options = ["--suite", suite, "--owner", str(os.getpid())]
    if wheels:
        options += ["--wheels", str(wheels)]
    done = succeeded(hosts("up", *options, *names), f"up {' '.join(names)}")
    booted = [json.loads(line) for line in done.stdout.splitlines()]
    return [
        TestHost(host["name"], host["ip"], host["suite"], Path(host["ssh_key"]), Path(host["ssh_config"]))
        for host in booted
    ]


def wheelhouse(*requirements: str, suite: str = "bookworm", files: Sequence[Path] = ()) -> Path:
    """Return a folder with wheels for the hosts' Python, from the cache if it was built before.

    It has the requirements, those of `files` (a lock file, a pyproject.toml), and all they need.
    Raises HostError when one cannot be had as a wheel.
    """
    options = [option for file in files for option in ("-r", str(file))]
    done = hosts("wheels", "--suite", suite, *options, *requirements)
    return Path(succeeded(done, "building a wheelhouse").stdout.strip())


def debs(*packages: str, suite: str = "bookworm") -> None:
    """Make Debian packages, and what they need, installable in hosts of `suite`."""
    succeeded(hosts("debs", "--suite", suite, *packages), f"fetching {' '.join(packages)}")


def ppctl_wheelhouse(suite: str = "bookworm") -> Path:
    """Return a folder with everything that ppctl and its servers need, but not ppctl itself."""
    return wheelhouse("setuptools", "pip", suite=suite, files=[CHECKOUT / "pyproject.toml", LOCK])


def build_wheel(folder: Path) -> Path:
    """Build a wheel of this checkout into `folder` and return it."""
    argv = [
        sys.executable,
        "-m",
        "uv",
        "build",
        "--quiet",
        "--wheel",
        "--out-dir",
        str(folder),
        str(CHECKOUT),
    ]
    succeeded(subprocess.run(argv, capture_output=True, text=True, check=False), "building ppctl's wheel")
    (wheel,) = folder.glob("ppctl-*.whl")
    return wheel


def install_ppctl(host: TestHost, wheel: Path) -> None:
    """Install a wheel of ppctl in the host, into /opt/ppctl, from the wheels that the host has."""
    host.put(wheel, f"/srv/{wheel.name}")
    host.run("python3", "-m", "venv", "/opt/ppctl")
    host.run("/opt/ppctl/bin/pip", "install", "--quiet", f"/srv/{wheel.name}")


def ensure_tools() -> None:
    """Skip the test where hosts cannot be booted, saying why; with PPCTL_REQUIRE_ALL=1 it fails instead."""
    done = hosts("check")
    if done.returncode == 0:
        return
    reason = done.stderr.strip()
    if os.environ.get("PPCTL_REQUIRE_ALL") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def hosts(
    *arguments: str | Path, input: str | None = None, timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run molecule/hosts/hosts.py and return how it ended."""
    return subprocess.run(
        hosts_argv(*arguments),
        input=input or "",
        capture_output=True,
        text=True,
        env=env(),
        timeout=timeout,
        check=False,
    )


def hosts_argv(*arguments: str | Path) -> list[str]:
    return [sys.executable, str(HOSTS), *map(str, arguments)]


def env() -> dict[str, str]:
    return {**os.environ, "PPCTL_HOSTS_RUN": RUN}


def succeeded(done: subprocess.CompletedProcess[str], what: str) -> subprocess.CompletedProcess[str]:
    """Return `done`; raises HostError with its output when it failed."""
    if done.returncode != 0:
        raise HostError(f"{what}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def show(argv: Sequence[str | Path]) -> str:
    return " ".join(map(str, argv))
