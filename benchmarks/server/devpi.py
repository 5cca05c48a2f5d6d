"""devpi-server, in an environment of its own; its packages come from an export that is made here."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from benchmarks.server import packages
from benchmarks.server.servers import Running, environment, free_port, get, process
from tests.server.worker_process import basic_auth

INDEX = "root/bench"
LINKS_OF = 100


@contextlib.contextmanager
def run(root: Path) -> Iterator[Running]:
    """devpi-server with an index without bases, and all the packages."""
    with environment("devpi-server") as python, tempfile.TemporaryDirectory(prefix="ppctl-bench-") as home:
        data, export = f"--serverdir={home}/data", Path(home, "export")
        _export(root, export)
        programs = python.parent
        # Uploading takes ten times as long.
        command = [str(programs / "devpi-import"), data, "--root-passwd=", "--hard-links", str(export)]
        subprocess.run(command, check=True, capture_output=True)
        port = free_port()
        command = [str(programs / "devpi-server"), data, "--host=127.0.0.1", f"--port={port}"]
        with process("devpi-server", [*command, "--offline-mode"], port) as found:
            found.simple = f"/{INDEX}/+simple/"
            # As twine and uv send it. devpi's own client logs in once, and sends a token from then on.
            login = {"Authorization": basic_auth("root", "")}
            token = _ask(port, "POST", "/+login", {"user": "root", "password": ""})["result"]["password"]
            short = {"X-Devpi-Auth": base64.b64encode(f"root:{token}".encode()).decode()}
            found.put = lambda name, content: _upload(port, name, content, login)
            found.put_with_token = lambda name, content: _upload(port, name, content, short)
            projects = [f"project-{number}" for number in range(LINKS_OF)]
            found.files = [link for project in projects for link in _links(port, f"{found.simple}{project}/")]
            found.big = _links(port, f"{found.simple}big/")[0]
            yield found


def _export(root: Path, export: Path) -> None:
    """Write what `devpi-export` would write of an index with these packages."""
    projects: dict[str, dict[str, object]] = {}
    files = []
    for path in sorted(root.iterdir()):
        name, version = path.name.split("-")[:2]
        project = name.replace("_", "-")
        projects.setdefault(project, {})[version] = {
            "name": name,
            "version": version,
            "metadata_version": "2.1",
        }
        place = f"{INDEX}/{project}/{version}/{path.name}"
        (export / place).parent.mkdir(parents=True)
        os.link(path, export / place)
        sha256 = packages.digest(path)
        entry = {
            "last_modified": "Wed, 25 Nov 2026 00:00:00 GMT",
            "hash_spec": f"sha256={sha256}",
            "hashes": {"sha256": sha256},
            "project": project,
            "version": version,
        }
        files.append(
            {
                "type": "releasefile",
                "projectname": project,
                "version": version,
                "relpath": place,
                "log": [],
                "entrymapping": entry,
            }
        )
    index = {
        "indexconfig": {"type": "stage", "bases": [], "volatile": True},
        "projects": projects,
        "files": files,
    }
    whole = {"users": {}, "indexes": {INDEX: index}, "dumpversion": "2", "pythonversion": [3, 11]}
    (export / "dataindex.json").write_text(json.dumps({**whole, "devpi_server": "6.20.3"}))


def _links(port: int, page: str) -> list[str]:
    hrefs = re.findall(r'href="([^"#]+)', get(port, page).decode())
    return [urlsplit(urljoin(page, href)).path for href in hrefs if ".whl" in href]


def _upload(port: int, filename: str, content: bytes, login: dict[str, str]) -> None:
    project, version = filename.split("-")[:2]
    fields = {":action": "file_upload", "name": project, "version": version, "metadata_version": "2.1"}
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = f'--b\r\nContent-Disposition: form-data; name="content"; filename="{filename}"\r\n\r\n'
    body = b"".join(parts) + head.encode() + content + b"\r\n--b--\r\n"
    _ask(port, "POST", f"/{INDEX}/", body, {**login, "Content-Type": "multipart/form-data; boundary=b"})


def _ask(
    port: int, method: str, path: str, data: object, headers: dict[str, str] | None = None
) -> dict[str, Any]:
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    sent = {"Content-Type": "application/json", "Accept": "application/json", **(headers or {})}
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        content = answer.read()
    if answer.status not in (200, 201):
        raise AssertionError(f"{method} {path}: {answer.status} {content[:200]!r}")
    return dict(json.loads(content)) if content.startswith(b"{") else {}
