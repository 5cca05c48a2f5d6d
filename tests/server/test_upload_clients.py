"""Signatures, attestations and conflicts with the real twine and uv."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.archives import wheel
from tests.server.signed import CONTENT, SIGNATURE, WHEEL, attestation
from tests.server.worker_process import Home, new_home

pytestmark = pytest.mark.e2e

UV = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))


@pytest.fixture
def home() -> Iterator[Home]:
    with new_home() as home:
        home.start()
        yield home


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    """A directory with a wheel, its signature and its attestation."""
    (tmp_path / WHEEL).write_bytes(CONTENT)
    (tmp_path / f"{WHEEL}.asc").write_bytes(SIGNATURE)
    (tmp_path / f"{WHEEL}.publish.attestation").write_text(json.dumps(attestation()))
    return tmp_path


def twine(home: Home, dist: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "twine", "upload", "--non-interactive", "--disable-progress-bar"]
    command += ["--repository-url", f"http://127.0.0.1:{home.port}/", "-u", "a", "-p", "b", *options]
    files = [str(path) for path in dist.iterdir()]
    return subprocess.run([*command, *files], capture_output=True, text=True, check=False, timeout=120)


def test_twine_sends_signature_and_attestation(home: Home, dist: Path) -> None:
    done = twine(home, dist, "--attestations")
    assert done.returncode == 0, done.stdout + done.stderr
    assert home.get(f"/packages/{WHEEL}").body == CONTENT
    assert home.get(f"/packages/{WHEEL}.asc").body == SIGNATURE
    provenance = json.loads(home.get(f"/packages/{WHEEL}.provenance").body)
    assert provenance["attestation_bundles"][0]["attestations"] == [attestation()]
    assert twine(home, dist, "--attestations").returncode == 0  # all of it is there already
    (dist / WHEEL).write_bytes(wheel("foo", "1.0", content=b"another")[1])
    again = twine(home, dist)
    assert again.returncode == 1
    assert f"Package '{WHEEL}' already exists!" in again.stdout + again.stderr


def test_uv_is_told_what_is_wrong(home: Home, dist: Path) -> None:
    (dist / WHEEL).write_bytes(CONTENT[:-30])
    environment = {**os.environ, "UV_PUBLISH_USERNAME": "a", "UV_PUBLISH_PASSWORD": "b"}
    url = f"http://127.0.0.1:{home.port}"

    def publish() -> subprocess.CompletedProcess[str]:
        command = [UV, "publish", "--publish-url", f"{url}/", "--check-url", f"{url}/simple/"]
        command.append(str(dist / WHEEL))
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=120
        )

    assert publish().returncode != 0
    assert home.stored() == []
    (dist / WHEEL).write_bytes(CONTENT)
    for _ in range(2):  # the second time there is nothing to do
        done = publish()
        assert done.returncode == 0, done.stderr
    assert home.get(f"/packages/{WHEEL}").body == CONTENT
