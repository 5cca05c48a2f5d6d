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
from functools import partial
from pathlib import Path

import bcrypt

from benchmarks.server import packages
from tests.server.worker_process import Home, Worker, basic_auth, new_home, upload_form

_USER, _PASSWORD = "bench", "a password for the bench"


@dataclass
class Running:
    """A server that answers. `pids` are its process groups' leaders.

    `put` uploads a file, `put_with_token` as only the server's own client does. `everyone` asks each worker
    for a path. `headers` go with each request of wrk.
    """

    name: str
    port: int
    pids: list[int]
    simple: str = "/simple/"
    big: str = f"/packages/{packages.BIG_NAME}"
    files: list[str] | None = None
    put: Callable[[str, bytes], None] | None = None
    put_with_token: Callable[[str, bytes], None] | None = None
    everyone: list[Callable[[str], bytes]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    home: Home | None = None

    def memory(self) -> float:
        """Return the memory of all its processes in MB, what they share counted once (PSS)."""
        return sum(_pss(pid) for pid in _family(self.pids)) / 1e3


@contextlib.contextmanager
def ours(root: Path) -> Iterator[Running]:
    """Two workers of ours, as the managers start them, without logins."""
    with new_home() as home:
        yield _start(Running("ppctl", home.port, [], home=home), root)


@contextlib.contextmanager
def ours_with_login(root: Path) -> Iterator[Running]:
    """The same, where everything needs a login; its hash is bcrypt of the cost that ppctl chooses."""
    with new_home(login=["list", "download", "upload"]) as home:
        login = {"Authorization": basic_auth(_USER, _PASSWORD)}
        found = Running("ppctl, with a login", home.port, [], headers=login, home=home)
        new_hash(found)
        yield _start(found, root)


def _start(found: Running, root: Path) -> Running:
    home = found.home
    assert home
    home.packages.rmdir()
    home.packages.symlink_to(root)
    workers = [home.start(number, ready=False) for number in (1, 2)]
    for worker in workers:
        worker.wait_until_ready(120)
    _wait_for_hashes(home.port, found.headers)
    found.pids = [worker.process.pid for worker in workers]
    found.put = lambda name, content: _put(home.port, name, content, found.headers)
    found.everyone = [partial(_ask, worker, found.headers) for worker in workers]
    return found


@contextlib.contextmanager
def stock(root: Path) -> Iterator[Running]:
    """`pypi-server` as its documentation starts it."""
    command = ["-m", "pypiserver", "run", "-i", "127.0.0.1", "-p", "{port}", "-a", ".", "-P", "."]
    command = [sys.executable, *command, "--disable-fallback", str(root)]
    with process("pypi-server", command) as found:
        found.put = lambda name, content: _put(found.port, name, content)
        yield found


@contextlib.contextmanager
def cached(root: Path) -> Iterator[Running]:
    """pypiserver's own cache under gunicorn, two processes of eight threads."""
    app = f"pypiserver:app(roots=[{str(root)!r}],authenticate=[],password_file='.',disable_fallback=True)"
    arguments = ["-w", "2", "--threads", "8", "-b", "127.0.0.1:{port}", app]
    with environment("pypiserver[cache]==2.4.2", "gunicorn>=27,<28") as python:
        name = "pypiserver + cache, gunicorn 2 × 8"
        with process(name, [str(python), "-m", "gunicorn", *arguments]) as found:
            found.put = lambda name, content: _put(found.port, name, content)
            # Several times: one cannot choose which worker answers.
            found.everyone = [lambda path: get(found.port, path)] * 4
            yield found


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


@contextlib.contextmanager
def nginx(root: Path, pages: Running) -> Iterator[Running]:
    """nginx with a tree of finished pages, the same as `pages` answers: the limit."""
    home = root.with_name(f"{root.name}-static")
    (home / "tree").mkdir(parents=True)
    (home / "tree" / "packages").symlink_to(root)
    _mirror(root, home / "tree" / "simple", pages.port)
    port = free_port()
    (home / "nginx.conf").write_text(
        f"worker_processes 2; daemon off; pid {home}/pid; error_log stderr;\n"
        f"{'user root;' if os.geteuid() == 0 else ''}\n"
        "events { worker_connections 512; }\n"
        f"http {{ access_log {home}/log; sendfile on; client_body_temp_path {home}/body;"
        f" proxy_temp_path {home}/p; fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u;"
        f" scgi_temp_path {home}/s; default_type application/octet-stream; types {{ text/html html; }}\n"
        f" server {{ listen 127.0.0.1:{port}; root {home}/tree; }} }}\n"
    )
    with process("nginx, static tree", ["nginx", "-c", str(home / "nginx.conf")], port) as found:
        yield found
    shutil.rmtree(home, ignore_errors=True)


def _mirror(root: Path, simple: Path, port: int) -> None:
    """Write every page as a file, and beside the graph's packages their metadata."""
    names = {path.name.split("-")[0].replace("_", "-") for path in root.iterdir()}
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        for name in ("", *sorted(names)):
            path = "/simple/" + (f"{name}/" if name else "")
            connection.request("GET", path)
            (simple / name).mkdir(parents=True, exist_ok=True)
            (simple / name / "index.html").write_bytes(connection.getresponse().read())
        for wheel in sorted(root.glob("graph_*.whl")):
            connection.request("GET", f"/packages/{wheel.name}.metadata")
            wheel.with_name(f"{wheel.name}.metadata").write_bytes(connection.getresponse().read())


def start(running: Running) -> tuple[float, float]:
    """Return the seconds from starting one worker of ours to its first page: without a catalogue, and with.

    The workers that run are ended.
    """
    home = running.home
    assert home
    for worker in home.workers:
        worker.kill()
    known = min(_first_page(home) for _ in range(3))
    for path in (home.path / "run").glob("catalogue-*"):
        path.unlink()
    return _first_page(home), known


def _first_page(home: Home) -> float:
    started = time.monotonic()
    worker = home.start(1, ready=False)
    get(home.port, "/simple/project-1/")
    took = time.monotonic() - started
    worker.kill()
    return took


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


def get(port: int, path: str, headers: dict[str, str] | None = None, timeout: float = 60) -> bytes:
    """Return what is at a path; raises OSError when it is not there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers or {})
        found = connection.getresponse()
        body = found.read()
        if found.status != 200:
            raise OSError(f"{path}: {found.status}")
        return body


def new_hash(running: Running) -> None:
    """Give the user's password another hash, which no worker has seen before."""
    assert running.home
    hashed = bcrypt.hashpw(_PASSWORD.encode(), bcrypt.gensalt(12)).decode()
    running.home.htpasswd.write_text(f"{_USER}:{hashed}\n")


def _ask(worker: Worker, headers: dict[str, str], path: str) -> bytes:
    return worker.request("GET", path, headers=headers).body


def _put(port: int, name: str, content: bytes, headers: dict[str, str] | None = None) -> None:
    content_type, body = upload_form(name, content)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("POST", "/", body, {**(headers or {}), "Content-Type": content_type})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status


def _wait_for_hashes(port: int, headers: dict[str, str]) -> None:
    until = time.monotonic() + 600
    while time.monotonic() < until:
        body = get(port, "/packages/", headers)
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
