"""Every test has a home directory of its own, and nothing that it starts outlives it."""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bcrypt
import hypothesis
import pytest
from hypothesis.internal.conjecture import engine

from tests import cli
from tests.effort import QUICK, examples
from tests.engine import impatient

__all__ = ["impatient"]

ROOT = Path(__file__).parents[1]
UV_CACHE = os.environ.get("UV_CACHE_DIR") or str(Path.home() / ".cache" / "uv")

# Of the developer's environment the tests have uv's cache, for speed, and nothing that is meant for ppctl.
os.environ["UV_CACHE_DIR"] = UV_CACHE
for name in ("PPCTL_HOME", "PPCTL_DEBUG", "NO_COLOR"):
    os.environ.pop(name, None)

RunPpctl = Callable[..., "subprocess.CompletedProcess[str]"]
Ppctl = Callable[..., cli.Ran]
NewHome = Callable[..., Path]


# What a script runs in the background inherits an ignored SIGINT; the programs under test must not.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REQUIRE_ALL = os.environ.get("PPCTL_REQUIRE_ALL") == "1"

# How long an example takes, or making one, says something about the machine, not about the code. CI takes the
# same examples each time, so that it does not fail by chance; `make test` takes others, to find something.
hypothesis.settings.register_profile(
    "ppctl",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    max_examples=examples(150),
    derandomize=REQUIRE_ALL,
)
hypothesis.settings.load_profile("ppctl")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:  # type: ignore[misc]
    """In CI nothing is skipped: a test that would be is a failure, and says why."""
    report = yield
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, with PPCTL_REQUIRE_ALL=1: {report.longrepr}"
    return report


if QUICK:
    # No power goes out between two edits, and waiting for the disk takes longer than most tests do.
    os.fsync = lambda fd: [os.fstat(fd)].clear()
    # Five minutes of looking for the smallest example that fails would look like a test that hangs.
    engine.MAX_SHRINKING_SECONDS = 60

NO_UNIT_TESTS = re.compile(r"^pytestmark = .*\bpytest\.mark\.(e2e|hosts)\b", re.M)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """`make unit` need not import modules without a unit test in them."""
    if QUICK and collection_path.suffix == ".py" and NO_UNIT_TESTS.search(collection_path.read_text()):
        return True
    return None


def pytest_collection_finish() -> None:
    """What has been collected stays until the end: no use in looking for garbage in it again and again."""
    gc.freeze()
    gc.set_threshold(5_000)


@pytest.fixture(scope="session")
def _user_homes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """A function that returns an empty directory: the one of the time before, unless it has been used."""
    base = tmp_path_factory.mktemp("users")
    numbers = itertools.count()
    latest: list[Path] = []

    def empty() -> Path:
        if not latest or not latest[0].is_dir() or any(os.scandir(latest[0])):
            latest[:] = [base / str(next(numbers))]
            latest[0].mkdir()
        return latest[0]

    return empty


