"""Real workers for tests: gunicorn from this checkout on an inherited socket, as a manager starts them."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.server.patience import within

COMMAND = [
    sys.executable,
    "-I",
    "-m",
    "gunicorn",
    "--config",
    "python:ppctl.server.gunicorn_conf",
    "ppctl.server.app:application",
]

PATIENT = """
import ppctl.server.gunicorn_conf as c
from ppctl.server import connection, heads, store
c.keepalive = 600
heads.HEAD_SECONDS = connection.WINDOW_SECONDS = store.BUSY_SECONDS = 600.0
"""
"""The `changes` for workers that wait for clients and locks longer than any test takes, on any machine."""


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a UNIX socket."""

    def __init__(self, path: Path, timeout: float = 60) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@dataclass
class Answer:
    """What came back."""

    status: int
    reason: str
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class Home:
    """The home of an index with its listening socket; `settings` go into server.json.

    `changes` is Python that its workers run before gunicorn's configuration is read: shorter limits.
    """

    path: Path
    listener: socket.socket
    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    changes: str = ""
    workers: list[Worker] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("packages", "run"):
            (self.path / name).mkdir()
        self.packages = self.path / "packages"
        self.htpasswd = self.path / "htpasswd"
        self.configure(**self.settings)

    def configure(self, **settings: Any) -> None:
        self.settings = settings
        basic = {name: str(self.path / name) for name in ("packages", "htpasswd", "run")}
        basic["permissions"] = str(self.path / "permissions.json")
        (self.path / "server.json").write_text(json.dumps({**basic, "login": [], **settings}))

    @property
    def command(self) -> list[str]:
        """What starts a worker."""
        if not self.changes:
            return COMMAND
        file = self.path / "changed_conf.py"
        file.write_text(f"{self.changes}\nfrom ppctl.server.gunicorn_conf import *\n")
        return [str(file) if part.startswith("python:") else part for part in COMMAND]

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def stored(self) -> list[str]:
        """Return the names in the directory of packages, without what the server notes there for itself."""
        names = os.listdir(self.packages)
        return sorted(name for name in names if not name.startswith(".ppctl-") or "upload" in name)

    def log(self, *lines: str) -> str:
        """Return what the workers have said, when each of `lines` is there: they come after the answers."""

        def said() -> str:
            return "".join(worker.log.read_text() for worker in self.workers)

        assert within(5, lambda: all(line in said() for line in lines)), (lines, said()[-3000:])
        return said()

    def start(self, number: int = 1, *, generation: str = "g1", ready: bool = True) -> Worker:
        worker = Worker(self, number, generation)
        self.workers.append(worker)
        if ready:
            worker.wait_until_ready()
        return worker

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        login: tuple[str, str] | None = None,
    ) -> Answer:
        """Send one request over TCP on a connection of its own; never retried."""
        sent = dict(headers or {})
        if login:
            sent["Authorization"] = basic_auth(*login)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, sent)
            return _answer(connection.getresponse())

    def get(self, path: str, **more: Any) -> Answer:
        return self.request("GET", path, **more)

    def upload(self, name: str, content: bytes, **more: Any) -> Answer:
        content_type, body = upload_form(name, content)
        headers = {"Content-Type": content_type, **more.pop("headers", {})}
        return self.request("POST", "/", body, headers, **more)

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        self.listener.close()


class Worker:
    """One gunicorn arbiter with its process; its output is in `log`."""

    def __init__(self, home: Home, number: int, generation: str) -> None:
        self.socket = home.path / "run" / f"worker-{number}.sock"
        self.log = home.path / f"worker-{number}.{time.monotonic_ns()}.log"
        environment = {
            "PATH": os.defpath,
            "PPCTL_HOME": str(home.path),
            "PPCTL_WORKER": str(number),
            "PPCTL_GENERATION": generation,
            "PPCTL_UNIT": "u1",
            "PPCTL_RELEASE": "r1",
            **home.environment,
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                home.command,
                stdin=home.listener,
                stdout=log,
                stderr=log,
                env=environment,
                cwd="/",
                start_new_session=True,
            )

    def describe(self) -> dict[str, Any]:
        """Ask the worker who it is, on its own socket."""
        return dict(json.loads(self.get("/_ppctl/worker").body))

    def get(self, path: str, timeout: float = 60) -> Answer:
        return self.request("GET", path, timeout=timeout)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = 60,
    ) -> Answer:
        """Send one request to this very worker, on its own socket."""
        with contextlib.closing(UnixConnection(self.socket, timeout)) as connection:
            connection.request(method, path, body, {"Connection": "close", **(headers or {})})
            return _answer(connection.getresponse())

    def wait_until_ready(self, seconds: float = 120) -> None:
        until = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.describe()["pid"] == self.process.pid:
                    return
            if self.process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"the worker did not become ready:\n{self.log.read_text()}")
            time.sleep(0.01)

    def stop(self, *, group: bool = False) -> None:
        """Begin to stop gracefully, as the managers do; `group`: by a signal to the whole process group."""
        if group:
            os.killpg(self.process.pid, signal.SIGTERM)
        else:
            self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float = 90) -> int:
        return self.process.wait(seconds)

    def kill(self) -> None:
        """Kill the arbiter and its process, which are a process group of their own."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(60)


@contextlib.contextmanager
def new_home(environment: dict[str, str] | None = None, changes: str = "", **settings: Any) -> Iterator[Home]:
    """Give a home with a short path (UNIX sockets); all is gone afterwards.

    `settings` go into its server.json, `environment` is what its workers get besides PPCTL_*, `changes` is
    Python that changes limits in them.
    """
    path = Path(tempfile.mkdtemp(prefix="ppctl-"))
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    home = Home(path, listener, settings, environment or {}, changes)
    try:
        yield home
    finally:
        home.close()
        # What its process was doing when it was killed may still come to its end.
        assert within(1, lambda: is_removed(path))


def is_removed(path: Path) -> bool:
    """Return whether a directory is gone; it is removed as far as that goes."""
    shutil.rmtree(path, ignore_errors=True)
    return not path.exists()


def basic_auth(user: str, password: str) -> str:
    """Return the header of a login (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def upload_form(
    filename: str,
    content: bytes,
    /,
    boundary: str = "b0undary",
    action: str = "file_upload",
    **fields: str,
) -> tuple[str, bytes]:
    """Return content type and body of an upload, as twine sends it; `fields`: further ones of the form."""
    parts = {":action": action, **fields}
    head = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'
        for field, value in parts.items()
    )
    head += (
        f'--{boundary}\r\nContent-Disposition: form-data; name="content"; filename="{filename}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    return f"multipart/form-data; boundary={boundary}", body


def _answer(response: http.client.HTTPResponse) -> Answer:
    return Answer(response.status, response.reason, response.headers, response.read())
