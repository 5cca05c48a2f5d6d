"""pypiserver as people run it without ppctl: under supervisor, and restarted with `supervisorctl restart`."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ppctl.workers import answers_at
from tests.conftest import end_index, pick_port
from tests.e2e.load import Login
from tests.e2e.sites import CHECKOUT

LOCK = CHECKOUT / "ppctl" / "server" / "requirements.lock"
CONFIGURATION = """\
[supervisord]
directory=%(here)s
pidfile=%(here)s/run/supervisord.pid
logfile=%(here)s/supervisord.log
[unix_http_server]
file=%(here)s/run/supervisor.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://%(here)s/run/supervisor.sock
[program:pypi]
command={command}
directory=%(here)s
stopwaitsecs=70
redirect_stderr=true
stdout_logfile=%(here)s/pypi.log
"""


@dataclass(frozen=True)
class Stock:
    """A running stock server."""

    folder: Path
    port: int

    def restart(self) -> None:
        """Restart it as its users do; supervisorctl waits for a second of running, not for an answer."""
        self._supervisor("supervisorctl", "restart", "pypi")

    def start(self) -> None:
        """Start supervisord, and wait until the server answers."""
        self._supervisor("supervisord")
        deadline = time.monotonic() + 30
        while answers_at("127.0.0.1", self.port, "/"):
            if time.monotonic() > deadline:
                raise RuntimeError((self.folder / "pypi.log").read_text())
            time.sleep(0.05)

    def _supervisor(self, program: str, *arguments: str) -> None:
        argv = [sys.executable, "-m", f"supervisor.{program}", "-c", str(self.folder / "supervisord.conf")]
        subprocess.run([*argv, *arguments], check=True, capture_output=True)


def virtualenv(folder: Path) -> Path:
    """Make a virtualenv with the packages of a release; returns its `bin`."""
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", folder / "venv"], check=True)
    install = [
        "pip",
        "install",
        "--quiet",
        "--python",
        str(folder / "venv" / "bin" / "python"),
        "-r",
        str(LOCK),
    ]
    subprocess.run([*uv, *install], check=True)
    return folder / "venv" / "bin"


@contextlib.contextmanager
def running(folder: Path, command: str, login: Login) -> Iterator[Stock]:
    """Give a stock server run by `command`, which may name {port}, {packages} and {htpasswd}."""
    folder.mkdir()
    for name in ("run", "packages"):
        (folder / name).mkdir()
    names = {"port": pick_port(), "packages": folder / "packages", "htpasswd": folder / "htpasswd"}
    # A cheap hash: what is compared is the restart.
    digest = base64.b64encode(hashlib.sha1(login[1].encode()).digest()).decode()
    (folder / "htpasswd").write_text(f"{login[0]}:{{SHA}}{digest}\n")
    (folder / "supervisord.conf").write_text(CONFIGURATION.format(command=command.format(**names)))
    server = Stock(folder, int(str(names["port"])))
    try:
        server.start()
        yield server
    finally:
        end_index(folder)
