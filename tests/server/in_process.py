"""An index in this process, asked without a network: for what would take too long with real workers."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from pypiserver.config import Config

from ppctl.server.app import create_application
from ppctl.server.config import ServerConfig, WorkerInfo
from ppctl.server.front import Front
from tests.server.worker_process import upload_form

STOCK_SETTINGS = Config.from_args(["run"])
"""pypiserver's settings before ours: each time it would make a parser of command lines for them."""


@dataclass
class Said:
    """An answer."""

    status: int
    reason: str
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


class Index:
    """An index below `path`; no login is needed unless `settings` say so."""

    def __init__(self, path: Path, **settings: Any) -> None:
        self.packages = path / "packages"
        self.packages.mkdir(exist_ok=True)
        self.run = path / "run"
        self.run.mkdir(exist_ok=True)
        config = ServerConfig(
            packages=self.packages,
            htpasswd=path / "htpasswd",
            permissions=path / "permissions.json",
            run=self.run,
            **{"login": frozenset(), **settings},
        )
        with mock.patch.object(Config, "from_args", return_value=STOCK_SETTINGS):
            self.front: Front = create_application(config, WorkerInfo())

    def ask(self, method: str, path: str, body: bytes = b"", **environ: Any) -> Said:
        """Send a request; `environ` are further variables of WSGI."""
        said: list[Any] = []
        base = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": "",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_NAME": "index",
            "SERVER_PORT": "80",
            "HTTP_HOST": "index",
            "REMOTE_ADDR": "127.0.0.1",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            "CONTENT_LENGTH": str(len(body)),
        }
        content = self.front({**base, **environ}, lambda *found: said.append(found))
        found = b"".join(content)
        if hasattr(content, "close"):
            content.close()
        status, _, reason = said[0][0].partition(" ")
        return Said(int(status), reason, {name.lower(): value for name, value in said[0][1]}, found)

    def get(self, path: str, **environ: Any) -> Said:
        return self.ask("GET", path, **environ)

    def post(self, content_type: str, body: bytes, **environ: Any) -> Said:
        return self.ask("POST", "/", body, CONTENT_TYPE=content_type, **environ)

    def upload(self, name: str, content: bytes, /, **fields: str) -> Said:
        return self.post(*upload_form(name, content, **fields))

    def names(self) -> list[str]:
        """Return what is in the directory, hidden or not, but what the index notes there about projects."""
        names = os.listdir(self.packages)
        return sorted(name for name in names if not name.startswith(".ppctl-") or "upload" in name)
