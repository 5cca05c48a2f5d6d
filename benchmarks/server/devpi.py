"""devpi-server, in an environment of its own."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from benchmarks.server.servers import Running, environment, free_port, get, process

PROJECTS = 30
INDEX = "/root/bench"


@contextlib.contextmanager
def run(root: Path) -> Iterator[Running]:
    """devpi-server with an index without bases, and some of the packages uploaded."""
    port = free_port()
    with environment("devpi-server") as python, tempfile.TemporaryDirectory(prefix="ppctl-bench-") as home:
        data = f"--serverdir={home}"
        subprocess.run(
            [str(python.with_name("devpi-init")), data, "--no-root-pypi"], check=True, capture_output=True
        )
        command = [
            str(python.with_name("devpi-server")),
            data,
            "--host=127.0.0.1",
            f"--port={port}",
            "--offline-mode",
        ]
        with process("devpi-server", command, port) as found:
            token = _ask(port, "POST", "/+login", {"user": "root", "password": ""})["result"]["password"]
            login = {"X-Devpi-Auth": base64.b64encode(f"root:{token}".encode()).decode()}
            _ask(port, "PUT", INDEX, {"type": "stage", "bases": [], "volatile": True}, login)
            for number in range(PROJECTS):
                for path in sorted(root.glob(f"project_{number}-*")):
                    _upload(port, path, login)
            found.simple = f"{INDEX}/+simple/"
            found.projects = PROJECTS
            found.upload = False
            found.links = [
                link
                for number in range(PROJECTS)
                for link in _links(port, f"{found.simple}project-{number}/")
            ]
            yield found


def _links(port: int, page: str) -> list[str]:
    hrefs = re.findall(r'href="([^"#]+)', get(port, page).decode())
    return [urlsplit(urljoin(page, href)).path for href in hrefs if ".whl" in href]


def _upload(port: int, path: Path, login: dict[str, str]) -> None:
    project, version = path.name.split("-")[:2]
    fields = {":action": "file_upload", "name": project, "version": version, "metadata_version": "2.1"}
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = f'--b\r\nContent-Disposition: form-data; name="content"; filename="{path.name}"\r\n\r\n'
    body = b"".join(parts) + head.encode() + path.read_bytes() + b"\r\n--b--\r\n"
    _ask(port, "POST", f"{INDEX}/", body, {**login, "Content-Type": "multipart/form-data; boundary=b"})


def _ask(
    port: int, method: str, path: str, data: object, headers: dict[str, str] | None = None
) -> dict[str, dict[str, str]]:
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    sent = {"Content-Type": "application/json", "Accept": "application/json", **(headers or {})}
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        content = answer.read()
    if answer.status not in (200, 201):
        raise AssertionError(f"{method} {path}: {answer.status} {content[:200]!r}")
    return dict(json.loads(content)) if content.startswith(b"{") else {}
