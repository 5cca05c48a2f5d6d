"""The servers that are measured, each on a free port of 127.0.0.1, stopped by its process id."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.server import packages
from tests.server.worker_process import new_home


@dataclass
class Running:
    """A server that answers. `pids` are its process groups' leaders."""

    name: str
    port: int
    pids: list[int]
    simple: str = "/simple/"
    upload: bool = True
    projects: int | None = None
    links: list[str] = field(default_factory=list)

    def memory(self) -> float:
        """Return the memory of all its processes in MB, what they share counted once (PSS)."""
        return sum(_pss(pid) for pid in _family(self.pids)) / 1e3


def ours(root: Path) -> contextlib.AbstractContextManager[Running]:
    """Two workers of ours, as the managers start them."""

    @contextlib.contextmanager
    def run() -> Iterator[Running]:
        with new_home() as home:
            home.packages.rmdir()
            home.packages.symlink_to(root)
            for number in (1, 2):
                home.start(number)
            _wait_for_hashes(home.port)
            yield Running("ppctl", home.port, [worker.process.pid for worker in home.workers])

    return run()


def stock(root: Path) -> contextlib.AbstractContextManager[Running]:
    """`pypi-server` as its documentation starts it."""
    command = ["-m", "pypiserver", "run", "-i", "127.0.0.1", "-p", "{port}", "-a", ".", "-P", "."]
    return process("pypi-server", [sys.executable, *command, "--disable-fallback", str(root)])


def cached(root: Path) -> contextlib.AbstractContextManager[Running]:
    """pypiserver's own cache under gunicorn, two processes of eight threads."""

    @contextlib.contextmanager
    def run() -> Iterator[Running]:
        app = f"pypiserver:app(roots=[{str(root)!r}],authenticate=[],password_file='.',disable_fallback=True)"
        arguments = ["-w", "2", "--threads", "8", "-b", "127.0.0.1:{port}", app]
        with environment("pypiserver[cache]==2.4.2", "gunicorn>=27,<28") as python:
            name = "pypiserver + cache, gunicorn 2 × 8"
            with process(name, [str(python), "-m", "gunicorn", *arguments]) as found:
                yield found

    return run()


@contextlib.contextmanager
def environment(*requirements: str) -> Iterator[Path]:
    """Give the Python of a new virtualenv that has `requirements`."""
    uv = str(Path(sys.executable).with_name("uv"))
    with tempfile.TemporaryDirectory(prefix="ppctl-bench-") as made:
        python = Path(made) / "bin" / "python"
        for command in (
            ["venv", "--quiet", "--allow-existing", made],
            ["pip", "install", "--quiet", "-p", str(python), *requirements],
        ):
            subprocess.run([uv, *command], check=True)
        yield python


def nginx(root: Path) -> contextlib.AbstractContextManager[Running]:
    """nginx with a tree of finished pages: the limit."""

    @contextlib.contextmanager
    def run() -> Iterator[Running]:
        home = root.with_name(f"{root.name}-static")
        shutil.rmtree(home, ignore_errors=True)
        packages.static_tree(root, home / "tree")
        port = free_port()
        (home / "nginx.conf").write_text(
            f"worker_processes 2; daemon off; pid {home}/pid; error_log stderr;\n"
            "events { worker_connections 512; }\n"
            f"http {{ access_log {home}/log; sendfile on; client_body_temp_path {home}/body;"
            f" proxy_temp_path {home}/p; fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u;"
            f" scgi_temp_path {home}/s; default_type application/octet-stream; types {{ text/html html; }}\n"
            f" server {{ listen 127.0.0.1:{port}; root {home}/tree; }} }}\n"
        )
        if os.geteuid() == 0:
            text = (home / "nginx.conf").read_text()
            (home / "nginx.conf").write_text("user root;\n" + text)
        with process("nginx, static tree", ["nginx", "-c", str(home / "nginx.conf")], port) as found:
            found.upload = False
            yield found
        shutil.rmtree(home, ignore_errors=True)

    return run()


def start(root: Path) -> tuple[float, float]:
    """Return the seconds from starting a worker of ours to its first page: without a catalogue, and with."""
    with new_home() as home:
        home.packages.rmdir()
        home.packages.symlink_to(root)
        home.start(1)
        _wait_for_hashes(home.port)
        home.workers[0].kill()
        known = _first_page(home.port, lambda: home.start(1, ready=False))
        home.workers[1].kill()
        for path in (home.path / "run").glob("catalogue-*"):
            path.unlink()
        new = _first_page(home.port, lambda: home.start(1, ready=False))
    return new, known


@contextlib.contextmanager
def process(name: str, command: list[str], port: int | None = None) -> Iterator[Running]:
    port = port or free_port()
    argv = [part.replace("{port}", str(port)) for part in command]
    process = subprocess.Popen(
        argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        _wait_for_port(port, process)
        yield Running(name, port, [process.pid])
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def get(port: int, path: str, timeout: float = 60) -> bytes:
    """Return what is at a path; raises OSError when it is not there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    with contextlib.closing(connection):
        connection.request("GET", path)
        found = connection.getresponse()
        body = found.read()
        if found.status != 200:
            raise OSError(f"{path}: {found.status}")
        return body


def _first_page(port: int, begin: Callable[[], object]) -> float:
    started = time.monotonic()
    begin()
    get(port, "/simple/project-1/")
    return time.monotonic() - started


def _wait_for_hashes(port: int) -> None:
    until = time.monotonic() + 600
    while time.monotonic() < until:
        body = get(port, "/packages/")
        if body.count(b"<a ") == body.count(b"#sha256="):
            return
        time.sleep(1)
    raise AssertionError("the files were not hashed in ten minutes")


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.05)
    raise AssertionError(f"{process.args!r} does not answer")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def _family(pids: list[int]) -> list[int]:
    """Return the processes of process groups."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with contextlib.suppress(OSError, ProcessLookupError):
                if os.getpgid(int(path.name)) in pids:
                    found.append(int(path.name))
    return found


def _pss(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0