@pytest.fixture(autouse=True)
def _own_environment(_user_homes: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests away from the developer's own files."""
    user = str(_user_homes())
    monkeypatch.setenv("HOME", user)
    monkeypatch.setenv("XDG_CONFIG_HOME", f"{user}/.config")
    monkeypatch.setenv("XDG_DATA_HOME", f"{user}/.local/share")
    monkeypatch.setenv("XDG_CACHE_HOME", f"{user}/.cache")


@pytest.fixture
def home(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Path of a home that is not there yet; what an end to end test starts in it is ended after the test."""
    # pytest's own paths are too long for a home; this one is short, and a link to it is not needed.
    path = Path(f"/tmp/ppctl-test-{os.getpid()}-{time.monotonic_ns() % 10**9}")
    yield path
    if any(map(request.node.get_closest_marker, ("e2e", "hosts"))):
        end_index(path)
    _remove(path)


@pytest.fixture
def cheap_bcrypt(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute bcrypt with the fewest rounds, whatever cost a hash names: for tests that are not about time.

    Not in an end to end test: what the other programs compute is the real thing.
    """
    if request.node.get_closest_marker("e2e"):
        return
    compute = bcrypt.hashpw

    def hashpw(password: bytes, salt: bytes) -> bytes:
        return salt[:7] + compute(password, b"$2b$04$" + salt[7:29])[7:]

    monkeypatch.setattr(bcrypt, "hashpw", hashpw)
    monkeypatch.setattr(bcrypt, "checkpw", lambda password, hash: hashpw(password, hash) == hash)


@pytest.fixture
def free_port() -> int:
    """A port of the loopback interface that nobody has."""
    return pick_port()


@pytest.fixture
def unused_port() -> int:
    """Another free port."""
    return pick_port()


PORTS = range(10_000, 30_000)
"""Below those that the kernel hands out itself."""
BLOCK = 250


def pick_port() -> int:
    """Return a port that nobody has, and that no other process that runs tests will pick."""
    ports, _ = _block_of_ports()
    # Rather one of which no closed connection is left, perhaps of the run before (TIME_WAIT, tcp(7)).
    for takes_left in (0, 1):
        for port in itertools.islice(ports, BLOCK):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, takes_left)
                with contextlib.suppress(OSError):
                    probe.bind(("0.0.0.0", port))
                    return port
    raise AssertionError("no free port")


@functools.cache
def _block_of_ports() -> tuple[Iterator[int], socket.socket]:
    """Return the ports of this process, in turn, and what keeps others away from them as long as it lives."""
    for first in PORTS[::BLOCK]:
        claim = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(OSError):
            claim.bind(f"\0ppctl-test-ports-{first}")  # a name without a file, free again with the process
            return itertools.cycle(range(first, first + BLOCK)), claim
        claim.close()
    raise AssertionError("every block of ports is taken by a process that runs tests")


@pytest.fixture
def new_home(home: Path, free_port: int) -> NewHome:
    """A function that writes a ppctl.yml with a free port and the given settings into the home."""

    def make(**settings: Any) -> Path:
        home.mkdir(mode=0o750, exist_ok=True)
        settings = {"port": free_port, **settings}
        (home / "ppctl.yml").write_text("".join(f"{k}: {json.dumps(v)}\n" for k, v in settings.items()))
        return home

    return make


@pytest.fixture
def ppctl() -> Ppctl:
    """Run `ppctl ARGUMENTS...` in this process."""

    def run(*arguments: str | Path, stdin: bytes = b"") -> cli.Ran:
        return cli.ppctl(*map(str, arguments), stdin=stdin)

    return run


@pytest.fixture
def run_ppctl() -> RunPpctl:
    """Run `ppctl ARGUMENTS...` as a process of its own."""

    def run(
        *arguments: str | Path, prefix: tuple[str, ...] = (), **options: Any
    ) -> subprocess.CompletedProcess[str]:
        options = {"timeout": 300, "capture_output": True, "text": True, **options}
        options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(ppctl_argv(*arguments, prefix=prefix), check=False, **options)

    return run


def ppctl_argv(*arguments: str | Path, prefix: tuple[str, ...] = ()) -> list[str]:
    """Return the argv of `ppctl ARGUMENTS...`."""
    return [*prefix, sys.executable, "-m", "ppctl", *map(str, arguments)]


def end_index(home: Path) -> None:
    """End every process of the index at `home`, however the test has left it."""
    with contextlib.suppress(OSError, ValueError):
        _kill([int((home / "run" / "supervisord.pid").read_text())])  # first: it would start the others again
    deadline = time.monotonic() + 5.0
    while (left := processes_of(home)) and time.monotonic() < deadline:
        _kill(left)


def processes_of(home: Path) -> list[int]:
    """Return the pids of the processes that work for the index at `home`."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().split(b"\0")
            in_home = os.readlink(process / "cwd") in (str(home), f"{home} (deleted)")
            if in_home or any(argument.startswith(f"{home}/".encode()) for argument in command):
                found.append(int(process.name))
    return sorted(found)


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 2.0
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Return whether `pid` runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _remove(path: Path) -> None:
    import shutil

    if path.is_symlink() or path.is_file():
        path.unlink()
    shutil.rmtree(path, ignore_errors=True)


def tree(path: Path) -> dict[str, tuple[str, int, bytes | str]]:
    """Return what is at and below `path`: kind, mode and content of everything, by relative path."""
    found: dict[str, tuple[str, int, bytes | str]] = {}
    for each in [path, *paths_below(path)]:
        with contextlib.suppress(FileNotFoundError):  # it has gone meanwhile
            mode = each.lstat().st_mode & 0o7777
            name = str(each.relative_to(path))
            if each.is_symlink():
                found[name] = ("link", mode, os.readlink(each))
            elif each.is_dir():
                found[name] = ("directory", mode, b"")
            elif each.is_file():
                found[name] = ("file", mode, each.read_bytes())
            else:
                found[name] = ("other", mode, b"")
    return found


def paths_below(path: Path) -> list[Path]:
    """Return what is below `path`, in order; unlike rglob() also while somebody is at work there."""
    walked = os.walk(path)
    return sorted(Path(folder, name) for folder, folders, files in walked for name in (*folders, *files))
